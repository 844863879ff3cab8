#include "longspan/train/inspect.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <string_view>
#include <vector>

#include "longspan/base/error.h"
#include "longspan/base/file.h"
#include "longspan/base/json.h"
#include "longspan/checkpoint/model_files.h"
#include "longspan/checkpoint/store.h"
#include "longspan/data/token_file.h"
#include "longspan/train/clip_job.h"
#include "train/adapter_files.h"
#include "train/clip_files.h"
#include "train/document_lengths.h"
#include "train/pretrained.h"
#include "train/training_state.h"

namespace longspan::train {
namespace {

namespace fs = std::filesystem;
using base::InputError;
using nlohmann::ordered_json;
using Tensors = std::map<std::string, checkpoint::TensorInfo>;

/// Elements, bytes and types of tensors; each of them, if asked for.
void describe_tensors(const Tensors& tensors, bool lists, ordered_json& out) {
  std::uint64_t bytes = 0;
  std::uint64_t elements = 0;
  std::map<std::string, std::uint64_t> dtypes;
  ordered_json list = ordered_json::array();
  for (const auto& [name, tensor] : tensors) {
    bytes += tensor.bytes();
    elements += tensor.bytes() / base::size_of(tensor.dtype);
    ++dtypes[base::name_of(tensor.dtype)];
    if (!lists) continue;
    list.push_back(
        {{"name", name}, {"dtype", base::name_of(tensor.dtype)}, {"shape", tensor.shape}});
  }
  out["tensors"] = tensors.size();
  out["elements"] = elements;
  out["bytes"] = bytes;
  out["tensors_by_dtype"] = dtypes;
  if (lists) out["tensor_list"] = list;
}

void describe_clip_config(const fs::path& directory, ordered_json& out) {
  const ClipFiles model = read_clip_files(directory);
  out["model_type"] = kClipModelType;
  out["objective"] = model.objective;
  out["config_dtype"] = model.dtype;
  const auto config = base::parse_plain_json(clip_config_json(model));
  for (const auto& [key, value] : config.items()) {
    if (value.is_number() || value.is_boolean()) out["config"][key] = value;
  }
}

void describe_config(const fs::path& directory, const checkpoint::ModelFiles& files,
                     ordered_json& out) {
  if (holds_clip_model(directory)) return describe_clip_config(directory, out);
  try {
    const Pretrained model = read_pretrained(directory);
    out["model_type"] = model.config.model_type;
    out["parameters"] = model.config.parameters();
    out["config_dtype"] = model.dtype;
    const auto config = base::parse_plain_json(model.config.to_config_json(model.dtype, -1, -1));
    for (const auto& [key, value] : config.items()) {
      if (value.is_number() || value.is_boolean()) out["config"][key] = value;
    }
    match(files, wanted_tensors(model.config));
  } catch (const InputError& error) {
    out["problem"] = error.what();
  }
}

void describe_model(const fs::path& directory, const InspectOptions& options, ordered_json& out) {
  const checkpoint::ModelFiles files(directory);
  describe_config(directory, files, out);
  for (const auto& file : files.files()) {
    const fs::path name =
        files.files().size() == 1 ? checkpoint::kWeightsName : file->path().filename();
    out["files"].push_back(
        {{"name", name.string()}, {"bytes", file->bytes()}, {"tensors", file->tensors().size()}});
  }
  describe_tensors(files.tensors(), options.tensors, out);
  for (const auto& entry : read_companions(directory)) out["companions"].push_back(entry.name);
}

void describe_adapter(const fs::path& directory, const InspectOptions& options, ordered_json& out) {
  const model::AdapterConfig config = read_adapter_config(directory);
  out["base"] = config.base;
  out["rank"] = config.lora.rank;
  out["alpha"] = config.lora.alpha;
  out["scale"] = config.lora.scale();
  out["dropout"] = config.lora.dropout;
  out["target_modules"] = config.lora.target_modules;
  const checkpoint::SafetensorsFile file(checkpoint::model_file(directory, kAdapterWeightsName));
  describe_tensors(file.tensors(), options.tensors, out);
  for (const auto& entry : read_companions(directory)) out["companions"].push_back(entry.name);
}

void describe_checkpoint(const fs::path& directory, const InspectOptions& options,
                         ordered_json& out) {
  const Progress progress = read_progress(directory);
  out["step"] = progress.step;
  out["tokens"] = progress.tokens;
  out["updates"] = progress.updates;
  out["skipped"] = progress.skipped;
  out["sampling"] = progress.sampling;
  if (holds_adapter(directory)) return describe_adapter(directory, options, out["adapter"]);
  describe_model(directory, options, out["model"]);
}

void describe_run(const fs::path& directory, ordered_json& out) {
  const fs::path file = directory / "job.json";
  const auto job = base::read_json(file);
  try {
    out["name"] = job.at("run").at("name");
    out["steps"] = job.at("training").at("steps");
    out["model_type"] = job.at("model").at("model_type");
  } catch (const nlohmann::json::exception&) {
    throw InputError(
        fmt::format("{} is not the job of a run: it lacks run.name, training.steps or "
                    "model.model_type",
                    file.string()));
  }
  const checkpoint::Store store(directory / "checkpoints");
  out["checkpoints"] = ordered_json::array();
  for (const std::int64_t step : store.steps()) {
    const fs::path path = store.step_directory(step);
    out["checkpoints"].push_back(
        {{"step", step}, {"tokens", read_progress(path).tokens}, {"path", path.string()}});
  }
}

ordered_json describe_lengths(const DocumentLengths& lengths) {
  ordered_json of_document = {{"mean", lengths.mean()}};
  for (std::size_t i = 0; i < DocumentLengths::kPercents.size(); ++i) {
    of_document[percentile_name(DocumentLengths::kPercents[i])] = lengths.percentiles[i];
  }
  ordered_json above = ordered_json::array();
  for (const LengthBin& one : lengths.above) {
    above.push_back({{"above", one.from}, {"documents", one.documents}, {"tokens", one.tokens}});
  }
  ordered_json histogram = ordered_json::array();
  for (const LengthBin& bin : lengths.bins) {
    histogram.push_back({{"from", bin.from},
                         {"end", bin.end},
                         {"documents", bin.documents},
                         {"tokens", bin.tokens}});
  }
  return {{"document_tokens", of_document}, {"above", above}, {"histogram", histogram}};
}

void refuse_unused_flat(const fs::path& path, const data::FlatTokens& flat) {
  if (data::TokenFile::is_flat(path) || (flat.type.empty() && flat.document_end < 0)) return;
  throw InputError(
      fmt::format("--raw-type and --document-end are about .bin files of tokens alone, and {} says "
                  "itself what it holds; leave them out",
                  path.string()));
}

/// Returns what text has beside `out`.
std::string describe_tokens(const fs::path& path, const InspectOptions& options,
                            ordered_json& out) {
  refuse_unused_flat(path, options.flat);
  const auto file = data::TokenFile::open(path, options.flat);
  const DocumentLengths lengths = DocumentLengths::of(*file);
  out["documents"] = lengths.documents;
  out["tokens"] = lengths.tokens;
  out["longest_document"] = lengths.longest();
  if (file->documents() > 0 && file->document_bytes(0) >= 0) {
    std::int64_t text_bytes = 0;
    for (std::int64_t document = 0; document < file->documents(); ++document) {
      text_bytes += file->document_bytes(document);
    }
    out["text_bytes"] = text_bytes;
  }
  if (file->is_masked()) out["tokens_in_loss"] = file->loss_tokens(0, file->tokens());
  if (!file->tokenizer_hash().empty()) out["tokenizer_hash"] = file->tokenizer_hash();
  if (options.json) out.update(describe_lengths(lengths));
  if (!options.picture.empty()) {
    base::replace_file(options.picture,
                       lengths_picture(lengths, "Documents of " + path.filename().string()));
  }
  if (!options.lengths_out.empty()) write_lengths(*file, options.lengths_out);
  return lengths_text(lengths, options.columns);
}

/// Options that only files of tokens have a use for.
void refuse_token_options(const fs::path& path, const InspectOptions& options) {
  const bool none = options.picture.empty() && options.lengths_out.empty() &&
                    options.flat.type.empty() && options.flat.document_end < 0;
  if (none) return;
  throw InputError(
      fmt::format("--picture, --lengths-out, --raw-type and --document-end are about files of "
                  "tokens, and {} is none; leave them out",
                  path.string()));
}

void describe_safetensors(const fs::path& path, const InspectOptions& options, ordered_json& out) {
  const checkpoint::SafetensorsFile file(path);
  out["file_bytes"] = file.bytes();
  out["metadata"] = file.metadata();
  describe_tensors(file.tensors(), options.tensors, out);
}

/// The kind of a path, and what there is to say about it; `text` is what text has beside it.
ordered_json describe(const fs::path& path, const InspectOptions& options, std::string& text) {
  ordered_json out;
  const auto begin = [&](const char* kind) { out = {{"kind", kind}, {"path", path.string()}}; };
  std::error_code error;
  const bool is_file = fs::is_regular_file(path, error);
  if (is_file && path.extension() != ".safetensors") {
    begin("tokens");
    text = describe_tokens(path, options, out);
    return out;
  }
  refuse_token_options(path, options);
  if (is_file) {
    begin("safetensors");
    describe_safetensors(path, options, out);
  } else if (!fs::is_directory(path, error)) {
    throw InputError(fmt::format("there is no file or directory {}", path.string()));
  } else if (checkpoint::has_file(path, checkpoint::kManifestName)) {
    begin("checkpoint");
    describe_checkpoint(path, options, out);
  } else if (checkpoint::has_file(path, "job.json")) {
    begin("run");
    describe_run(path, out);
  } else if (holds_adapter(path)) {
    begin("adapter");
    describe_adapter(path, options, out);
  } else {
    begin("model");
    describe_model(path, options, out);
  }
  return out;
}

/// Text where it is text, JSON otherwise; bytes with a unit beside them.
std::string shown(std::string_view key, const ordered_json& value) {
  if (value.is_string()) return value.get<std::string>();
  if (key.ends_with("bytes")) {
    const auto bytes = value.get<std::uint64_t>();
    return fmt::format("{} ({})", bytes, base::format_bytes(bytes));
  }
  return base::json_text(value);
}

/// A line for each member, deeper ones indented; of lists, a line for each entry.
void render(const ordered_json& object, int indent, std::string& out) {
  const std::string margin(static_cast<std::size_t>(indent), ' ');
  for (const auto& [key, value] : object.items()) {
    if (value.is_object()) {
      out += fmt::format("{}{}\n", margin, key);
      render(value, indent + 2, out);
    } else if (value.is_array() && !value.empty() && value.front().is_object()) {
      out += fmt::format("{}{}\n", margin, key);
      for (const auto& entry : value) {
        std::string line;
        for (const auto& [name, member] : entry.items()) {
          if (name == "name") {
            line = shown(name, member);
            continue;
          }
          line += fmt::format("{}{} {}", line.empty() ? "" : ", ", name, shown(name, member));
        }
        out += fmt::format("{}  {}\n", margin, line);
      }
    } else {
      out += fmt::format("{}{:<24} {}\n", margin, key, shown(key, value));
    }
  }
}

}  // namespace

std::string inspect(const std::string& path, const InspectOptions& options) {
  std::string beside;
  const ordered_json report = describe(path, options, beside);
  if (options.json) return base::json_text(report) + "\n";
  std::string text;
  render(report, 0, text);
  return text + beside;
}

}  // namespace longspan::train
