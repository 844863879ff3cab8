// The job file of clips: every key and the member that it is bound to, and what is refused.
#include "longspan/train/clip_job.h"

#include <catch2/catch.hpp>
#include <nlohmann/json.hpp>

#include "longspan/base/error.h"
#include "tests/support/temporary_directory.h"

namespace longspan::train {
namespace {

using Catch::Matchers::Contains;
using nlohmann::json;

/// No key that has a default.
json smallest() {
  return {{"run", {{"output_dir", "out"}}},
          {"model",
           {{"model_type", "spatial_temporal"},
            {"hidden_size", 32},
            {"num_hidden_layers", 2},
            {"num_attention_heads", 4},
            {"intermediate_size", 64}}},
          {"data", {{"clips", "sprites"}}},
          {"optimizer", {{"learning_rate", 1e-3}}},
          {"training", {{"steps", 100}, {"clips_per_step", 8}, {"clips_per_micro_batch", 2}}}};
}

AnyJob read(const json& job, const std::vector<std::string>& overrides = {}) {
  const test::TemporaryDirectory directory;
  return read_any_job(directory.write("job.json", job.dump()), overrides);
}

std::string refusal(const json& job, const std::vector<std::string>& overrides = {}) {
  try {
    read(job, overrides);
  } catch (const base::InputError& error) {
    return error.what();
  }
  return "accepted";
}
std::string refusal_of(const std::vector<std::string>& overrides) {
  return refusal(smallest(), overrides);
}

TEST_CASE("clips: every key is bound to its own member") {
  // A value of its own for every key: one that were bound elsewhere, or twice, would not return.
  const json all = json::parse(R"({
    "run": {"name": "n", "output_dir": "o", "seed": 2, "device": "cpu", "device_profile": "h200",
            "deterministic": false, "threads": 3},
    "model": {"model_type": "spatial_temporal", "channels": 5, "patch_size": 4, "hidden_size": 48,
      "num_hidden_layers": 7, "num_attention_heads": 6, "intermediate_size": 100,
      "num_classes": 11, "class_tokens": 9, "rope_theta": 500.0, "norm_epsilon": 1e-5,
      "initializer_range": 0.03},
    "data": {"clips": "sprites", "validation_clips": 13,
      "sprites": {"clips": 17, "shapes": ["2x8x16", "3x8x8"], "most_sprites": 2, "speed": 0.5}},
    "optimizer": {"name": "adamw", "learning_rate": 0.01, "beta1": 0.8, "beta2": 0.99,
      "epsilon": 1e-7, "weight_decay": 0.2, "decay_norms_and_embeddings": true,
      "max_grad_norm": 2.0, "moments": "bf16", "offload": "host",
      "galore": {"rank": 128, "interval": 200, "scale": 0.25},
      "blockllm": {"active": 0.1, "interval": 1000, "patience": 100},
      "zeroth_order": {"perturbation": 0.001, "rank": 2, "interval": 50}},
    "schedule": {"name": "wsd", "warmup_steps": 11, "decay_steps": 12, "min_ratio": 0.3},
    "training": {"steps": 1000, "objective": "rectified_flow", "clips_per_step": 24,
      "clips_per_micro_batch": 6, "precision": "bf16", "validation_every": 14,
      "max_skipped_steps": 15},
    "memory": {"limit": 4194304, "activation_checkpointing": "block"},
    "parallel": {"data": 4, "sequence": 2, "sequence_mode": "dynamic", "sequence_placement": "places", "timeout_seconds": 30.5,
      "zero_stage": 3, "overlap": false},
    "checkpoint": {"every": 16, "keep_last": 18, "resume": "never"},
    "logging": {"every": 19, "tensorboard": false, "peak_tflops": 2.5}})");
  const ClipJob job = std::get<ClipJob>(read(all));
  CHECK(json::parse(to_json(job)) == all);
  CHECK(job.objective() == ClipObjective::kRectifiedFlow);
  CHECK(job.sharing().sharding == model::ClipSharding::kDynamic);
  CHECK(job.sharing().placement == model::ClipPlacement::kPlaces);
  CHECK(job.keeps_inputs_alone());
  CHECK_FALSE(job.model.is_causal);
  CHECK(sprite_shapes(job) == std::vector<data::ClipShape>{{2, 5, 8, 16}, {3, 5, 8, 8}});
}

TEST_CASE("clips: which kind of job it is, file and overrides say") {
  const ClipJob job = std::get<ClipJob>(read(smallest()));
  CHECK(job.data.makes_sprites());
  CHECK(job.model.is_causal);
  CHECK(job.group_ranks == 0);
  json without = smallest();
  without["model"].erase("model_type");
  CHECK_THAT(refusal(without), Contains("data.clips"));  // a job of texts has no such key
  CHECK_NOTHROW(std::get<ClipJob>(read(without, {"model.model_type=spatial_temporal"})));
  CHECK_THAT(refusal_of({"model.model_type=llama"}), Contains("data.clips"));
  const test::TemporaryDirectory directory;
  const std::string path = directory.write("job.json", smallest().dump());
  CHECK_THROWS_WITH(read_job(path, {}), Contains("spatial_temporal") && Contains("texts"));
}

TEST_CASE("clips: what does not fit is refused with the key and what is legal") {
  CHECK_THAT(refusal_of({"model.num_attention_heads=5"}), Contains("model.num_attention_heads"));
  CHECK_THAT(refusal_of({"training.clips_per_step=9"}),
             Contains("training.clips_per_step is 9") && Contains("clips_per_micro_batch"));
  CHECK_THAT(refusal_of({R"(data.sprites.shapes=["16x32"])"}),
             Contains("\"16x32\"") && Contains("16x32x32"));
  CHECK_THAT(refusal_of({R"(data.sprites.shapes=["16x32x0"])"}), Contains("16x32x0"));
  CHECK_THAT(refusal_of({R"(data.sprites.shapes=["16x32x32x3"])"}), Contains("16x32x32x3"));
  CHECK_THAT(refusal_of({R"(data.clips=["a.npy"])", "data.sprites.speed=2"}),
             Contains("data.sprites.speed"));
  CHECK_THAT(refusal_of({"training.validation_every=2"}), Contains("data.validation_clips"));
  CHECK_THAT(refusal_of({"training.objective=diffusion"}), Contains("rectified_flow"));
  CHECK_THAT(refusal_of({"memory.activation_checkpointing=auto"}), Contains("\"block\""));
  CHECK_THAT(refusal_of({"parallel.sequence_mode=dsp"}), Contains("ulysses_flattened"));
  CHECK_THAT(refusal_of({"parallel.sequence_placement=time"}), Contains("alternating"));
  CHECK_THAT(refusal_of({"parallel.sequence_mode=ring", "parallel.sequence_placement=places"}),
             Contains("\"places\"") && Contains("\"ring\"") && Contains("\"auto\""));
  CHECK_NOTHROW(read(smallest(), {"parallel.sequence_mode=ring"}));
  CHECK_THAT(refusal_of({"optimizer.name=galore", "optimizer.galore.rank=64"}),
             Contains("model.hidden_size, which is 32"));
  CHECK_THAT(refusal_of({"optimizer.name=mezo", "memory.activation_checkpointing=block"}),
             Contains("no backward"));
  CHECK_THAT(refusal_of({"schedule.decay_steps=3"}), Contains("schedule.decay_steps"));
  CHECK_THAT(refusal_of({"velora.groups=4"}), Contains("velora"));
}

TEST_CASE("clips: every way to share them has its word") {
  const auto sharing_of = [](const std::string& mode, const std::string& placement) {
    return std::get<ClipJob>(read(smallest(), {"parallel.sequence_mode=" + mode,
                                               "parallel.sequence_placement=" + placement}))
        .sharing();
  };
  CHECK_FALSE(sharing_of("dynamic", "auto").placement);
  using model::ClipPlacement;
  for (const ClipPlacement placement :
       {ClipPlacement::kAlternating, ClipPlacement::kFrames, ClipPlacement::kPlaces}) {
    CHECK(sharing_of("dynamic", placement_name(placement)).placement == placement);
  }
  CHECK(sharing_of("ulysses", "auto").sharding == model::ClipSharding::kOneAxis);
  CHECK(sharing_of("ulysses_flattened", "auto").sharding == model::ClipSharding::kFlattened);
  CHECK(sharing_of("ring", "auto").sharding == model::ClipSharding::kRing);
}

TEST_CASE("clips: help, schema and tables name every section") {
  const std::string help = clip_job_help();
  const json schema = json::parse(clip_job_schema());
  for (const char* section : {"run", "model", "data", "optimizer", "schedule", "training", "memory",
                              "parallel", "checkpoint", "logging"}) {
    CHECK_THAT(help, Contains(std::string("\n") + section + ": "));
    CHECK(schema.at("properties").contains(section));
    CHECK_THAT(clip_job_markdown(), Contains(std::string("`") + section + "`"));
  }
  CHECK(schema.at("required") == json({"run", "model", "data", "optimizer", "training"}));
}

}  // namespace
}  // namespace longspan::train
