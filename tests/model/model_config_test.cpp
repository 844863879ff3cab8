#include "longspan/model/model_config.h"

#include <catch2/catch.hpp>
#include <nlohmann/json.hpp>

#include "longspan/base/error.h"

namespace longspan::model {
namespace {

using Catch::Matchers::Contains;
using Catch::Matchers::EndsWith;
using Catch::Matchers::StartsWith;
using nlohmann::json;

ModelConfig middle_sized() {
  ModelConfig config;
  config.vocab_size = 50304;
  config.hidden_size = 768;
  config.intermediate_size = 2048;
  config.num_hidden_layers = 12;
  config.num_attention_heads = 12;
  config.tie_word_embeddings = true;
  return config;
}

/// What resolve says about a change to a good configuration; empty when it accepts it.
std::string complaint(void (*change)(ModelConfig&)) {
  ModelConfig config = middle_sized();
  change(config);
  try {
    config.resolve("model");
  } catch (const base::InputError& error) {
    return error.what();
  }
  return {};
}

TEST_CASE("resolve fills what follows from the rest") {
  ModelConfig config = middle_sized();
  config.resolve("model");
  CHECK(config.num_key_value_heads == 12);
  CHECK(config.head_dim == 64);
  config = middle_sized();
  config.num_key_value_heads = 4;
  config.head_dim = 96;
  config.resolve("model");
  CHECK(config.num_key_value_heads == 4);
  CHECK(config.head_dim == 96);
}

TEST_CASE("resolve names the key that does not fit") {
  CHECK_THAT(complaint([](ModelConfig& c) { c.vocab_size = 0; }), Contains("model.vocab_size"));
  CHECK_THAT(complaint([](ModelConfig& c) { c.hidden_size = -768; }),
             Contains("model.hidden_size is -768"));
  CHECK_THAT(complaint([](ModelConfig& c) { c.num_hidden_layers = std::int64_t{1} << 40; }),
             Contains("model.num_hidden_layers"));
  CHECK_THAT(complaint([](ModelConfig& c) { c.num_attention_heads = 7; }),
             Contains("model.hidden_size is 768") && Contains("num_attention_heads 7"));
  CHECK_THAT(complaint([](ModelConfig& c) { c.num_key_value_heads = 5; }),
             Contains("model.num_attention_heads is 12") && Contains("num_key_value_heads 5"));
  CHECK_THAT(complaint([](ModelConfig& c) { c.num_key_value_heads = -1; }),
             Contains("model.num_key_value_heads"));
  CHECK_THAT(complaint([](ModelConfig& c) { c.head_dim = 63; }), Contains("model.head_dim is 63"));
  CHECK_THAT(complaint([](ModelConfig& c) { c.rms_norm_eps = -1e-5; }),
             Contains("model.rms_norm_eps"));
  CHECK_THAT(complaint([](ModelConfig& c) { c.rope_theta = -1.0; }), Contains("model.rope_theta"));
  CHECK_THAT(complaint([](ModelConfig& c) { c.initializer_range = -0.1; }),
             Contains("model.initializer_range"));
  CHECK_THAT(complaint([](ModelConfig& c) { c.max_position_embeddings = -1; }),
             Contains("model.max_position_embeddings"));
  CHECK_THAT(complaint([](ModelConfig& c) {
               c.hidden_size = 2147483640;
               c.intermediate_size = 2147483640;
             }),
             Contains("2^53"));
}

TEST_CASE("parameters and FLOPs of a 124M model") {
  ModelConfig config = middle_sized();
  config.resolve("model");
  const std::int64_t layer = 4 * 768 * 768 + 3 * 768 * 2048;
  const std::int64_t table = 50304 * 768;
  CHECK(config.parameters() == 12 * (layer + 2 * 768) + 768 + table);
  config.tie_word_embeddings = false;
  CHECK(config.parameters() == 12 * (layer + 2 * 768) + 768 + 2 * table);

  // One document of 1024 tokens. Tying saves memory and no work.
  const double matmuls = 6.0 * 1024.0 * static_cast<double>(12 * layer + table);
  const double attention = 6.0 * 12.0 * 768.0 * 1024.0 * 1025.0;
  CHECK(config.training_flops({0, 1024}) == Approx(matmuls + attention).epsilon(1e-14));
  config.tie_word_embeddings = true;
  CHECK(config.training_flops({0, 1024}) == Approx(matmuls + attention).epsilon(1e-14));
}

TEST_CASE("config.json is read back as it was written") {
  ModelConfig config = middle_sized();
  config.num_key_value_heads = 4;
  config.head_dim = 32;
  config.rms_norm_eps = 3e-6;
  config.rope_theta = 500000.0;
  config.max_position_embeddings = 8192;
  config.initializer_range = 0.01;
  config.resolve("model");
  const std::string text = config.to_config_json("bfloat16", 1, -1);
  const json written = json::parse(text);
  CHECK(written.at("architectures") == json::array({"LlamaForCausalLM"}));
  CHECK(written.at("torch_dtype") == "bfloat16");
  CHECK(written.at("bos_token_id") == 1);
  CHECK(written.at("eos_token_id").is_null());
  const ModelConfig read = ModelConfig::from_config_json(text, "config.json");
  CHECK(read.to_config_json("bfloat16", 1, -1) == text);
  CHECK(read.tie_word_embeddings == true);
}

/// GPT-2's sizes as transformers stores them.
json gpt2_file() {
  return json::parse(R"({"activation_function": "gelu_new", "architectures": ["GPT2LMHeadModel"],
    "attn_pdrop": 0.1, "bos_token_id": 50256, "embd_pdrop": 0.1, "eos_token_id": 50256,
    "initializer_range": 0.02, "layer_norm_epsilon": 1e-05, "model_type": "gpt2", "n_ctx": 1024,
    "n_embd": 768, "n_head": 12, "n_inner": null, "n_layer": 12, "n_positions": 1024,
    "reorder_and_upcast_attn": false, "resid_pdrop": 0.1, "scale_attn_weights": true,
    "summary_activation": null, "summary_first_dropout": 0.1, "summary_proj_to_labels": true,
    "summary_type": "cls_index", "summary_use_proj": true,
    "task_specific_params": {"text-generation": {"do_sample": true, "max_length": 50}},
    "vocab_size": 50257})");
}

TEST_CASE("GPT-2's config.json: read, counted, written as it is read") {
  const ModelConfig config = ModelConfig::from_config_json(gpt2_file().dump(), "c.json");
  CHECK(config.model_type == "gpt2");
  CHECK(config.intermediate_size == 3072);
  CHECK(config.num_key_value_heads == 12);
  CHECK(config.head_dim == 64);
  CHECK(config.tie_word_embeddings == true);
  CHECK(config.has_learned_positions());
  CHECK(config.parameters() == 124439808);  // as transformers counts them
  const double matmuls = 12.0 * 12.0 * 768.0 * 768.0 + 50257.0 * 768.0;
  const double attention = 6.0 * 12.0 * 768.0 * (1000.0 * 1001.0 + 24.0 * 25.0);
  CHECK(config.training_flops({0, 1000, 1000, 1024}) ==
        Approx(6.0 * 1024.0 * matmuls + attention).epsilon(1e-14));

  const std::string text = config.to_config_json("float32", 50256, 50256);
  const json written = json::parse(text);
  for (const char* key : {"resid_pdrop", "embd_pdrop", "attn_pdrop"}) CHECK(written.at(key) == 0.0);
  CHECK(written.at("n_inner") == 3072);
  const ModelConfig read = ModelConfig::from_config_json(text, "c.json");
  CHECK(read.to_config_json("float32", 50256, 50256) == text);
}

TEST_CASE("GPT-2's config.json that asks for more is refused by its own names") {
  const std::pair<const char*, json> refused[] = {
      {"architectures", json::array({"GPT2DoubleHeadsModel"})},
      {"activation_function", "relu"},
      {"scale_attn_weights", false},
      {"scale_attn_by_inverse_layer_idx", true},
      {"add_cross_attention", true},
      {"tie_word_embeddings", false},
      {"n_ctx", 512},
      {"n_embd", 770},
      {"n_embd", nullptr},
      {"n_embd", std::int64_t{1} << 62},
      {"n_inner", 0},
      {"n_positions", -1},
      {"n_layer", 0},
      {"layer_norm_epsilon", 0.0},
      {"rope_theta", 10000.0},
      {"n_experts", 8},
  };
  for (const auto& [key, value] : refused) {
    json document = gpt2_file();
    document[key] = value;
    INFO(document.dump());
    CHECK_THROWS_WITH(ModelConfig::from_config_json(document.dump(), "dir/config.json"),
                      Contains("dir/config.json") && Contains(key));
  }
}

/// Qwen2.5's 0.5B as its file has it.
json qwen2_file() {
  return json::parse(R"({"architectures": ["Qwen2ForCausalLM"], "attention_dropout": 0.0,
    "bos_token_id": 151643, "eos_token_id": 151643, "hidden_act": "silu", "hidden_size": 896,
    "initializer_range": 0.02, "intermediate_size": 4864, "max_position_embeddings": 32768,
    "max_window_layers": 24, "model_type": "qwen2", "num_attention_heads": 14,
    "num_hidden_layers": 24, "num_key_value_heads": 2, "rms_norm_eps": 1e-06,
    "rope_theta": 1000000.0, "sliding_window": 32768, "tie_word_embeddings": true,
    "torch_dtype": "bfloat16", "transformers_version": "4.40.1", "use_cache": true,
    "use_mrope": false, "use_sliding_window": false, "vocab_size": 151936})");
}

