#include <catch2/catch.hpp>
#include <nlohmann/json.hpp>

#include "longspan/base/error.h"
#include "longspan/model/lora.h"
#include "tests/model/fixture.h"

namespace longspan::model {
namespace {

using Catch::Matchers::Contains;
using nlohmann::json;

/// As PEFT 0.21 writes it.
json written_by_peft() {
  return json::parse(R"({"alora_invocation_tokens": null, "alpha_pattern": {}, "arrow_config": null,
    "auto_mapping": null, "base_model_name_or_path": "models/base", "bias": "none",
    "corda_config": null, "ensure_weight_tying": false, "eva_config": null,
    "exclude_modules": null, "fan_in_fan_out": false, "inference_mode": true,
    "init_lora_weights": true, "kasa_config": null, "layer_replication": null,
    "layers_pattern": null, "layers_to_transform": null, "loftq_config": {}, "lora_alpha": 24,
    "lora_bias": false, "lora_dropout": 0.05, "lora_ga_config": null, "megatron_config": null,
    "megatron_core": "megatron.core", "modules_to_save": null, "monteclora_config": null,
    "peft_type": "LORA", "peft_version": "0.21.2", "qalora_group_size": 16, "r": 12,
    "rank_pattern": {}, "revision": null, "target_modules": ["v_proj", "q_proj"],
    "target_parameters": null, "task_type": "CAUSAL_LM", "trainable_token_indices": null,
    "use_bdlora": null, "use_dora": false, "use_qalora": false, "use_rslora": true,
    "velora_config": null})");
}

std::string refusal(const std::string& key, const json& value) {
  json config = written_by_peft();
  config[key] = value;
  try {
    AdapterConfig::from_json(config.dump(), "a/adapter_config.json");
  } catch (const base::InputError& error) {
    return error.what();
  }
  return "";
}

TEST_CASE("adapter_config.json of PEFT is read, and ours is read again") {
  const AdapterConfig config = AdapterConfig::from_json(written_by_peft().dump(), "file");
  CHECK(config.base == "models/base");
  CHECK(config.lora.rank == 12);
  CHECK(config.lora.alpha == 24.0);
  CHECK(config.lora.dropout == 0.05);
  CHECK(config.lora.rank_stabilized);
  CHECK(config.lora.target_modules == std::vector<std::string>{"v_proj", "q_proj"});
  const std::string text = config.to_json(test::small_config(true));
  const AdapterConfig again = AdapterConfig::from_json(text, "file");
  CHECK(again.lora == config.lora);
  CHECK(again.base == config.base);
  CHECK(json::parse(text).at("lora_alpha").is_number_integer());
  CHECK(json::parse(text).at("fan_in_fan_out") == false);

  AdapterConfig all;
  all.lora.alpha = 0.5;
  const json gpt2 = json::parse(all.to_json(test::small_gpt2()));
  CHECK(gpt2.at("target_modules") == json({"c_attn", "c_proj", "c_fc"}));
  CHECK(gpt2.at("fan_in_fan_out") == true);
  CHECK(gpt2.at("lora_alpha") == 0.5);
  CHECK(gpt2.at("base_model_name_or_path").is_null());
  json word = written_by_peft();
  word["target_modules"] = "all-linear";
  CHECK(AdapterConfig::from_json(word.dump(), "file").lora.target_modules ==
        std::vector<std::string>{"all-linear"});
}

TEST_CASE("adapter_config.json: what changes an adapter and is not understood is refused by name") {
  const std::vector<std::pair<std::string, json>> refused = {
      {"peft_type", "LOHA"},
      {"task_type", "SEQ_CLS"},
      {"bias", "lora_only"},
      {"use_dora", true},
      {"use_qalora", true},
      {"lora_bias", true},
      {"init_lora_weights", "pissa"},
      {"rank_pattern", {{"q_proj", 4}}},
      {"alpha_pattern", {{"q_proj", 4}}},
      {"alora_invocation_tokens", {1}},
      {"arrow_config", {{"top_k", 2}}},
      {"exclude_modules", {"v_proj"}},
      {"layer_replication", json::array({json::array({0, 2})})},
      {"layers_to_transform", {1}},
      {"megatron_config", {{"a", 1}}},
      {"modules_to_save", {"lm_head"}},
      {"target_parameters", {"experts"}},
      {"trainable_token_indices", {7}},
      {"use_bdlora", {{"a", 1}}},
      {"velora_config", {{"a", 1}}},
      {"target_modules", ".*_proj"},
      {"target_modules", json::array()},
      {"target_modules", nullptr},
      {"r", 0},
      {"r", "8"},
      {"lora_alpha", 0},
      {"lora_dropout", 1.0},
      {"use_rslora", 1},
      {"some_new_key", true},
  };
  for (const auto& [key, value] : refused) {
    INFO(key << " = " << value.dump());
    CHECK_THAT(refusal(key, value), Contains("a/adapter_config.json: " + key));
  }
  CHECK(refusal("fan_in_fan_out", true).empty());
  CHECK(refusal("init_lora_weights", "gaussian").empty());
  CHECK(refusal("task_type", nullptr).empty());
  CHECK_THROWS_AS(AdapterConfig::from_json("[]", "file"), base::InputError);
  CHECK_THROWS_WITH(AdapterConfig::from_json("{}", "file"), Contains("peft_type is missing"));
}

}  // namespace
}  // namespace longspan::model
