#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "longspan/backend/backend.h"
#include "longspan/comm/communicator.h"
#include "longspan/model/clip_config.h"
#include "longspan/model/decoder.h"
#include "longspan/nn/parameter.h"
#include "longspan/shard/clip_layout.h"

namespace longspan::model {

/// A clip in patches.
struct ClipPatches {
  std::int64_t frames = 0;
  std::int64_t rows = 0;
  std::int64_t columns = 0;

  shard::ClipGrid grid() const { return {frames, rows * columns}; }
};

using shard::ClipPlacement;
using shard::ClipSharding;

/// Packed clips of a micro-batch, and what this rank holds of them (see shard::ClipLayout). Inputs
/// lie as the residual stream does in the first block, targets as in the last: by frame and by
/// place, or both as the placement says.
struct ClipBatch {
  std::vector<ClipPatches> clips;
  std::vector<double> times;          ///< of each clip, in [0, 1]
  std::vector<std::int32_t> classes;  ///< of each clip; empty where the model knows none
  /// [tokens held in passes of that order, patch_numbers].
  std::vector<float> inputs;
  std::vector<float> targets;  ///< likewise
  /// [tokens of targets]: 0 where the target does not count, else 1; empty: all do.
  std::vector<float> counts;
  comm::Communicator* group = nullptr;  ///< the ranks that share the clips; null: this one alone
  ClipSharding sharding = ClipSharding::kDynamic;  ///< how they do
  ClipPlacement placement = ClipPlacement::kAlternating;

  shard::ClipLayout layout() const;
};

/// A spatial-temporal transformer (ClipConfig) on one rank or on several that share clips. Tokens
/// lie frame by frame while they attend within frames, and place by place while they attend along
/// time. With dynamic sequence parallelism (DSP, Zhao et al. 2024) ranks divide what need not lie
/// whole, and in between tokens switch by one all-to-all: the residual stream between two blocks,
/// or what every second attention is given and gives (shard::ClipPlacement). What a block keeps is
/// behind its switches: recomputation sends nothing. Other ways of sharing are there to compare
/// with: see shard::ClipSharding.
class ClipModel {
 public:
  /// Throws InputError where the config is none.
  ClipModel(const ClipConfig& config, base::DType dtype, backend::Backend& backend,
            bool keeps_inputs_alone = false, const nn::Placement& placement = {});
  ~ClipModel();

  const ClipConfig& config() const;
  nn::ParameterSet& parameters();

  /// Adds the gradients of `loss_scale` times the sum of squared errors of this rank's numbers;
  /// gives that sum and how many numbers count.
  LossResult forward_backward(const ClipBatch& batch, double loss_scale);
  /// The sum alone; with `predictions`, this rank's, as `targets` lie.
  LossResult evaluate(const ClipBatch& batch, std::vector<float>* predictions = nullptr);

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace longspan::model
