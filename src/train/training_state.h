#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "longspan/checkpoint/store.h"
#include "longspan/data/tokenizer.h"
#include "longspan/model/decoder.h"
#include "longspan/optim/optimizer.h"
#include "longspan/train/job.h"
#include "train/pretrained.h"
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

/// What a checkpoint holds beside what was trained: the job's tokenizer, or that of the model it
/// began from, whose other files come along; of an adapter, what it is and where its base lies.
struct Heritage {
  const data::Tokenizer* tokenizer = nullptr;  ///< null: the job names none
  TokenIds ids;                                ///< of the model that the job began from
  std::vector<checkpoint::TextFile> companions;
  std::optional<model::AdapterConfig> adapter;

  TokenIds token_ids() const;
};

/// Throws InputError.
Heritage heritage_of(const Job& job, const data::Tokenizer* tokenizer);

/// The contents of a checkpoint, which do not depend on how ranks hold them; tensors are read when
/// they are written, through `reader`, on rank 0. The objects must outlive the contents.
checkpoint::Contents checkpoint_contents(model::Decoder& model, StateReader& reader,
                                         const Progress& progress, const Heritage& heritage);

/// Loads the weights alone (of an adapter's checkpoint the adapter's), of which this rank takes
/// what it holds. Throws InputError as load_checkpoint does.
void load_weights(const std::filesystem::path& step_directory, model::Decoder& model,
                  backend::Backend& backend);

/// Loads weights, optimizer state and progress from a committed, verified step. Throws InputError
/// when it is of another model, naming the first tensor that differs.
Progress load_checkpoint(const std::filesystem::path& step_directory, model::Decoder& model,
                         optim::Optimizer& optimizer, backend::Backend& backend);

}  // namespace longspan::train
