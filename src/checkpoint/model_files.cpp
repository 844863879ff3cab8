#include "longspan/checkpoint/model_files.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <optional>
#include <system_error>
#include <utility>

#include "checkpoint/safetensors_header.h"
#include "longspan/base/error.h"
#include "longspan/base/file.h"
#include "longspan/base/json.h"

namespace longspan::checkpoint {
namespace {

namespace fs = std::filesystem;
using base::InputError;
using Json = nlohmann::json;

// Far above the largest models that are published.
constexpr std::size_t kMaxFiles = 4096;
constexpr std::size_t kMaxIndexEntries = kMaxTensors + 64;

bool is_plain(const std::string& name) {
  const auto is_odd = [](char c) {
    return c == '/' || c == '\\' || static_cast<unsigned char>(c) < 32;
  };
  return !name.empty() && name != "." && name != ".." && name.size() <= 255 &&
         std::none_of(name.begin(), name.end(), is_odd);
}

fs::path real_path(const fs::path& path) {
  std::error_code error;
  fs::path real = fs::canonical(path, error);
  if (error) throw InputError(fmt::format("cannot open {}: {}", path.string(), error.message()));
  return real;
}

bool is_within(const fs::path& path, const fs::path& directory) {
  const auto [end, ignored] =
      std::mismatch(directory.begin(), directory.end(), path.begin(), path.end());
  return end == directory.end();
}

std::string kind_of(const Json& value) { return value.is_null() ? "null" : value.type_name(); }

/// The map from tensors to files, with its sum of bytes where it says one.
struct Index {
  std::map<std::string, std::string> weight_map;
  std::optional<std::uint64_t> total_size;
};

class IndexReader {
 public:
  explicit IndexReader(fs::path path) : path_(std::move(path)) {}

  Index read() {
    const base::MappedFile file(path_);
    // Of many small values, or a huge one, the parser would make far more than the file has.
    const std::string_view text = file.text().substr(0, base::kMaxJsonBytes);
    if (std::count(text.begin(), text.end(), ',') > static_cast<std::ptrdiff_t>(kMaxIndexEntries)) {
      refuse(fmt::format("it has more than {} entries", kMaxIndexEntries));
    }
    if (const auto offset = find_oversized_token(text)) {
      refuse(fmt::format("a string, number or blank of more than {} bytes at byte {}",
                         kMaxTokenBytes, *offset));
    }
    const Json document = base::parse_json(file.text(), path_.string());
    if (!document.is_object())
      refuse(fmt::format("expected an object, found {}", kind_of(document)));
    Index index;
    read_total_size(document, index);
    const auto map = document.find("weight_map");
    if (map == document.end() || !map->is_object() || map->empty()) {
      refuse("weight_map must be an object that names a file for each tensor");
    }
    for (const auto& [tensor, file] : map->items()) {
      if (!file.is_string()) {
        refuse(fmt::format("weight_map: the file of {} must be text, found {}", show(tensor),
                           kind_of(file)));
      }
      check_name(tensor, file.get<std::string>());
      index.weight_map.emplace(tensor, file.get<std::string>());
    }
    return index;
  }

  [[noreturn]] void refuse(const std::string& fault) const {
    throw InputError(fmt::format("{} is not a valid index: {}", path_.string(), fault));
  }

 private:
  void check_name(const std::string& tensor, const std::string& file) const {
    if (is_plain(file) && file.ends_with(".safetensors")) return;
    refuse(
        fmt::format("weight_map: {} is said to be in {}; legal: the plain name of a "
                    ".safetensors file in the same directory",
                    show(tensor), show(file)));
  }

  void read_total_size(const Json& document, Index& index) const {
    const auto metadata = document.find("metadata");
    if (metadata == document.end()) return;
    if (!metadata->is_object())
      refuse(fmt::format("metadata must be an object, found {}", kind_of(*metadata)));
    const auto size = metadata->find("total_size");
    if (size == metadata->end()) return;
    constexpr double kMost = 9007199254740992.0;  // 2^53: some writers make it a float
    if (!size->is_number() || !(size->get<double>() >= 0 && size->get<double>() <= kMost)) {
      refuse(fmt::format("metadata.total_size must be a number of bytes, found {}",
                         show(base::json_text(*size))));
    }
    index.total_size = size->is_number_float() ? static_cast<std::uint64_t>(size->get<double>())
                                               : size->get<std::uint64_t>();
  }

