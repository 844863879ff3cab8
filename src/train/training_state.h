#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "longspan/checkpoint/model_files.h"
#include "longspan/checkpoint/store.h"
#include "train/parameter_step.h"
#include "train/states.h"

namespace longspan::train {

/// What a run knows besides tensors: trainer.json of a checkpoint.
struct Progress {
  std::int64_t step = 0;     ///< steps done, skipped ones included
  std::int64_t tokens = 0;   ///< of all steps so far (or since checkpoints count them), repeated
                             ///< ones as often as they came
  std::int64_t skipped = 0;  ///< skipped so far
  std::int64_t skipped_in_row = 0;  ///< of these, the last ones without a good step between
  std::int64_t updates = 0;         ///< of the optimizer
  std::string sampling;             ///< what the order of samples depends on
};

/// trainer.json of a checkpoint. Throws InputError.
Progress read_progress(const std::filesystem::path& step_directory);

/// What a checkpoint holds beside tensors and progress, of whatever model.
struct CheckpointExtras {
  std::string weights_name = checkpoint::kWeightsName;
  std::vector<checkpoint::TextFile> texts;                                 ///< config.json, ...
  std::function<void(const std::filesystem::path& directory)> write_more;  ///< may be empty
};

/// The contents of a checkpoint, which do not depend on how ranks hold them; tensors are read when
/// they are written, through `reader`, on rank 0. The objects must outlive the contents.
checkpoint::Contents checkpoint_contents(const nn::ParameterSet& trained, StateReader& reader,
                                         const Progress& progress, const CheckpointExtras& extras);

/// Loads weights, optimizer state and progress from a committed, verified step, of which this rank
/// takes what it holds. Throws InputError when it is of another model, naming the first tensor that
/// differs.
Progress load_checkpoint(const std::filesystem::path& step_directory, ParameterStep& step,
                         backend::Backend& backend,
                         const std::string& weights_name = checkpoint::kWeightsName);

}  // namespace longspan::train
