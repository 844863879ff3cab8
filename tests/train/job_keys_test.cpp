// Every key of the job file, and the member that it is bound to.
#include <catch2/catch.hpp>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <vector>

#include "longspan/base/declarations.h"
#include "longspan/train/job.h"
#include "tests/train/job_text.h"

namespace longspan::train {
namespace {

using Catch::Matchers::Contains;
using Catch::Matchers::EndsWith;
using nlohmann::json;
using test::read;
using test::refusal;
using test::refusal_of;
using test::refusal_with;
using test::smallest;

}  // namespace

TEST_CASE("every key is bound to its own member") {
  // A value of its own for every key: one that were bound elsewhere, or twice, would not return.
  // Keys that only another family has are in the next test.
  const json all = json::parse(R"({
    "run": {"name": "n", "output_dir": "o", "seed": 2, "device": "cpu",
            "device_profile": "h200", "deterministic": false, "threads": 3},
    "model": {"model_type": "llama", "vocab_size": 300, "hidden_size": 96,
      "intermediate_size": 100, "num_hidden_layers": 5, "num_attention_heads": 6,
      "num_key_value_heads": 2, "head_dim": 8, "max_position_embeddings": 4096,
      "rms_norm_eps": 1e-6, "rope_theta": 5e5, "tie_word_embeddings": true,
      "initializer_range": 0.03, "rope_scaling": {"rope_type": "llama3", "factor": 3.0,
        "original_max_position_embeddings": 1024, "low_freq_factor": 1.5,
        "high_freq_factor": 2.5}},
    "adapter": {"type": "none", "base_weights": "full", "rank": 16, "alpha": 32.0, "dropout": 0.0,
                "target_modules": "all-linear", "rank_stabilized": false},
    "velora": {"target_modules": "none", "groups": 32, "scale": 1.0},
    "column_row_sampling": {"target_modules": ["v_proj"], "ratio": 0.25},
    "data": {"train": ["t1", "t2"], "weights": [3.0, 0.5], "validation": ["v"], "validation_fraction": 0.0,
      "tokenizer": "bytes", "raw_type": "uint16", "document_end": 299, "packing": "streamed",
      "shuffle": false},
    "optimizer": {"name": "adamw", "learning_rate": 0.01, "beta1": 0.8, "beta2": 0.99,
      "epsilon": 1e-7, "weight_decay": 0.2, "decay_norms_and_embeddings": true,
      "max_grad_norm": 2.0, "moments": "bf16", "offload": "host",
      "galore": {"rank": 128, "interval": 200, "scale": 0.25},
      "blockllm": {"active": 0.1, "interval": 1000, "patience": 100},
      "zeroth_order": {"perturbation": 0.001, "rank": 2, "interval": 50}},
    "schedule": {"name": "wsd", "warmup_steps": 11, "decay_steps": 12, "min_ratio": 0.3},
    "training": {"steps": 1000, "tokens_per_step": 2048, "micro_batch_tokens": 1024,
      "precision": "bf16", "validation_every": 13, "validation_tokens": 14,
      "max_skipped_steps": 15},
    "memory": {"limit": 4194304, "activation_checkpointing": "0-2: block",
               "saved_inputs": {"block_input": "int8+host", "block_middle": "3: int8_rows",
                 "attention_qkv": "3: host", "attention_output": "3: int8", "mlp_up": "full",
                 "rounding": "stochastic", "policy": "by_slot", "host_limit": "auto"},
               "mini_sequence": {"mlp": 3, "lm_head": "64MiB"}},
    "parallel": {"data": 16, "sequence": "2x3", "timeout_seconds": 30.5, "zero_stage": 2,
                 "overlap": false, "planner": "fixed", "costs": "auto"},
    "checkpoint": {"every": 17, "keep_last": 18, "resume": "never"},
    "logging": {"every": 19, "tensorboard": false, "peak_tflops": 0.5}})");
  const Job job = read(all.dump());
  const std::string text = to_json(job);
  CHECK(json::parse(text) == all);
  CHECK(to_json(read(text)) == text);
  CHECK(job.schedule.decay_steps == 12);
  CHECK(job.data.weights == std::vector<double>{3.0, 0.5});
  CHECK(job.training.validation_tokens == 14);
  CHECK(job.logging.every == 19);
  CHECK(job.optimizer.max_grad_norm == 2.0);
  CHECK(job.optimizer.moments == "bf16");
  CHECK(job.column_row_sampling.ratio == 0.25);
  CHECK(job.draws_by_token());
  CHECK(memory_policy(job).rounds_at_random());
}

