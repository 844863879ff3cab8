#pragma once

#include <cstdint>
#include <string>
#include <variant>
#include <vector>

#include "longspan/data/clip_source.h"
#include "longspan/model/clip_config.h"
#include "longspan/train/clip_objective.h"
#include "longspan/train/common_job.h"
#include "longspan/train/job.h"

namespace longspan::train {

/// model.model_type of a job of clips, and of its checkpoints' config.json.
inline constexpr const char* kClipModelType = "spatial_temporal";

/// A job that trains a spatial-temporal transformer on clips, section by section as in its file.
/// What is said of Job holds here.
struct ClipJob : CommonJob {
  std::string model_type;  ///< kClipModelType
  model::ClipConfig model;

  struct Data {
    std::vector<std::string> clips;  ///< "sprites", or .npy files
    std::int64_t sprites = 10000;    ///< of those that are trained on
    std::vector<std::string> shapes = {"16x32x32"};
    std::int64_t most_sprites = 3;
    double speed = 1.5;
    std::int64_t validation_clips = 0;
    bool makes_sprites() const { return clips == std::vector<std::string>{"sprites"}; }
  } data;

  struct Batch {
    std::string objective = "next_frame";
    std::int64_t clips_per_step = 0;
    std::int64_t clips_per_micro_batch = 0;
    std::int64_t micro_batches() const { return clips_per_step / clips_per_micro_batch; }
  } batch;
  ClipObjective objective() const {
    return batch.objective == "next_frame" ? ClipObjective::kNextFrame
                                           : ClipObjective::kRectifiedFlow;
  }

  std::int64_t group_ranks = 0;  ///< that share clips; 0 ("auto"): see clip_ranks
  std::string sequence_mode = "dynamic";
  std::string sequence_placement = "auto";
  shard::ClipSharing sharing() const;
  bool keeps_inputs_alone() const { return memory.activation_checkpointing == "block"; }
};

/// What parallel.sequence_placement calls it.
std::string placement_name(shard::ClipPlacement placement);

/// As those of Job.
void declare(ClipJob& job, base::Declarations& declarations);
void check(ClipJob& job);
std::string to_json(const ClipJob& job);
std::string clip_job_schema();
std::string clip_job_help();
std::string clip_job_markdown();

/// "16x32x32", frames x height x width, of so many channels. Throws InputError, which calls it
/// `what`.
data::ClipShape clip_shape(const std::string& text, std::int64_t channels, const std::string& what);
/// data.sprites.shapes of so many channels. Throws InputError.
std::vector<data::ClipShape> sprite_shapes(const ClipJob& job);

/// A job of either kind, as its model.model_type says; see read_job.
using AnyJob = std::variant<Job, ClipJob>;
AnyJob read_any_job(const std::string& path, const std::vector<std::string>& overrides);
/// Throws InputError for a job of texts, too.
ClipJob read_clip_job(const std::string& path, const std::vector<std::string>& overrides);

}  // namespace longspan::train
