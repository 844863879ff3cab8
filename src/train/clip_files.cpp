#include "train/clip_files.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "longspan/base/error.h"
#include "longspan/base/file.h"
#include "longspan/base/json.h"
#include "longspan/checkpoint/model_files.h"
#include "longspan/train/clip_job.h"

namespace longspan::train {
namespace {

using base::InputError;
using nlohmann::json;
using nlohmann::ordered_json;

/// Calls visit(key, member) of every member of a config that its file has.
template <typename Config, typename Visit>
void visit_members(Config& config, const Visit& visit) {
  visit("channels", config.channels);
  visit("patch_size", config.patch_size);
  visit("hidden_size", config.hidden_size);
  visit("num_hidden_layers", config.num_hidden_layers);
  visit("num_attention_heads", config.num_attention_heads);
  visit("intermediate_size", config.intermediate_size);
  visit("is_causal", config.is_causal);
  visit("num_classes", config.num_classes);
  visit("class_tokens", config.class_tokens);
  visit("rope_theta", config.rope_theta);
  visit("norm_epsilon", config.norm_epsilon);
  visit("initializer_range", config.initializer_range);
}

}  // namespace

std::string clip_config_json(const ClipFiles& files) {
  ordered_json out;
  out["model_type"] = kClipModelType;
  visit_members(files.config, [&](const char* key, const auto& member) { out[key] = member; });
  out["objective"] = files.objective;
  out["torch_dtype"] = files.dtype;
  return base::json_text(out, 2) + "\n";
}

bool holds_clip_model(const std::filesystem::path& directory) {
  if (!checkpoint::has_file(directory, checkpoint::kConfigName)) return false;
  const auto path = checkpoint::model_file(directory, checkpoint::kConfigName);
  const json in = base::try_parse_json(base::read_text(path));
  return in.is_object() && in.value("model_type", json()) == kClipModelType;
}

ClipFiles read_clip_files(const std::filesystem::path& directory) {
  const auto path = checkpoint::model_file(directory, checkpoint::kConfigName);
  const json in = base::read_json(path);
  const auto type = in.is_object() ? in.find("model_type") : in.end();
  if (!in.is_object() || type == in.end() || *type != kClipModelType) {
    throw InputError(fmt::format(
        "{}: model_type is {}; a job of clips goes on from checkpoints of \"{}\" alone",
        path.string(), in.is_object() && type != in.end() ? base::json_text(*type) : "missing",
        kClipModelType));
  }
  ClipFiles files;
  try {
    visit_members(files.config, [&](const char* key, auto& member) { in.at(key).get_to(member); });
    in.at("objective").get_to(files.objective);
    in.at("torch_dtype").get_to(files.dtype);
  } catch (const json::exception& error) {
    throw InputError(
        fmt::format("{} is no config of a model of clips: {}", path.string(), error.what()));
  }
  return files;
}

}  // namespace longspan::train