  fs::path path_;
};

/// What to do with a directory that has no safetensors.
std::string missing_weights(const fs::path& directory) {
  for (const char* pickled : {"pytorch_model.bin", "pytorch_model.bin.index.json"}) {
    if (!has_file(directory, pickled)) continue;
    return fmt::format(
        "{} has {} alone, which is a pickle: reading it would run what is in it. Convert it where "
        "you trust it, with transformers: model = AutoModelForCausalLM.from_pretrained(\"{}\"); "
        "model.save_pretrained(\"NEW_DIRECTORY\")",
        directory.string(), pickled, directory.string());
  }
  return fmt::format("{} holds no model: expected {}, or {} and the files it names",
                     directory.string(), kWeightsName, kIndexName);
}

}  // namespace

bool has_file(const fs::path& directory, const std::string& name) {
  std::error_code ignored;
  return fs::exists(fs::symlink_status(directory / name, ignored));
}

fs::path model_file(const fs::path& directory, const std::string& name) {
  if (!is_plain(name)) {
    throw InputError(fmt::format("{}: {} is no plain file name", directory.string(), show(name)));
  }
  const fs::path real_directory = real_path(directory);
  const fs::path real = real_path(directory / name);
  const fs::path parent = real_directory.parent_path();
  const bool is_snapshot = parent.filename() == "snapshots";
  const bool is_blob = is_snapshot && is_within(real, parent.parent_path() / "blobs");
  if (!is_within(real, real_directory) && !is_blob) {
    throw InputError(fmt::format(
        "{} is a link to {}, out of its directory, and is not followed: put the file itself there",
        (directory / name).string(), real.string()));
  }
  return real;
}

ModelFiles::ModelFiles(fs::path directory) : directory_(std::move(directory)) {
  std::error_code ignored;
  if (!fs::is_directory(directory_, ignored)) {
    throw InputError(fmt::format("{} is no directory; expected one with {} or {}",
                                 directory_.string(), kWeightsName, kIndexName));
  }
  const bool has_one = has_file(directory_, kWeightsName);
  const bool has_index = has_file(directory_, kIndexName);
  if (has_one && has_index) {
    throw InputError(
        fmt::format("{} has both {} and {}, and which of them is the model cannot be "
                    "told: remove one",
                    directory_.string(), kWeightsName, kIndexName));
  }
  if (has_one) {
    add(kWeightsName);
  } else if (has_index) {
    open_index();
  } else {
    throw InputError(missing_weights(directory_));
  }
}

ModelFiles::~ModelFiles() = default;

void ModelFiles::add(const std::string& name) {
  files_.push_back(std::make_unique<SafetensorsFile>(model_file(directory_, name)));
  for (const auto& [tensor, info] : files_.back()->tensors()) {
    const auto [place, is_new] = places_.emplace(tensor, files_.size() - 1);
    if (!is_new) {
      throw InputError(fmt::format("{}: tensor {} is in {} and in {}", directory_.string(),
                                   show(tensor), files_[place->second]->path().filename().string(),
                                   name));
    }
    tensors_.emplace(tensor, info);
  }
}

void ModelFiles::open_index() {
  IndexReader reader(model_file(directory_, kIndexName));
  const Index index = reader.read();
  std::vector<std::string> names;
  for (const auto& [tensor, file] : index.weight_map) names.push_back(file);
  std::sort(names.begin(), names.end());
  names.erase(std::unique(names.begin(), names.end()), names.end());
  if (names.size() > kMaxFiles) {
    reader.refuse(fmt::format("it names {} files, at most {} are read", names.size(), kMaxFiles));
  }
  std::map<std::string, std::size_t> numbers;
  for (const std::string& name : names) {
    numbers.emplace(name, files_.size());
    add(name);
  }
  for (const auto& [tensor, file] : index.weight_map) {
    const auto place = places_.find(tensor);
    if (place == places_.end() || place->second != numbers.at(file)) {
      reader.refuse(fmt::format("tensor {} is said to be in {}, and is {}", show(tensor),
                                show(file),
                                place == places_.end() ? "in no file" : "in another file"));
    }
  }
  std::uint64_t total = 0;
  for (const auto& [tensor, info] : tensors_) {
    if (!index.weight_map.contains(tensor)) {
      reader.refuse(fmt::format("tensor {} of {} is not in weight_map", show(tensor),
                                file_of(tensor).path().filename().string()));
    }
    total += info.bytes();
  }
  if (index.total_size && *index.total_size != total) {
    reader.refuse(fmt::format("metadata.total_size is {}, and the tensors have {} bytes",
                              *index.total_size, total));
  }
}

const SafetensorsFile& ModelFiles::file_of(const std::string& tensor) const {
  const auto found = places_.find(tensor);
  if (found == places_.end()) {
    throw InputError(fmt::format("{} holds no tensor {}", directory_.string(), show(tensor)));
  }
  return *files_[found->second];
}

void ModelFiles::read(const std::string& tensor, std::uint64_t first, std::uint64_t count,
                      void* out) const {
  file_of(tensor).read(tensor, first, count, out);
}

}  // namespace longspan::checkpoint
