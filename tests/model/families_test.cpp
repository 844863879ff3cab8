// config.json of the families made after Llama: read, counted, written as it is read, refused by
// name.
#include <catch2/catch.hpp>
#include <nlohmann/json.hpp>

#include "longspan/base/error.h"
#include "longspan/model/model_config.h"

namespace longspan::model {
namespace {

using Catch::Contains;
using nlohmann::json;

struct Known {
  const char* model_type;
  const char* architecture;
  const char* config;        ///< what matters of a well-known model's file
  std::int64_t parameters;   ///< as transformers counts them
  std::int64_t full_layers;  ///< without a window
};

const Known kKnown[] = {
    // Llama 3.1 8B
    {"llama", "LlamaForCausalLM",
     R"({"vocab_size": 128256, "hidden_size": 4096, "intermediate_size": 14336,
         "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8,
         "max_position_embeddings": 131072, "rms_norm_eps": 1e-05, "rope_theta": 500000.0,
         "hidden_act": "silu", "attention_bias": false, "mlp_bias": false, "pretraining_tp": 1,
         "tie_word_embeddings": false, "rope_scaling": {"factor": 8.0, "low_freq_factor": 1.0,
         "high_freq_factor": 4.0, "original_max_position_embeddings": 8192,
         "rope_type": "llama3"}})",
     8030261248, 32},
    // Mistral 7B v0.1
    {"mistral", "MistralForCausalLM",
     R"({"vocab_size": 32000, "hidden_size": 4096, "intermediate_size": 14336,
         "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8,
         "max_position_embeddings": 32768, "rms_norm_eps": 1e-05, "rope_theta": 10000.0,
         "hidden_act": "silu", "sliding_window": 4096, "tie_word_embeddings": false})",
     7241732096, 0},
    // Qwen3 4B
    {"qwen3", "Qwen3ForCausalLM",
     R"({"vocab_size": 151936, "hidden_size": 2560, "intermediate_size": 9728,
         "num_hidden_layers": 36, "num_attention_heads": 32, "num_key_value_heads": 8,
         "head_dim": 128, "max_position_embeddings": 40960, "rms_norm_eps": 1e-06,
         "rope_theta": 1000000, "rope_scaling": null, "hidden_act": "silu",
         "attention_bias": false, "attention_dropout": 0.0, "max_window_layers": 36,
         "sliding_window": null, "use_sliding_window": false, "tie_word_embeddings": true})",
     4022468096, 36},
    // Gemma 2 2B
    {"gemma2", "Gemma2ForCausalLM",
     R"({"vocab_size": 256000, "hidden_size": 2304, "intermediate_size": 9216,
         "num_hidden_layers": 26, "num_attention_heads": 8, "num_key_value_heads": 4,
         "head_dim": 256, "max_position_embeddings": 8192, "rms_norm_eps": 1e-06,
         "rope_theta": 10000.0, "hidden_act": "gelu_pytorch_tanh",
         "hidden_activation": "gelu_pytorch_tanh", "attention_bias": false,
         "cache_implementation": "hybrid", "attn_logit_softcapping": 50.0,
         "final_logit_softcapping": 30.0, "query_pre_attn_scalar": 256, "sliding_window": 4096})",
     2614341888, 13},
    // Gemma 3 1B
    {"gemma3_text", "Gemma3ForCausalLM",
     R"({"vocab_size": 262144, "hidden_size": 1152, "intermediate_size": 6912,
         "num_hidden_layers": 26, "num_attention_heads": 4, "num_key_value_heads": 1,
         "head_dim": 256, "max_position_embeddings": 32768, "rms_norm_eps": 1e-06,
         "rope_theta": 1000000, "rope_local_base_freq": 10000, "rope_scaling": null,
         "hidden_activation": "gelu_pytorch_tanh", "attention_bias": false,
         "cache_implementation": "hybrid", "attn_logit_softcapping": null,
         "final_logit_softcapping": null, "query_pre_attn_scalar": 256, "sliding_window": 512,
         "sliding_window_pattern": 6})",
     999885952, 4},
    // Phi-3 mini 4K
    {"phi3", "Phi3ForCausalLM",
     R"({"vocab_size": 32064, "hidden_size": 3072, "intermediate_size": 8192,
         "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 32,
         "max_position_embeddings": 4096, "original_max_position_embeddings": 4096,
         "rms_norm_eps": 1e-05, "rope_theta": 10000.0, "rope_scaling": null, "resid_pdrop": 0.0,
         "embd_pdrop": 0.0, "attention_bias": false, "hidden_act": "silu", "sliding_window": 2047,
         "tie_word_embeddings": false})",
     3821079552, 0},
};