TEST_CASE("the rounding of codes is one of two, and of codes") {
  CHECK_FALSE(memory_policy(read(smallest().dump())).rounds_at_random());
  CHECK_THAT(refusal_of({"memory.saved_inputs.rounding=stochastic"}),
             Contains("memory.saved_inputs.rounding is \"stochastic\"") && Contains("8-bit codes"));
  CHECK_THAT(refusal_of({"memory.saved_inputs.rounding=up"}),
             Contains("memory.saved_inputs.rounding") && Contains("\"nearest\""));
}

TEST_CASE("keys of BlockLLM are bound to their own members, and of it alone") {
  json blocks = smallest();
  blocks["optimizer"].update(json::parse(
      R"({"name": "blockllm", "blockllm": {"active": 0.25, "interval": 9, "patience": 0}})"));
  const Job job = read(blocks.dump());
  CHECK(job.optimizer.block_active == 0.25);
  CHECK(job.optimizer.block_interval == 9);
  CHECK(job.optimizer.block_patience == 0);
  CHECK(json::parse(to_json(job))["optimizer"]["blockllm"] == blocks["optimizer"]["blockllm"]);
  for (const char* const setting : {"active=0.5", "interval=7", "patience=7"}) {
    const std::string key = std::string("optimizer.blockllm.") + setting;
    CHECK_THAT(refusal_of({key}),
               Contains(key.substr(0, key.find('='))) && Contains("optimizer.name is \"adamw\""));
  }
  for (const char* const setting : {"active=0", "active=1.5", "interval=-1", "patience=-1"}) {
    const std::string key = std::string("optimizer.blockllm.") + setting;
    CHECK_THAT(refusal_of({key}), Contains(key.substr(0, key.find('=')) + " is"));
  }
}

TEST_CASE("keys of GaLore are bound to their own members") {
  json galore = smallest();
  galore["optimizer"].update(
      json::parse(R"({"name": "galore", "galore": {"rank": 7, "interval": 9, "scale": 0.5}})"));
  const json written = json::parse(to_json(read(galore.dump())));
  CHECK(written["optimizer"]["galore"] == galore["optimizer"]["galore"]);
}

TEST_CASE("keys of compressed gradients, what they must fit, and what they save") {
  Job job = read(smallest().dump());
  const double exact = job.training_flops({0, 10});
  CHECK_FALSE(job.velora.is_on());
  job.velora = {{"v_proj", "down_proj"}, 4, 1.5};
  const Job again = read(to_json(job));
  CHECK(again.velora == job.velora);
  double saved = 0;
  for (const auto& module : model::targeted_modules(job.model, job.velora.target_modules)) {
    const auto inputs = static_cast<double>(module.inputs);
    saved += 2.0 * static_cast<double>(module.outputs) * (inputs - 4.0) - 2.0 * inputs;
  }
  CHECK(saved > 0.0);
  CHECK(again.training_flops({0, 10}) == Approx(exact - 10.0 * saved).epsilon(1e-12));

  CHECK_THAT(refusal_with("velora", "groups", 4), Contains("velora.target_modules is \"none\""));
  CHECK_THAT(refusal_with("velora", "groups", 0), Contains("velora.groups"));
  CHECK_THAT(refusal_with("velora", "scale", 0), Contains("velora.scale"));
  CHECK_THAT(refusal_with("velora", "target_modules", json::array({"c_attn"})),
             Contains("velora.target_modules names \"c_attn\""));
  CHECK_THAT(refusal_with("velora", "target_modules", json::array({"none", "q_proj"})),
             Contains("velora.target_modules names \"none\""));
  CHECK_THAT(refusal_with("velora", "velora_layers", 1), Contains("velora.target_modules"));
}

