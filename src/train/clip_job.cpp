#include "longspan/train/clip_job.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <iterator>
#include <nlohmann/json.hpp>
#include <optional>
#include <string_view>
#include <utility>

#include "longspan/backend/cuda.h"
#include "longspan/base/declarations.h"
#include "longspan/base/error.h"
#include "train/common_keys.h"
#include "train/key_limits.h"
#include "train/optimizer_keys.h"

namespace longspan::train {
namespace {

using base::Declarations;
using base::InputError;

/// What a job calls one of several ways, and what it is told to mean.
template <typename Way>
struct Named {
  Way way;
  const char* name;
  const char* meaning;
};

constexpr Named<model::ClipSharding> kSharings[] = {
    {model::ClipSharding::kDynamic, "dynamic",
     "frames while attention is within them, places while it is along time, with one exchange in "
     "between"},
    {model::ClipSharding::kOneAxis, "ulysses",
     "places; attention within frames exchanges tokens for heads"},
    {model::ClipSharding::kFlattened, "ulysses_flattened",
     "all tokens evenly; both attentions exchange them for heads"},
    {model::ClipSharding::kRing, "ring", "places; within frames keys and values go around"},
};

constexpr Named<model::ClipPlacement> kPlacements[] = {
    {model::ClipPlacement::kAlternating, "alternating",
     "as the attention of each block needs them"},
    {model::ClipPlacement::kFrames, "frames",
     "by frames; exchanges are before and behind attention along time"},
    {model::ClipPlacement::kPlaces, "places",
     "by places; exchanges are before and behind attention within frames"},
};
constexpr const char* kBestPlacement = "auto";

template <typename Ways>
std::vector<base::Key::Word> words_of(const Ways& ways) {
  std::vector<base::Key::Word> words;
  for (const auto& one : ways) words.push_back({one.name, one.meaning});
  return words;
}

std::vector<base::Key::Word> placement_words() {
  std::vector<base::Key::Word> words = words_of(kPlacements);
  words.insert(words.begin(), {kBestPlacement,
                               "of each micro-batch the one that makes ranks wait for each other "
                               "least, \"alternating\" where that is little"});
  return words;
}

void declare_sizes(model::ClipConfig& model, Declarations& keys) {
  keys.integer("model.channels", model.channels, "Numbers of a point of a frame, such as colours.")
      .at_least(1)
      .at_most(kMaxCount)
      .known_elsewhere_as({"in_channels", "num_channels"});
  keys.integer("model.patch_size", model.patch_size,
               "Points of a patch's side: a token is a patch of one frame.")
      .at_least(1)
      .at_most(kMaxCount)
      .known_elsewhere_as({"patch"});
  keys.integer("model.hidden_size", model.hidden_size, "Width of the residual stream.")
      .required()
      .at_least(1)
      .at_most(kMaxWidth)
      .known_elsewhere_as({"n_embd", "d_model", "dim"});
  keys.integer("model.num_hidden_layers", model.num_hidden_layers,
               "Pairs of blocks: one attends within frames, the other along time.")
      .required()
      .at_least(1)
      .at_most(kMaxCount)
      .known_elsewhere_as({"n_layer", "n_layers", "num_layers", "layers", "depth"});
  keys.integer("model.num_attention_heads", model.num_attention_heads, "Heads.")
      .required()
      .at_least(1)
      .at_most(kMaxCount)
      .known_elsewhere_as({"n_head", "n_heads", "num_heads", "heads"});
  keys.integer("model.intermediate_size", model.intermediate_size,
               "Width of the MLP between its projections.")
      .required()
      .at_least(1)
      .at_most(kMaxWidth)
      .known_elsewhere_as({"ffn_hidden_size", "d_ff", "n_inner", "mlp_size"});
}

void declare_model(ClipJob& job, Declarations& keys) {
  model::ClipConfig& model = job.model;
  keys.section("model",
               "The transformer of clips; its config.json in checkpoints has these names.");
  keys.choice("model.model_type", job.model_type,
              {{kClipModelType, "blocks that attend within frames and along time in turn"}},
              "Family of models: what makes this a job of clips.")
      .required();
  declare_sizes(model, keys);
  keys.integer("model.num_classes", model.num_classes,
               "Classes that clips are conditioned on; 0: none.")
      .at_least(0)
      .at_most(kMaxCount);
  keys.integer("model.class_tokens", model.class_tokens,
               "Tokens that stand for a class in cross-attention.")
      .at_least(1)
      .at_most(kMaxCount);
  keys.real("model.rope_theta", model.rope_theta,
            "Base of the wavelengths of positions in time (RoPE).")
      .above(0)
      .known_elsewhere_as({"rope_base", "rotary_base"});
  keys.real("model.norm_epsilon", model.norm_epsilon, "Added to norms' mean squares.")
      .above(0)
      .known_elsewhere_as({"norm_eps", "layer_norm_eps"});
  keys.real("model.initializer_range", model.initializer_range,
            "Standard deviation of new weights.")
      .at_least(0)
      .known_elsewhere_as({"init_std", "init_method_std"});
}

void declare_data(ClipJob::Data& data, Declarations& keys) {
  keys.section("data", "Clips: frames of numbers, of which those between -1 and 1 are meant.");
  keys.texts("data.clips", data.clips,
             {{"sprites", "coloured sprites that move and bounce, made on the spot"}},
             "files of NumPy's arrays such as [\"a.npy\"]: [frames, channels, height, width], or "
             "[clips, frames, channels, height, width], of floats, or of bytes, which become -1 "
             "to 1",
             "What to train on.")
      .required()
      .at_least(1)
      .known_elsewhere_as({"train", "train_data", "train_files", "dataset", "data_path"});
  keys.integer("data.validation_clips", data.validation_clips,
               "Clips that are held out for validation: the files' last ones, or further sprites.")
      .at_least(0)
      .at_most(kMaxInt32)
      .known_elsewhere_as({"val_clips", "validation", "validation_fraction"});
  keys.section("data.sprites", "Which sprites \"sprites\" makes.");
  keys.integer("data.sprites.clips", data.sprites, "Clips to train on.")
      .at_least(1)
      .at_most(kMaxInt32);
  keys.texts("data.sprites.shapes", data.shapes, {},
             "frames x height x width such as [\"16x32x32\"]",
             "Extents of clips, of which each has one by chance.")
      .at_least(1);
  keys.integer("data.sprites.most_sprites", data.most_sprites,
               "Sprites of a clip, of which it has at least one.")
      .at_least(1)
      .at_most(kMaxCount);
  keys.real("data.sprites.speed", data.speed, "Points a frame that a sprite moves, along an axis.")
      .above(0);
}

void declare_training(ClipJob& job, Declarations& keys) {
  declare_steps(job.training, keys);
  keys.choice(
      "training.objective", job.batch.objective,
      {{"next_frame", "from frames so far how the next one differs; attention in time is causal"},
       {"rectified_flow", "from a clip mixed with noise the way from noise to clip"}},
      "What the model learns; the loss is the mean of squared errors.");
  keys.integer("training.clips_per_step", job.batch.clips_per_step,
               "Clips of one step over all ranks: a multiple of clips_per_micro_batch.")
      .required()
      .at_least(1)
      .at_most(kMaxInt32)
      .unit("clips")
      .known_elsewhere_as({"batch_size", "global_batch_size", "train_batch_size"});
  keys.integer("training.clips_per_micro_batch", job.batch.clips_per_micro_batch,
               "Clips that a rank, or a group of them, runs forward and backward at once.")
      .required()
      .at_least(1)
      .at_most(kMaxInt32)
      .unit("clips")
      .known_elsewhere_as({"micro_batch_size"});
  declare_precision(job.training, keys);
  declare_skips(job.training, keys);
}

void declare_machine(ClipJob& job, Declarations& keys) {
  declare_memory_limit(job.memory, keys);
  keys.choice("memory.activation_checkpointing", job.memory.activation_checkpointing,
              {{"none", "all that it needs"},
               {"block", "its input alone; the backward computes the block again"}},
              "What a block keeps for its backward.")
      .known_elsewhere_as({"gradient_checkpointing", "recompute", "checkpoint_activations"});
  keys.section("parallel", "How the work is divided among ranks.");
  keys.integer("parallel.data", job.parallel.data,
               "Groups of ranks that take the micro-batches of a step in turn.")
      .at_least(1)
      .at_most(kMaxInt32)
      .automatic("the ranks launched, divided by those that share clips")
      .known_elsewhere_as({"dp", "dp_size", "data_parallel", "data_parallel_size"});
  keys.integer("parallel.sequence", job.group_ranks, "Ranks that share the clips of a micro-batch.")
      .at_least(1)
      .at_most(kMaxInt32)
      .automatic("no more than needed for every group to have a micro-batch")
      .known_elsewhere_as({"sp", "sp_size", "sequence_parallel", "sequence_parallel_size",
                           "context_parallel", "context_parallel_size", "cp", "dsp"});
  keys.choice("parallel.sequence_mode", job.sequence_mode, words_of(kSharings),
              "What each of these ranks holds; all but the first are there to compare with.");
  keys.choice("parallel.sequence_placement", job.sequence_placement, placement_words(),
              "How ranks divide tokens outside of attention, with parallel.sequence_mode "
              "\"dynamic\".");
  declare_ranks(job.parallel, keys);
}

std::string describe(std::string (Declarations::*text)() const) {
  ClipJob job;
  Declarations declarations("Longspan job file of clips",
                            "What to train, on what, how, and where to write it.");
  declare(job, declarations);
  return (declarations.*text)();
}

/// "16x32x32"; nothing where it is none.
std::optional<std::array<std::int64_t, 3>> extents_of(std::string_view text) {
  std::array<std::int64_t, 3> extents{};
  for (std::size_t i = 0; i < extents.size(); ++i) {
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), extents[i]);
    if (error != std::errc() || extents[i] < 1 || extents[i] > kMaxCount) return std::nullopt;
    text.remove_prefix(static_cast<std::size_t>(end - text.data()));
    const bool is_last = i + 1 == extents.size();
    if (is_last != text.empty() || (!is_last && text.front() != 'x')) return std::nullopt;
    if (!is_last) text.remove_prefix(1);
  }
  return extents;
}

