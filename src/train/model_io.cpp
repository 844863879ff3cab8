#include "longspan/train/model_io.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>
#include <system_error>
#include <vector>

#include "longspan/base/error.h"
#include "longspan/base/file.h"
#include "longspan/base/json.h"
#include "longspan/checkpoint/convert.h"
#include "longspan/checkpoint/model_files.h"
#include "longspan/checkpoint/store.h"
#include "train/adapter_files.h"
#include "train/merge.h"
#include "train/pretrained.h"
#include "train/run_directory.h"

namespace longspan::train {
namespace {

namespace fs = std::filesystem;
using base::DType;
using base::InputError;

constexpr std::uint64_t kPieceNumbers = std::uint64_t{1} << 20U;

/// A directory that takes its name when it is complete, and goes if it does not come to that.
class NewDirectory {
 public:
  explicit NewDirectory(const fs::path& path) : final_(without_slash(path)) {
    std::error_code error;
    const auto type = fs::symlink_status(final_, error).type();
    const bool is_free = type == fs::file_type::not_found ||
                         (type == fs::file_type::directory && fs::is_empty(final_, error));
    if (!is_free || error.value() == EACCES) {
      throw InputError(fmt::format(
          "{} is there already and is not an empty directory; name a new one", final_.string()));
    }
    const fs::path parent = final_.has_parent_path() ? final_.parent_path() : ".";
    base::make_directories(parent);
    fresh_ = parent / fmt::format(".tmp-{}-{}", final_.filename().string(), ::getpid());
    base::make_directories(fresh_);
  }
  ~NewDirectory() {
    std::error_code ignored;
    if (!fresh_.empty()) fs::remove_all(fresh_, ignored);
  }
  NewDirectory(const NewDirectory&) = delete;
  NewDirectory& operator=(const NewDirectory&) = delete;

  const fs::path& path() const { return fresh_; }
  /// Nothing in the way is ever replaced but an empty directory: that is what rename does.
  void publish() {
    base::sync_directory(fresh_);
    if (::rename(fresh_.c_str(), final_.c_str()) != 0) {
      throw InputError(fmt::format("cannot rename {} to {}: {}", fresh_.string(), final_.string(),
                                   std::strerror(errno)));
    }
    fresh_.clear();
    base::sync_directory(final_.has_parent_path() ? final_.parent_path() : ".");
  }

 private:
  static fs::path without_slash(const fs::path& path) {
    return path.has_filename() ? path : path.parent_path();
  }

  fs::path final_;
  fs::path fresh_;
};

void write_text(const fs::path& path, const std::string& text) {
  base::FileWriter writer(path);
  writer.write(text);
  writer.commit();
}

/// The type of `output.dtype`; nothing: as it was.
std::optional<DType> dtype_of(const ModelOutput& output) {
  if (output.dtype.empty()) return std::nullopt;
  return output.dtype == "fp32"   ? DType::kFloat32
         : output.dtype == "bf16" ? DType::kBFloat16
                                  : DType::kFloat16;
}

/// A model's tensors as they are read from one directory and written into another.
class Conversion {
 public:
  /// With `merge` its adapter is added to the tensors; null: there is none.
  Conversion(const fs::path& source, const Pretrained& model, const Merge* merge)
      : files_(source),
        wanted_(wanted_tensors(model.config)),
        names_(match(files_, wanted_)),
        merge_(merge) {}

  /// Reads every number. Throws where one is not finite, or the head not the embedding.
  void check() const {
    checkpoint::check_tied_head(files_, wanted_);
    for (const auto& tensor : wanted_.tensors) {
      const checkpoint::TensorInfo& stored = stored_as(tensor.name);
      const std::uint64_t size = base::size_of(stored.dtype);
      std::vector<std::byte> piece;
      for (std::uint64_t at = 0; at < stored.bytes(); at += piece.size()) {
        piece.resize(std::min(kPieceNumbers * size, stored.bytes() - at));
        read_finite(stored, at / size, piece);
      }
    }
  }

  void check_tied_head() const { checkpoint::check_tied_head(files_, wanted_); }

  DType widest() const { return widest_dtype(files_, names_); }

  /// In the order of the model.
  std::vector<checkpoint::TensorSource> sources(DType dtype) const {
    std::vector<checkpoint::TensorSource> sources;
    for (const auto& tensor : wanted_.tensors) {
      checkpoint::TensorInfo info = tensor;
      info.dtype = dtype;
      sources.push_back({info, [this, info](std::uint64_t first, std::uint64_t count, void* out) {
                           read(info, first, count, out);
                         }});
    }
    return sources;
  }

  const checkpoint::ModelFiles& files() const { return files_; }

 private:
  const checkpoint::TensorInfo& stored_as(const std::string& name) const {
    return files_.tensors().at(names_.at(name));
  }

  /// Fills `piece` with numbers from `first` on.
  void read_finite(const checkpoint::TensorInfo& stored, std::uint64_t first,
                   std::vector<std::byte>& piece) const {
    const std::uint64_t size = base::size_of(stored.dtype);
    files_.read(stored.name, first * size, piece.size(), piece.data());
    const std::uint64_t count = piece.size() / size;
    const std::uint64_t bad = checkpoint::first_not_finite(piece.data(), stored.dtype, count);
    if (bad == count) return;
    throw InputError(fmt::format("{}: number {} of tensor {} is not finite",
                                 files_.file_of(stored.name).path().string(), first + bad,
                                 stored.name));
  }