TEST_CASE("keys of zeroth-order optimizers are bound to their own members") {
  json lozo = smallest();
  lozo["optimizer"].update(json::parse(
      R"({"name": "lozo", "zeroth_order": {"perturbation": 0.01, "rank": 7, "interval": 9}})"));
  const json written = json::parse(to_json(read(lozo.dump())));
  CHECK(written["optimizer"]["zeroth_order"] == lozo["optimizer"]["zeroth_order"]);
}

TEST_CASE("keys of adapters are bound to their own members, and need a base") {
  Job job = read(smallest().dump());
  job.adapter = {"lora", "a", "nf4", {7, 3.5, 0.25, {"q_proj", "v_proj"}, true}};
  const std::string text = to_json(job);
  const json adapter = json::parse(text).at("adapter");
  CHECK(adapter == json::parse(R"({"type": "lora", "from": "a", "base_weights": "nf4",
    "rank": 7, "alpha": 3.5, "dropout": 0.25, "target_modules": ["q_proj", "v_proj"],
    "rank_stabilized": true})"));
  Job again;
  base::Declarations declarations("", "");
  declare(again, declarations);
  declarations.read_text(text, "job");
  CHECK(to_json(again) == text);
  CHECK(again.adapter.lora == job.adapter.lora);
  CHECK(again.trained_parameters() == model::adapter_parameters(again.model, again.adapter.lora));

  CHECK_THAT(refusal_with("adapter", "type", "lora"), Contains("model.from is not given"));
  CHECK_THAT(refusal_with("adapter", "rank", 4), Contains("adapter.type is \"none\""));
  CHECK_THAT(refusal_with("adapter", "rank", 0), Contains("adapter.rank"));
  CHECK_THAT(refusal_with("adapter", "dropout", 1.0), Contains("adapter.dropout"));
  CHECK_THAT(refusal_with("adapter", "lora_alpha", 8), Contains("adapter.alpha"));
  for (const json& wrong : {json("q_proj"), json::array(), json({1}), json({""})}) {
    CHECK_THAT(refusal_with("adapter", "target_modules", wrong),
               Contains("adapter.target_modules") && Contains("\"all-linear\" or names"));
  }
}

TEST_CASE("keys of planned steps are bound to their own members") {
  json planned = smallest();
  planned["parallel"] = {{"planner", "per_micro_batch"}, {"costs", "costs.json"}};
  planned["memory"] = {{"activation_checkpointing", "auto"}};
  const Job job = read(planned.dump());
  CHECK(job.parallel.planner == "per_micro_batch");
  CHECK(job.parallel.costs == "costs.json");
  CHECK(job.memory.chooses_checkpointing());
  // What belongs to no group keeps least.
  CHECK(memory_policy(job).checkpointing(0) == model::Checkpointing::kBlock);
  CHECK(to_json(read(to_json(job))) == to_json(job));
  CHECK_THAT(refusal_of({"memory.activation_checkpointing=auto"}),
             Contains("memory.activation_checkpointing is \"auto\"") && Contains("\"flexible\""));
}

TEST_CASE("keys that only some families have are bound to their own members") {
  json gemma = smallest();
  gemma["model"].update(json::parse(R"({"model_type": "gemma3_text", "head_dim": 6,
    "rope_local_base_freq": 3000.0, "sliding_window": 77, "query_pre_attn_scalar": 9.0,
    "final_logit_softcapping": 21.0, "rope_scaling": {"rope_type": "yarn", "factor": 3.0,
    "original_max_position_embeddings": 1024, "beta_fast": 31.0, "beta_slow": 2.0,
    "attention_factor": 1.25}})"));
  json written = json::parse(to_json(read(gemma.dump())));
  for (const auto& [key, value] : gemma.at("model").items()) CHECK(written["model"][key] == value);
  gemma["model"]["model_type"] = "gemma2";
  gemma["model"]["attn_logit_softcapping"] = 11.0;
  gemma["model"].erase("rope_local_base_freq");
  written = json::parse(to_json(read(gemma.dump())));
  for (const auto& [key, value] : gemma.at("model").items()) CHECK(written["model"][key] == value);
  CHECK_THAT(refusal_of({"model.sliding_window=5"}),
             Contains("model.sliding_window is 5, but model_type \"llama\" has no window"));
  CHECK_THAT(refusal_of({"model.rope_scaling.rope_type=yarn"}),
             Contains("model.rope_scaling.factor is missing"));
}