TEST_CASE("Qwen2's config.json: read, counted, written as it is read, refused by name") {
  const ModelConfig config = ModelConfig::from_config_json(qwen2_file().dump(), "c.json");
  CHECK(config.model_type == "qwen2");
  CHECK(config.head_dim == 64);
  CHECK(config.rope_theta == 1e6);
  CHECK(config.parameters() == 494032768);  // as transformers counts them
  const std::string text = config.to_config_json("bfloat16", 151643, 151643);
  const json written = json::parse(text);
  CHECK(written.at("architectures") == json::array({"Qwen2ForCausalLM"}));
  const ModelConfig read = ModelConfig::from_config_json(text, "c.json");
  CHECK(read.to_config_json("bfloat16", 151643, 151643) == text);

  json newer = qwen2_file();
  newer["layer_types"] = std::vector<std::string>(24, "full_attention");
  CHECK_NOTHROW(ModelConfig::from_config_json(newer.dump(), "c.json"));
  auto windowed = std::vector<std::string>(24, "full_attention");
  windowed.back() = "sliding_attention";
  const std::pair<const char*, json> refused[] = {
      {"layer_types", windowed},
      {"use_mrope", true},
      {"attention_bias", true},
      {"num_experts", 60},
  };
  for (const auto& [key, value] : refused) {
    json document = qwen2_file();
    document[key] = value;
    INFO(document.dump());
    CHECK_THROWS_WITH(ModelConfig::from_config_json(document.dump(), "dir/config.json"),
                      Contains("dir/config.json") && Contains(key));
  }
}

