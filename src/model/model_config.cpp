#include "longspan/model/model_config.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>
#include <utility>

#include "longspan/base/error.h"
#include "longspan/base/json.h"
#include "model/resolution.h"

namespace longspan::model {

using nlohmann::json;
using nlohmann::ordered_json;

namespace {

/// What may stand in the config.json of any family without changing what is trained.
const std::vector<const char*> kHarmless = {"_name_or_path",
                                            "_attn_implementation",
                                            "bos_token_id",
                                            "eos_token_id",
                                            "pad_token_id",
                                            "sep_token_id",
                                            "decoder_start_token_id",
                                            "torch_dtype",
                                            "dtype",
                                            "transformers_version",
                                            "use_cache",
                                            "return_dict",
                                            "output_attentions",
                                            "output_hidden_states",
                                            "torchscript",
                                            "problem_type",
                                            "id2label",
                                            "label2id",
                                            "num_labels",
                                            "finetuning_task",
                                            "tokenizer_class",
                                            "task_specific_params",
                                            "chunk_size_feed_forward",
                                            "max_length",
                                            "min_length",
                                            "do_sample",
                                            "num_beams",
                                            "temperature",
                                            "top_k",
                                            "top_p",
                                            "keys_to_ignore_at_inference",
                                            "prefix"};

/// Refuses what no family can do.
void refuse_for_all(ConfigReader& reader, const Family& family) {
  reader.require("architectures", {json::array({family.architecture})});
  if (reader.has("quantization_config")) {
    reader.fail("quantization_config", "is set; quantised weights are not supported");
  }
  reader.require("is_encoder_decoder", {false});
  reader.require("is_decoder", {true, false});  // set or not, these classes are causal
  reader.require("add_cross_attention", {false});
  reader.require("cross_attention_hidden_size", {});
  reader.require("pruned_heads", {json::object()});
  reader.ignore(kHarmless);
}

std::string known_types() {
  std::vector<std::string> types;
  for (const Family& family : families()) types.push_back(fmt::format("\"{}\"", family.model_type));
  return fmt::format("{}", fmt::join(types, " or "));
}

const Family& read_family(ConfigReader& reader, const json& document) {
  if (!reader.has("model_type")) {
    reader.fail("model_type", fmt::format("is missing; expected {}", known_types()));
  }
  const json& name = document.at("model_type");
  const Family* const family = name.is_string() ? find_family(name.get<std::string>()) : nullptr;
  if (family == nullptr) {
    reader.fail("model_type",
                fmt::format("is {}; only {} is supported", base::json_text(name), known_types()));
  }
  return *family;
}

/// Pairs of a query and a key that it sees.
double seen_pairs(const std::vector<std::int32_t>& cu_seqlens, const nn::AttentionKind& kind) {
  const auto triangle = [](double n) { return n * (n + 1.0) / 2.0; };
  double pairs = 0.0;
  for (std::size_t i = 0; i + 1 < cu_seqlens.size(); ++i) {
    const double length = cu_seqlens[i + 1] - cu_seqlens[i];
    const auto window = static_cast<double>(kind.window);
    pairs += triangle(length);
    if (window > 0.0 && length > window) pairs -= triangle(length - window);
  }
  return pairs;
}

}  // namespace

void ModelConfig::resolve(const std::string& where) {
  const Family* const family = find_family(model_type);
  if (family == nullptr) {
    throw base::InputError(
        fmt::format("{}.model_type is \"{}\"; legal: {}", where, model_type, known_types()));
  }
  model::resolve(*this, *family, where + ".", {});
}

std::int64_t ModelConfig::parameters() const {
  return static_cast<std::int64_t>(all_parameters(*this, composition_of(*this)));
}

double ModelConfig::matmul_weights() const {
  return static_cast<double>(num_hidden_layers) *
             block_matmul_weights(*this, composition_of(*this)) +
         static_cast<double>(vocab_size) * static_cast<double>(hidden_size);
}

double ModelConfig::training_flops(const std::vector<std::int32_t>& cu_seqlens) const {
  const Composition composition = composition_of(*this);
  double pairs = 0.0;
  for (const nn::AttentionKind& layer : composition.layers) pairs += seen_pairs(cu_seqlens, layer);
  const double head_width = static_cast<double>(num_attention_heads * head_dim);
  return 6.0 * matmul_weights() * static_cast<double>(cu_seqlens.back()) +
         12.0 * head_width * pairs;
}

std::vector<std::string> ModelConfig::types_of_layers() const {
  if (!layer_types.empty()) return layer_types;
  const std::int64_t full_every = family_of(*this).full_every;
  const bool has_window = sliding_window.value_or(0) > 0;
  std::vector<std::string> types;
  for (std::int64_t layer = 1; layer <= num_hidden_layers; ++layer) {
    const bool is_full = !has_window || (full_every > 0 && layer % full_every == 0);
    types.emplace_back(is_full ? kFullAttention : kSlidingAttention);
  }
  return types;
}

bool ModelConfig::has_learned_positions() const {
  return !composition_of(*this).learned_positions.empty();
}

std::string ModelConfig::to_config_json(const std::string& dtype, std::int64_t bos_id,
                                        std::int64_t eos_id) const {
  const Family& family = family_of(*this);
  ordered_json out;
  out["architectures"] = {family.architecture};
  out["model_type"] = family.model_type;
  family.write(*this, out);
  out["bos_token_id"] = bos_id < 0 ? ordered_json() : ordered_json(bos_id);
  out["eos_token_id"] = eos_id < 0 ? ordered_json() : ordered_json(eos_id);
  out["torch_dtype"] = dtype;
  return base::json_text(out, 2) + "\n";
}

ModelConfig ModelConfig::from_config_json(const std::string& text, const std::string& file) {
  const json document = base::try_parse_json(text);
  if (!document.is_object()) {
    throw base::InputError(file + " is not a JSON object; expected a Hugging Face config.json");
  }
  ConfigReader reader(document, file);
  const Family& family = read_family(reader, document);
  refuse_for_all(reader, family);
  ModelConfig config;
  config.model_type = family.model_type;
  family.read(reader, config);
  reader.finish();
  model::resolve(config, family, file + ": ", family.names_in_file);
  return config;
}

std::vector<std::pair<std::string, std::string>> model_types() {
  std::vector<std::pair<std::string, std::string>> types;
  for (const Family& family : families()) types.emplace_back(family.model_type, family.description);
  return types;
}

std::string family_defaults(const std::string& key) {
  std::vector<std::string> texts;
  for (const Family& family : families()) {
    std::string value;
    if (key == "max_position_embeddings") {
      value = std::to_string(family.max_position_embeddings);
    } else if (key == "tie_word_embeddings") {
      value = family.tying == Tying::kNo       ? "false"
              : family.tying == Tying::kAlways ? "always true"
                                               : "true";
    } else if (key == "head_dim") {
      if (family.head_dim > 0) value = std::to_string(family.head_dim);
    } else if (key == "sliding_window") {
      if (family.has_window) value = std::to_string(family.sliding_window);
    } else if (key == "attn_logit_softcapping" && family.attn_logit_softcapping) {
      value = base::json_text(json(*family.attn_logit_softcapping));
    } else if (key == "final_logit_softcapping" && family.final_logit_softcapping) {
      value = base::json_text(json(*family.final_logit_softcapping));
    } else if (const double* const number = default_of(family, key)) {
      value = base::json_text(json(*number));
    }
    if (!value.empty()) texts.push_back(fmt::format("{} ({})", value, family.model_type));
  }
  return fmt::format("{}", fmt::join(texts, ", "));
}

}  // namespace longspan::model