json file_of(const Known& known) {
  json document = json::parse(known.config);
  document["model_type"] = known.model_type;
  document["architectures"] = {known.architecture};
  return document;
}

json file_of(const std::string& model_type) {
  for (const Known& known : kKnown) {
    if (known.model_type == model_type) return file_of(known);
  }
  throw base::InternalError("no known model of this family");
}

ModelConfig read(const json& document) {
  return ModelConfig::from_config_json(document.dump(), "dir/config.json");
}

TEST_CASE("families: a well-known model's config.json is read, counted, written as it is read") {
  for (const Known& known : kKnown) {
    INFO(known.model_type);
    const ModelConfig config = read(file_of(known));
    CHECK(config.parameters() == known.parameters);
    const std::vector<std::string> types = config.types_of_layers();
    CHECK(std::count(types.begin(), types.end(), kFullAttention) == known.full_layers);
    const std::string text = config.to_config_json("bfloat16", 1, 2);
    CHECK(json::parse(text).at("architectures") == json::array({known.architecture}));
    CHECK(read(json::parse(text)).to_config_json("bfloat16", 1, 2) == text);
  }
}

TEST_CASE("families: what transformers 5 writes means the same") {
  json llama = file_of("llama");
  llama["rope_parameters"] = llama["rope_scaling"];
  llama["rope_parameters"]["rope_theta"] = llama["rope_theta"];
  llama.erase("rope_scaling");
  llama.erase("rope_theta");
  CHECK(read(llama).rope_scaling == read(file_of("llama")).rope_scaling);
  CHECK(read(llama).rope_theta == 500000.0);

  json gemma = file_of("gemma3_text");
  for (const char* key : {"rope_theta", "rope_local_base_freq", "rope_scaling"}) gemma.erase(key);
  gemma["layer_types"] = read(file_of("gemma3_text")).types_of_layers();
  gemma.erase("sliding_window_pattern");
  gemma["_sliding_window_pattern"] = 6;
  gemma["use_bidirectional_attention"] = false;
  gemma["rope_parameters"] = {
      {"full_attention", {{"rope_type", "linear"}, {"factor", 8.0}, {"rope_theta", 2e6}}},
      {"sliding_attention", {{"rope_type", "default"}, {"rope_theta", 3e4}}}};
  const ModelConfig config = read(gemma);
  CHECK(config.rope_theta == 2e6);
  CHECK(config.rope_local_base_freq == 3e4);
  CHECK(config.rope_scaling.factor == 8.0);
}

TEST_CASE("families: null is not the same as absent") {
  json mistral = file_of("mistral");
  mistral["sliding_window"] = nullptr;
  CHECK(read(mistral).sliding_window == 0);
  mistral.erase("sliding_window");
  CHECK(read(mistral).sliding_window == 4096);
  json gemma = file_of("gemma2");
  gemma["attn_logit_softcapping"] = nullptr;
  CHECK(read(gemma).attn_logit_softcapping == 0.0);
  gemma.erase("attn_logit_softcapping");
  CHECK(read(gemma).attn_logit_softcapping == 50.0);
}