TEST_CASE("a job of GPT-2 has the family's keys and defaults, and no others") {
  json gpt2 = smallest();
  gpt2["model"]["model_type"] = "gpt2";
  Job job = read(gpt2.dump());
  CHECK(job.model.layer_norm_epsilon == 1e-5);
  CHECK(job.model.max_position_embeddings == 1024);
  CHECK(job.model.tie_word_embeddings == true);
  CHECK(job.model.rms_norm_eps == 0.0);
  CHECK(job.model.rope_theta == 0.0);
  const std::string resolved = to_json(job);
  CHECK(to_json(read(resolved)) == resolved);
  gpt2["model"].update(
      {{"layer_norm_epsilon", 1e-6}, {"max_position_embeddings", 200}, {"head_dim", 16}});
  job = read(gpt2.dump());
  CHECK(job.model.layer_norm_epsilon == 1e-6);
  const json written = json::parse(to_json(job)).at("model");
  for (const auto& [key, value] : gpt2.at("model").items()) CHECK(written.at(key) == value);

  const std::vector<std::pair<std::string, std::string>> refused = {
      {"rope_theta=10000", "model.rope_theta is 10000.0, but model_type \"gpt2\" has no such"},
      {"rms_norm_eps=1e-5", "model.rms_norm_eps is 1e-05, but model_type \"gpt2\" has no such"},
      {"num_key_value_heads=2", "model.num_key_value_heads is 2; model_type \"gpt2\" has no other"},
      {"head_dim=8", "model.head_dim is 8; model_type \"gpt2\" has no other"},
      {"tie_word_embeddings=false", "model.tie_word_embeddings is false, but the head of"},
      {"max_position_embeddings=127", "training.micro_batch_tokens is 128"},
  };
  for (const auto& [setting, message] : refused) {
    INFO(setting);
    CHECK_THAT(refusal(gpt2.dump(), {"model." + setting}), Contains(message));
  }
  CHECK_THAT(refusal_of({"model.layer_norm_epsilon=1e-5"}),
             Contains("model.layer_norm_epsilon is 1e-05, but model_type \"llama\" has no such"));
}

TEST_CASE("a resolved job is complete and reads as the same") {
  const std::string text = to_json(read(smallest().dump(), {"memory.limit=1GiB"}));
  CHECK(to_json(read(text)) == text);
  const json resolved = json::parse(text);
  CHECK(resolved.at("model").at("head_dim") == 16);
  CHECK(resolved.at("memory").at("limit") == 1073741824);
  CHECK(resolved.at("run").at("threads") == "auto");
  CHECK(resolved.at("logging").at("peak_tflops") == "auto");
  // Every key of the schema is there, but those that the family does not have, or that mean
  // nothing where they are left out.
  const std::set<std::string> absent = {"layer_norm_epsilon",
                                        "from",
                                        "raw_type",
                                        "weights",
                                        "rope_local_base_freq",
                                        "sliding_window",
                                        "query_pre_attn_scalar",
                                        "attn_logit_softcapping",
                                        "final_logit_softcapping"};
  const json schema = json::parse(job_schema());
  for (const auto& [section, description] : schema.at("properties").items()) {
    if (section == "$schema") continue;
    for (const auto& [key, unused] : description.at("properties").items()) {
      INFO(section << "." << key);
      CHECK(resolved.at(section).contains(key) != absent.contains(key));
    }
  }
}

}  // namespace longspan::train
