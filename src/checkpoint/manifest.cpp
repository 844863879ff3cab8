#include "checkpoint/manifest.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <optional>
#include <vector>

#include "longspan/base/error.h"
#include "longspan/base/file.h"
#include "longspan/base/json.h"
#include "longspan/checkpoint/store.h"

namespace longspan::checkpoint {
namespace {

using Json = nlohmann::json;

constexpr int kFormatVersion = 1;
constexpr std::uint64_t kMaxManifestBytes = std::uint64_t{64} << 20U;
constexpr std::size_t kChunkBytes = std::size_t{1} << 20U;

[[noreturn]] void raise(const std::filesystem::path& directory, const std::string& fault) {
  throw base::DamagedCheckpointError(fmt::format(
      "checkpoint {} is damaged: {}; restore it or use an earlier one", directory.string(), fault));
}

/// A path inside the directory, spelt in one way.
bool is_inside(const std::string& name) {
  const std::filesystem::path path(name);
  return !name.empty() && path.is_relative() && path.lexically_normal() == path &&
         *path.begin() != ".." && name.find('\0') == std::string::npos;
}

std::optional<Manifest> parse(const std::string& text) {
  try {
    const Json root = base::parse_plain_json(text);
    Manifest manifest;
    manifest.step = root.at("step").get<std::int64_t>();
    for (const auto& [name, entry] : root.at("files").items()) {
      manifest.files[name] = {entry.at("bytes").get<std::uint64_t>(),
                              entry.at("xxh3").get<std::string>()};
    }
    return manifest;
  } catch (const Json::exception&) {
    return std::nullopt;
  }
}

void verify_file(const std::filesystem::path& directory, const std::string& name,
                 const FileDigest& expected) {
  const std::filesystem::path path = directory / name;
  std::error_code error;
  const std::uintmax_t bytes = std::filesystem::file_size(path, error);
  if (error) raise(directory, fmt::format("{} cannot be read ({})", name, error.message()));
  if (bytes != expected.bytes) {
    raise(directory, fmt::format("{} has {} bytes, expected {}", name, bytes, expected.bytes));
  }
  FileDigest found;
  try {
    found = digest_file(path);
  } catch (const base::InputError& fault) {
    raise(directory, fault.what());
  }
  if (found.xxh3 != expected.xxh3) {
    raise(directory,
          fmt::format("{} has the xxh3 {}, expected {}", name, found.xxh3, expected.xxh3));
  }
}

}  // namespace

std::string render_manifest(const Manifest& manifest) {
  std::string text = fmt::format("{{\n  \"format_version\": {},\n  \"step\": {},\n  \"files\": {{",
                                 kFormatVersion, manifest.step);
  const char* separator = "\n";
  for (const auto& [name, digest] : manifest.files) {
    text +=
        fmt::format("{}    {}: {{\"bytes\": {}, \"xxh3\": {}}}", separator,
                    base::json_text(Json(name)), digest.bytes, base::json_text(Json(digest.xxh3)));
    separator = ",\n";
  }
  text += "\n  },\n";
  text +=
      fmt::format("  \"manifest_xxh3\": \"{}\"\n}}\n", base::xxh3_hex(text.data(), text.size()));
  return text;
}

Manifest read_manifest(const std::filesystem::path& step_directory) {
  const std::filesystem::path path = step_directory / kManifestName;
  std::error_code error;
  const std::uintmax_t bytes = std::filesystem::file_size(path, error);
  if (error) {
    raise(step_directory, fmt::format("{} cannot be read ({})", kManifestName, error.message()));
  }
  if (bytes > kMaxManifestBytes) {
    raise(step_directory, fmt::format("{} has {} bytes, at most {} are read", kManifestName, bytes,
                                      kMaxManifestBytes));
  }
  std::string text;
  try {
    text = base::read_text(path);
  } catch (const base::InputError& fault) {
    raise(step_directory, fault.what());
  }
  const std::optional<Manifest> manifest = parse(text);
  if (!manifest) {
    raise(step_directory, fmt::format("{} is not the JSON that a checkpoint has", kManifestName));
  }
  if (render_manifest(*manifest) != text) {
    raise(step_directory, fmt::format("{} does not have the hash it names", kManifestName));
  }
  for (const auto& [name, digest] : manifest->files) {
    if (!is_inside(name)) {
      raise(step_directory, fmt::format("{} names {} outside it", kManifestName, name));
    }
  }
  return *manifest;
}

FileDigest digest_file(const std::filesystem::path& path) {
  const base::InputFile file(path);
  base::Xxh3Stream hash;
  std::vector<std::byte> chunk(std::clamp<std::uint64_t>(file.size(), 1, kChunkBytes));
  for (std::uint64_t at = 0; at < file.size(); at += chunk.size()) {
    const std::uint64_t count = std::min<std::uint64_t>(chunk.size(), file.size() - at);
    file.read(at, count, chunk.data());
    hash.update(chunk.data(), count);
  }
  return {file.size(), hash.hex()};
}

void verify(const std::filesystem::path& step_directory) {
  for (const auto& [name, digest] : read_manifest(step_directory).files) {
    verify_file(step_directory, name, digest);
  }
}

}  // namespace longspan::checkpoint