TEST_CASE("families: what is not supported is refused by name") {
  struct Refused {
    const char* model_type;
    const char* key;
    json value;
    const char* word;
  };
  const Refused refused[] = {
      {"llama", "rope_scaling", {{"rope_type", "dynamic"}, {"factor", 2.0}}, "packed with"},
      {"llama", "rope_scaling", {{"rope_type", "longrope"}, {"factor", 2.0}}, "packed with"},
      {"llama", "rope_scaling", {{"rope_type", "linear"}}, "rope_scaling.factor"},
      {"llama", "rope_scaling", {{"rope_type", "linear"}, {"factor", -2.0}}, "factor"},
      {"llama", "rope_scaling", {{"rope_type", "default"}, {"factor", 2.0}}, "no such number"},
      {"llama",
       "rope_scaling",
       {{"rope_type", "yarn"}, {"factor", 2.0}, {"mscale", 1.0}},
       "mscale"},
      {"llama",
       "rope_scaling",
       {{"rope_type", "llama3"}, {"factor", 8.0}, {"high_freq_factor", 4.0}},
       "low_freq_factor"},
      {"llama",
       "rope_scaling",
       {{"rope_type", "llama3"},
        {"factor", 8.0},
        {"low_freq_factor", 4.0},
        {"high_freq_factor", 4.0}},
       "high_freq_factor"},
      {"llama", "sliding_window", 4096, "sliding_window"},
      {"mistral", "sliding_window", 0, "sliding_window"},
      {"mistral", "sliding_window", "all", "sliding_window"},
      {"qwen3", "attention_bias", true, "attention_bias"},
      {"qwen3", "layer_types", {"full_attention"}, "layer_types"},
      {"qwen3", "layer_types", json::array({1}), "layer_types"},
      {"gemma2", "layer_types", std::vector<std::string>(26, "chunked_attention"), "chunked"},
      {"gemma2", "hidden_activation", "gelu", "hidden_activation"},
      {"gemma2", "attn_logit_softcapping", -1.0, "attn_logit_softcapping"},
      {"gemma3_text", "attn_logit_softcapping", 50.0, "attn_logit_softcapping"},
      {"gemma3_text", "use_bidirectional_attention", true, "use_bidirectional_attention"},
      {"gemma3_text", "rope_parameters", {{"other_attention", json::object()}}, "other_attention"},
      {"phi3", "rope_scaling", {{"rope_type", "linear"}, {"factor", 2.0}}, "rope_scaling"},
      {"phi3", "partial_rotary_factor", 0.75, "partial_rotary_factor"},
  };
  for (const Refused& one : refused) {
    json document = file_of(one.model_type);
    document[one.key] = one.value;
    INFO(one.model_type << ": " << one.key << " " << one.value.dump());
    CHECK_THROWS_WITH(read(document), Contains("dir/config.json") && Contains(one.word));
  }
}

TEST_CASE("families: a model counts the keys that its windows leave") {
  ModelConfig config = read(file_of("gemma2"));
  const double all = config.training_flops({0, 10000});
  config.sliding_window = 0;
  config.layer_types.assign(26, kFullAttention);
  const auto triangle = [](double n) { return n * (n + 1.0) / 2.0; };
  const double hidden_pairs = 13.0 * triangle(10000.0 - 4096.0);
  CHECK(config.training_flops({0, 10000}) - all ==
        Approx(12.0 * 8.0 * 256.0 * hidden_pairs).epsilon(1e-12));
}

TEST_CASE("families: a job's windows and scaling are checked by the job's names") {
  ModelConfig config;
  config.model_type = "gemma3_text";
  config.vocab_size = 64;
  config.hidden_size = 32;
  config.intermediate_size = 64;
  config.num_hidden_layers = 7;
  config.num_attention_heads = 4;
  const auto complaint = [&](auto change) {
    ModelConfig wrong = config;
    change(wrong);
    try {
      wrong.resolve("model");
    } catch (const base::InputError& error) {
      return std::string(error.what());
    }
    return std::string("none");
  };
  CHECK_THAT(complaint([](ModelConfig& c) { c.sliding_window = -1; }),
             Contains("model.sliding_window is -1"));
  CHECK_THAT(complaint([](ModelConfig& c) { c.rope_scaling.rope_type = "Yarn"; }),
             Contains("model.rope_scaling.rope_type is \"Yarn\"; legal: \"default\""));
  CHECK_THAT(complaint([](ModelConfig& c) {
               c.rope_scaling.rope_type = "yarn";
               c.rope_scaling.factor = 2.0;
             }),
             Contains("model.rope_scaling.original_max_position_embeddings"));
  CHECK_THAT(complaint([](ModelConfig& c) {
               c.model_type = "gpt2";
               c.rope_scaling.rope_type = "linear";
               c.rope_scaling.factor = 2.0;
             }),
             Contains("no rotary positions"));
  CHECK_THAT(complaint([](ModelConfig& c) {
               c.model_type = "llama";
               c.sliding_window = 8;
             }),
             Contains("has no window"));
  config.resolve("model");
  CHECK(config.head_dim == 256);
  CHECK(config.sliding_window == 1024);
  const std::vector<std::string> types = config.types_of_layers();
  CHECK(std::count(types.begin(), types.end(), kFullAttention) == 1);
  CHECK(types.at(5) == kFullAttention);
}

}  // namespace
}  // namespace longspan::model