TEST_CASE("families: each has a word, a line and its defaults") {
  CHECK(model_types().size() == 8);
  CHECK(model_types().front().first == ModelConfig().model_type);
  CHECK_THAT(family_defaults("rms_norm_eps"), StartsWith("1e-05 (llama), 1e-06 (qwen2), "));
  CHECK_THAT(family_defaults("max_position_embeddings"),
             StartsWith("2048 (llama), 1024 (gpt2), 32768 (qwen2), "));
  CHECK_THAT(family_defaults("tie_word_embeddings"),
             StartsWith("false (llama), always true (gpt2), false (qwen2), ") &&
                 EndsWith("true (gemma3_text)"));
  CHECK(family_defaults("head_dim") == "128 (qwen3), 256 (gemma2), 256 (gemma3_text)");
  ModelConfig config = middle_sized();
  config.model_type = "gpt3";
  CHECK_THROWS_WITH(config.resolve("model"), Contains("model.model_type is \"gpt3\"; legal: "));
  CHECK_THROWS_AS(config.parameters(), base::InternalError);
}

json hugging_face() {
  return json::parse(R"({"architectures": ["LlamaForCausalLM"], "model_type": "llama",
    "vocab_size": 100, "hidden_size": 24, "intermediate_size": 40, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": null, "head_dim": null,
    "hidden_act": "silu", "attention_bias": false, "rope_scaling": null, "use_cache": true,
    "transformers_version": "4.40.0", "torch_dtype": "float32"})");
}

TEST_CASE("config.json of transformers, old and new, is understood") {
  ModelConfig config = ModelConfig::from_config_json(hugging_face().dump(), "c.json");
  CHECK(config.head_dim == 6);
  CHECK(config.num_key_value_heads == 4);
  CHECK(config.rms_norm_eps == 1e-6);
  CHECK(config.rope_theta == 10000.0);
  json newer = hugging_face();
  newer["rope_parameters"] = {{"rope_theta", 5000.0}, {"rope_type", "default"}};
  config = ModelConfig::from_config_json(newer.dump(), "c.json");
  CHECK(config.rope_theta == 5000.0);
}

TEST_CASE("config.json that asks for more than this program can do is refused by name") {
  const std::pair<const char*, json> refused[] = {
      {"model_type", "qwen9"},
      {"model_type", nullptr},
      {"architectures", json::array({"LlamaForSequenceClassification"})},
      {"hidden_act", "gelu"},
      {"attention_bias", true},
      {"mlp_bias", true},
      {"attention_dropout", 0.1},
      {"rope_scaling", {{"rope_type", "llama3"}, {"factor", 8.0}}},
      {"rope_scaling", {{"type", "linear"}, {"factor", 0.0}}},
      {"rope_parameters", {{"rope_type", 3}}},
      {"rope_parameters", "default"},
      {"quantization_config", {{"bits", 4}}},
      {"vocab_size", nullptr},
      {"vocab_size", "100"},
      {"hidden_size", 24.5},
      {"num_attention_heads", 5},
      {"rms_norm_eps", "small"},
      {"rms_norm_eps", -1.0},
      {"tie_word_embeddings", 1},
      {"sliding_window", 4096},
      {"rms_norm_eps", 0.0},
  };
  for (const auto& [key, value] : refused) {
    json document = hugging_face();
    document[key] = value;
    INFO(document.dump());
    CHECK_THROWS_WITH(ModelConfig::from_config_json(document.dump(), "dir/config.json"),
                      Contains("dir/config.json") && Contains(key));
  }
  for (const char* text : {"", "{", "[]", "3"}) {
    CHECK_THROWS_AS(ModelConfig::from_config_json(text, "c.json"), base::InputError);
  }
}

}  // namespace
}  // namespace longspan::model
