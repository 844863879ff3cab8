#include "longspan/checkpoint/store.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdint>
#include <limits>
#include <system_error>
#include <utility>

#include "checkpoint/commit.h"
#include "checkpoint/manifest.h"
#include "checkpoint/safetensors_header.h"
#include "longspan/base/error.h"
#include "longspan/base/file.h"
#include "longspan/checkpoint/model_files.h"

namespace longspan::checkpoint {
namespace {

constexpr const char* kOptimizerName = "optimizer.safetensors";
constexpr const char* kLatestName = "latest";

/// Some loaders of Hugging Face files insist on this entry.
const std::map<std::string, std::string>& file_metadata() {
  static const std::map<std::string, std::string> kMetadata = {{"format", "pt"}};
  return kMetadata;
}

void check_text_name(const std::string& name, const Manifest& manifest) {
  const std::filesystem::path path(name);
  if (name.empty() || name == "." || name == ".." || path.filename() != path ||
      name == kManifestName || manifest.files.contains(name)) {
    throw base::InternalError(
        fmt::format("checkpoint: file name '{}' is not plain, reserved or used twice", name));
  }
}

FileDigest write_text(const std::filesystem::path& path, const std::string& text) {
  base::FileWriter writer(path);
  writer.write(text);
  writer.commit();
  return {text.size(), base::xxh3_hex(text.data(), text.size())};
}

/// Hashes and syncs what the callback made: every file below `directory` not yet in the manifest.
void adopt_files(const std::filesystem::path& directory, Manifest& manifest) {
  std::error_code error;
  std::filesystem::recursive_directory_iterator entry(directory, error);
  for (; !error && entry != std::filesystem::recursive_directory_iterator();
       entry.increment(error)) {
    const std::filesystem::path& path = entry->path();
    const std::filesystem::file_status status = entry->symlink_status(error);
    if (error) break;
    const std::string name = path.lexically_relative(directory).generic_string();
    if (std::filesystem::is_directory(status)) {
      base::sync_directory(path);
    } else if (!std::filesystem::is_regular_file(status) || name == kManifestName) {
      throw base::InputError(fmt::format(
          "cannot save {}: a checkpoint holds regular files, and its own {}", name, kManifestName));
    } else if (!manifest.files.contains(name)) {
      sync_file(path);
      manifest.files[name] = digest_file(path);
    }
  }
  if (error) {
    throw base::InputError(fmt::format("cannot list {}: {}", directory.string(), error.message()));
  }
}

void write_checkpoint(const std::filesystem::path& directory, std::int64_t step,
                      const Contents& contents) {
  base::make_directories(directory);
  Manifest manifest;
  manifest.step = step;
  const auto write_tensors = [&](const std::string& name,
                                 const std::vector<TensorSource>& tensors) {
    if (tensors.empty()) return;
    manifest.files[name] = write_safetensors(directory / name, tensors, file_metadata());
  };
  write_tensors(contents.weights_name, contents.weights);
  write_tensors(kOptimizerName, contents.optimizer);
  for (const TextFile& file : contents.texts) {
    check_text_name(file.name, manifest);
    manifest.files[file.name] = write_text(directory / file.name, file.text);
  }
  if (contents.write_more) {
    contents.write_more(directory);
    adopt_files(directory, manifest);
  }
  write_text(directory / kManifestName, render_manifest(manifest));
  base::sync_directory(directory);
}

void remove_beyond(const std::filesystem::path& directory, std::int64_t step,
                   std::int64_t keep_last) {
  if (keep_last <= 0) return;
  std::vector<std::int64_t> earlier = committed_steps(directory);
  earlier.erase(std::upper_bound(earlier.begin(), earlier.end(), step), earlier.end());
  const auto count = static_cast<std::int64_t>(earlier.size());
  for (std::int64_t i = 0; i + keep_last < count; ++i) {
    remove_step(find_step(directory, earlier[static_cast<std::size_t>(i)]));
  }
}

void create(const std::filesystem::path& directory) {
  std::error_code ignored;
  if (std::filesystem::exists(directory, ignored)) return;
  base::make_directories(directory);
  base::sync_directory(directory.has_parent_path() ? directory.parent_path() : ".");
}

/// Removes the directory of a checkpoint that did not come to be; after a commit there is none.
class TemporaryDirectory {
 public:
  explicit TemporaryDirectory(std::filesystem::path path) : path_(std::move(path)) {}
  ~TemporaryDirectory() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  TemporaryDirectory(const TemporaryDirectory&) = delete;
  TemporaryDirectory& operator=(const TemporaryDirectory&) = delete;

 private:
  std::filesystem::path path_;
};

}  // namespace

Store::Store(std::filesystem::path directory) : directory_(std::move(directory)) {}

std::filesystem::path Store::save(std::int64_t step, const Contents& contents,
                                  std::int64_t keep_last) {
  if (step < 0) throw base::InternalError(fmt::format("checkpoint: step {} is negative", step));
  const std::filesystem::path temporary = temporary_path(directory_, step);
  const std::filesystem::path final = directory_ / step_name(step);
  const TemporaryDirectory guard(temporary);
  try {
    create(directory_);
    clear_leftovers(directory_);
    write_checkpoint(temporary, step, contents);
    publish(temporary, final, aside_path(directory_, step));
    base::replace_file(directory_ / kLatestName, step_name(step) + "\n");
    remove_beyond(directory_, step, keep_last);
  } catch (const base::Error& fault) {
    throw base::Error(fault.code(), fmt::format("saving the checkpoint of step {} failed: {}", step,
                                                fault.what()));
  }
  return final;
}

std::vector<std::int64_t> Store::steps() const {
  std::error_code error;
  const auto type = std::filesystem::status(directory_, error).type();
  if (type == std::filesystem::file_type::not_found) return {};
  return committed_steps(directory_);
}

std::filesystem::path Store::step_directory(std::int64_t step) const {
  return find_step(directory_, step);
}

std::optional<std::int64_t> Store::latest_intact(std::vector<DamagedStep>& damaged) const {
  const std::vector<std::int64_t> committed = steps();
  for (auto step = committed.rbegin(); step != committed.rend(); ++step) {
    try {
      verify(step_directory(*step));
      return *step;
    } catch (const base::DamagedCheckpointError& fault) {
      damaged.push_back({*step, fault.what()});
    }
  }
  if (committed.empty()) return std::nullopt;
  throw base::DamagedCheckpointError(
      fmt::format("none of the {} checkpoints in {} is intact; the newest: {}", committed.size(),
                  directory_.string(), damaged[damaged.size() - committed.size()].reason));
}

std::uint64_t Store::bytes_of(const Contents& contents) {
  Manifest manifest;
  manifest.step = std::numeric_limits<std::int64_t>::max();
  const std::string hash(32, '0');
  const auto add_tensors = [&](const std::string& name, const std::vector<TensorSource>& tensors) {
    if (!tensors.empty()) {
      manifest.files[name] = {safetensors_bytes(tensors, file_metadata()), hash};
    }
  };
  add_tensors(contents.weights_name, contents.weights);
  add_tensors(kOptimizerName, contents.optimizer);
  for (const TextFile& file : contents.texts) manifest.files[file.name] = {file.text.size(), hash};
  std::uint64_t total = render_manifest(manifest).size();
  for (const auto& [name, digest] : manifest.files) total += digest.bytes;
  return total;
}

}  // namespace longspan::checkpoint