void check_data(const ClipJob& job) {
  const ClipJob::Data& data = job.data;
  const ClipJob::Data plain;
  if (data.makes_sprites()) {
    sprite_shapes(job);
  } else {
    const auto refuse = [](const char* key, bool is_given) {
      if (!is_given) return;
      throw InputError(
          fmt::format("data.sprites.{} is given, but data.clips names files; leave it out, or set "
                      "data.clips to \"sprites\"",
                      key));
    };
    refuse("clips", data.sprites != plain.sprites);
    refuse("shapes", data.shapes != plain.shapes);
    refuse("most_sprites", data.most_sprites != plain.most_sprites);
    refuse("speed", data.speed != plain.speed);
  }
  if (data.validation_clips == 0 && job.training.validation_every > 0) {
    throw InputError(
        fmt::format("training.validation_every is {}, but there is nothing to validate on; give "
                    "data.validation_clips",
                    job.training.validation_every));
  }
}

void check_batch(const ClipJob::Batch& batch) {
  if (batch.clips_per_step % batch.clips_per_micro_batch == 0) return;
  throw InputError(
      fmt::format("training.clips_per_step is {}; legal: a multiple of "
                  "training.clips_per_micro_batch, which is {}",
                  batch.clips_per_step, batch.clips_per_micro_batch));
}