  /// Bytes of a tensor as it is to be written.
  void read(const checkpoint::TensorInfo& info, std::uint64_t first, std::uint64_t count,
            void* out) const {
    const checkpoint::TensorInfo& stored = stored_as(info.name);
    const std::uint64_t size = base::size_of(info.dtype);
    std::vector<std::byte> piece(count / size * base::size_of(stored.dtype));
    read_finite(stored, first / size, piece);
    if (merge_ != nullptr && merge_->changes(info.name)) {
      std::vector<double> sums(count / size);
      checkpoint::convert(sums.data(), DType::kFloat64, piece.data(), stored.dtype, sums.size());
      merge_->add_to(sums.data(), info.name, first / size, sums.size());
      checkpoint::convert(out, info.dtype, sums.data(), DType::kFloat64, sums.size());
    } else {
      checkpoint::convert(out, info.dtype, piece.data(), stored.dtype, count / size);
    }
    if (checkpoint::first_not_finite(out, info.dtype, count / size) == count / size) return;
    throw InputError(fmt::format("tensor {} of {} has numbers beyond {}; choose another --dtype",
                                 info.name, files_.directory().string(),
                                 base::name_of(info.dtype)));
  }

  checkpoint::ModelFiles files_;
  checkpoint::WantedTensors wanted_;
  std::map<std::string, std::string> names_;
  const Merge* merge_;
};

/// Consecutive tensors, as many as fit into a file.
std::vector<std::vector<checkpoint::TensorSource>> shards_of(
    std::vector<checkpoint::TensorSource> sources, std::uint64_t shard_bytes) {
  std::vector<std::vector<checkpoint::TensorSource>> shards(1);
  std::uint64_t bytes = 0;
  for (checkpoint::TensorSource& source : sources) {
    const std::uint64_t more = source.info.bytes();
    if (!shards.back().empty() && bytes + more > shard_bytes) {
      shards.emplace_back();
      bytes = 0;
    }
    bytes += more;
    shards.back().push_back(std::move(source));
  }
  return shards;
}

/// The weights in one file, or in several with an index. Returns how many.
std::int64_t write_weights(const fs::path& directory,
                           const std::vector<std::vector<checkpoint::TensorSource>>& shards) {
  static const std::map<std::string, std::string> kMetadata = {{"format", "pt"}};
  if (shards.size() == 1) {
    checkpoint::write_safetensors(directory / checkpoint::kWeightsName, shards.front(), kMetadata);
    return 1;
  }
  nlohmann::ordered_json index;
  std::uint64_t total = 0;
  std::map<std::string, std::string> weight_map;
  for (std::size_t number = 0; number < shards.size(); ++number) {
    const std::string name =
        fmt::format("model-{:05}-of-{:05}.safetensors", number + 1, shards.size());
    checkpoint::write_safetensors(directory / name, shards[number], kMetadata);
    for (const checkpoint::TensorSource& source : shards[number]) {
      weight_map[source.info.name] = name;
      total += source.info.bytes();
    }
  }
  index["metadata"]["total_size"] = total;
  index["weight_map"] = weight_map;
  write_text(directory / checkpoint::kIndexName, base::json_text(index, 2) + "\n");
  return static_cast<std::int64_t>(shards.size());
}

/// Checks, and writes where that is asked for. With `merge` the source is the base.
ModelRead convert_model(const fs::path& source, const Pretrained& model, const ModelOutput& output,
                        const Merge* merge = nullptr) {
  const Conversion conversion(source, model, merge);
  const DType dtype = dtype_of(output).value_or(conversion.widest());
  ModelRead result;
  result.model_type = model.config.model_type;
  result.parameters = model.config.parameters();
  result.dtype = base::name_of(dtype);
  std::vector<checkpoint::TensorSource> sources = conversion.sources(dtype);
  for (const auto& tensor : sources) result.bytes += tensor.info.bytes();
  if (output.directory.empty()) {
    conversion.check();
    result.files = static_cast<std::int64_t>(conversion.files().files().size());
    return result;
  }
  conversion.check_tied_head();
  std::vector<checkpoint::TextFile> companions = read_companions(source);
  NewDirectory directory(output.directory);
  result.files = write_weights(directory.path(), shards_of(std::move(sources), output.shard_bytes));
  write_text(directory.path() / checkpoint::kConfigName,
             config_json(model.config, result.dtype, model.ids));
  write_text(directory.path() / kGenerationConfigName, generation_config_json(model.ids));
  for (const auto& file : companions) write_text(directory.path() / file.name, file.text);
  directory.publish();
  return result;
}

/// Throws InputError where an adapter is not to be merged, or there is none that could be.
void check_merge(const fs::path& source, const ModelOutput& output) {
  if (holds_adapter(source) && !output.merge) {
    throw InputError(
        fmt::format("{} holds an adapter: --merge writes its base with it as one model; PEFT takes "
                    "the directory "
                    "as it is",
                    source.string()));
  }
  if (!holds_adapter(source) && (output.merge || !output.base.empty())) {
    throw InputError(fmt::format("{} holds a model and no adapter; leave --merge and --base out",
                                 source.string()));
  }
}

}  // namespace

ModelRead import_model(const std::string& directory, const ModelOutput& output) {
  return convert_model(directory, read_pretrained(directory), output);
}

ModelRead export_model(const std::string& checkpoint, const ModelOutput& output) {
  // What PEFT wrote has no manifest.
  const bool is_plain_adapter =
      holds_adapter(checkpoint) && !checkpoint::has_file(checkpoint, checkpoint::kManifestName);
  const fs::path step = is_plain_adapter ? fs::path(checkpoint) : find_checkpoint(checkpoint);
  if (!is_plain_adapter) checkpoint::verify(step);
  check_merge(step, output);
  if (!output.merge) return convert_model(step, read_pretrained(step), output);
  const AdaptedModel adapted = read_adapted_model(step, output.base);
  const Merge merge(adapted);
  return convert_model(adapted.base, adapted.model, output, &merge);
}

}  // namespace longspan::train
