#include <fmt/format.h>

#include <cstddef>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "longspan/base/declarations.h"
#include "longspan/base/error.h"
#include "longspan/base/file.h"
#include "longspan/base/json.h"
#include "longspan/train/clip_job.h"
#include "longspan/train/job.h"
#include "train/adapter_files.h"
#include "train/adapter_keys.h"
#include "train/pretrained.h"

namespace longspan::train {
namespace {

using base::Declarations;
using base::InputError;

constexpr std::size_t kMaxJobBytes = std::size_t{1} << 20U;

/// Whether the file and its overrides name a model of clips. What cannot be read is not told here,
/// but by who reads it.
bool is_of_clips(const std::string& path, const std::vector<std::string>& overrides) {
  static const std::string kKey = "model.model_type=";
  std::string type;
  std::error_code none;
  if (std::filesystem::file_size(path, none) <= kMaxJobBytes && !none) {
    const nlohmann::json file = base::try_parse_json(base::read_text(path));
    const auto model = file.is_object() ? file.find("model") : file.end();
    if (file.is_object() && model != file.end() && model->is_object()) {
      const auto found = model->find("model_type");
      if (found != model->end() && found->is_string()) type = found->get<std::string>();
    }
  }
  for (const std::string& setting : overrides) {
    if (setting.starts_with(kKey)) type = setting.substr(kKey.size());
  }
  return type == kClipModelType;
}

/// Keys that are not given have the values that `model` and `adapter` have.
Job read_keys(const std::string& path, const std::vector<std::string>& overrides,
              const model::ModelConfig& model, const model::LoraConfig& adapter = {}) {
  Job job;
  job.model = model;
  job.adapter.lora = adapter;
  Declarations declarations("Longspan job file", "");
  declare(job, declarations);
  declarations.read_file(path, overrides, kMaxJobBytes);
  return job;
}

/// Of a job with model.from: "default" is no scaling at all, and the first length is that of the
/// model unless the job says otherwise.
void settle_scaling(model::RopeScaling& scaling, const model::ModelConfig& trained) {
  if (scaling.rope_type == "default") scaling = {};
  const bool has_original = scaling.rope_type == "llama3" || scaling.rope_type == "yarn";
  if (has_original && scaling.original_max_position_embeddings == 0) {
    scaling.original_max_position_embeddings = trained.max_position_embeddings;
  }
}

/// Of a job with model.from: `original` has the model of config.json. What the weights were trained
/// for stays; how far positions reach, a model can be trained on for.
void refuse_another_model(const Job& job, const Job& original) {
  const auto section = [](const Job& one) {
    return base::parse_plain_json(to_json(one)).at("model");
  };
  const nlohmann::json given = section(job);
  const nlohmann::json trained = section(original);
  for (const auto& [key, value] : given.items()) {
    const bool may_change =
        key == "rope_theta" || key == "rope_scaling" ||
        (key == "max_position_embeddings" && !original.model.has_learned_positions());
    const auto found = trained.find(key);
    if (may_change || (found != trained.end() && *found == value)) continue;
    throw InputError(fmt::format(
        "model.{} is {}, but config.json of model.from \"{}\" says {}: its weights are for that; "
        "leave the key out",
        key, base::json_text(value), job.model_from,
        found == trained.end() ? "nothing of it" : base::json_text(*found)));
  }
}

}  // namespace

Job read_job(const std::string& path, const std::vector<std::string>& overrides) {
  if (is_of_clips(path, overrides)) {
    throw InputError(fmt::format(
        "{}: model.model_type \"{}\" makes this a job of clips, with which `longspan train` and "
        "`longspan plan` work; this command is for models of texts",
        path, kClipModelType));
  }
  Job job = read_keys(path, overrides, {});
  try {
    if (!job.model_from.empty()) {
      // Read once more, over what config.json says.
      model::ModelConfig config = read_pretrained(job.model_from).config;
      Job original = job;
      original.model = config;
      const std::string& type = job.model.rope_scaling.rope_type;
      // Another type of scaling begins anew: numbers of the old one are none of it.
      if (type != "default" && type != config.rope_scaling.rope_type) config.rope_scaling = {};
      const bool continues = job.adapter.type != "none" && !job.adapter.from.empty();
      const model::LoraConfig adapter =
          continues ? read_adapter_config(job.adapter.from).lora : model::LoraConfig();
      job = read_keys(path, overrides, config, adapter);
      if (continues) refuse_another_adapter(job, adapter);
      settle_scaling(job.model.rope_scaling, original.model);
      refuse_another_model(job, original);
    }
    check(job);
  } catch (const InputError& error) {
    throw InputError(fmt::format("{}: {}", path, error.what()));
  }
  return job;
}

ClipJob read_clip_job(const std::string& path, const std::vector<std::string>& overrides) {
  ClipJob job;
  Declarations declarations("Longspan job file of clips", "");
  declare(job, declarations);
  declarations.read_file(path, overrides, kMaxJobBytes);
  try {
    check(job);
  } catch (const InputError& error) {
    throw InputError(fmt::format("{}: {}", path, error.what()));
  }
  return job;
}

AnyJob read_any_job(const std::string& path, const std::vector<std::string>& overrides) {
  if (is_of_clips(path, overrides)) return read_clip_job(path, overrides);
  return read_job(path, overrides);
}

}  // namespace longspan::train