void check_placement(const ClipJob& job) {
  const shard::ClipSharing sharing = job.sharing();
  if (!sharing.placement || sharing.sharding == model::ClipSharding::kDynamic) return;
  throw InputError(
      fmt::format("parallel.sequence_placement is \"{}\", but parallel.sequence_mode is \"{}\", "
                  "which has no placements; set the first to \"{}\", or the second to \"dynamic\"",
                  job.sequence_placement, job.sequence_mode, kBestPlacement));
}

void check_device(const ClipJob& job) {
  if (job.run.device != "cuda" || job.model.head_dim() <= backend::kCudaMostHeadDim) return;
  throw InputError(
      fmt::format("model.hidden_size / model.num_attention_heads is {}; run.device \"cuda\" does "
                  "at most {}",
                  job.model.head_dim(), backend::kCudaMostHeadDim));
}

}  // namespace

data::ClipShape clip_shape(const std::string& text, std::int64_t channels,
                           const std::string& what) {
  const auto extents = extents_of(text);
  if (!extents) {
    throw InputError(
        fmt::format("{} has \"{}\"; legal: frames x height x width such as \"16x32x32\", each in "
                    "[1, {}]",
                    what, text, kMaxCount));
  }
  return {(*extents)[0], channels, (*extents)[1], (*extents)[2]};
}

shard::ClipSharing ClipJob::sharing() const {
  shard::ClipSharing sharing;
  const auto mode = std::find_if(std::begin(kSharings), std::end(kSharings),
                                 [&](const auto& one) { return sequence_mode == one.name; });
  if (mode == std::end(kSharings)) {
    throw base::InternalError("there is no way to share clips \"" + sequence_mode + "\"");
  }
  sharing.sharding = mode->way;
  for (const auto& one : kPlacements) {
    if (sequence_placement == one.name) sharing.placement = one.way;
  }
  return sharing;
}

std::string placement_name(shard::ClipPlacement placement) {
  for (const auto& one : kPlacements) {
    if (placement == one.way) return one.name;
  }
  throw base::InternalError("a placement of clips has no name");
}

std::vector<data::ClipShape> sprite_shapes(const ClipJob& job) {
  std::vector<data::ClipShape> shapes;
  for (const std::string& text : job.data.shapes) {
    shapes.push_back(clip_shape(text, job.model.channels, "data.sprites.shapes"));
  }
  return shapes;
}

void declare(ClipJob& job, Declarations& declarations) {
  declare_run(job.run, declarations);
  declare_model(job, declarations);
  declare_data(job.data, declarations);
  declare_optimizer(job.optimizer, declarations);
  declare_schedule(job.schedule, declarations);
  declare_training(job, declarations);
  declare_machine(job, declarations);
  declare_records(job, "new weights", declarations);
}

void check(ClipJob& job) {
  job.model.is_causal = job.objective() == ClipObjective::kNextFrame;
  job.model.check();
  check_data(job);
  check_batch(job.batch);
  check_placement(job);
  check_device(job);
  const MostRank hidden{job.model.hidden_size, "model.hidden_size"};
  check_optimizer(job, hidden, hidden);
  check_schedule(job);
}

std::string to_json(const ClipJob& job) {
  ClipJob copy = job;
  Declarations declarations("Longspan job file of clips", "");
  declare(copy, declarations);
  return declarations.to_json();
}

std::string clip_job_schema() { return describe(&Declarations::schema); }
std::string clip_job_help() { return describe(&Declarations::help); }
std::string clip_job_markdown() { return describe(&Declarations::markdown); }

}  // namespace longspan::train
