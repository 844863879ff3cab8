#pragma once

#include <optional>
#include <vector>

#include "longspan/checkpoint/store.h"
#include "longspan/data/tokenizer.h"
#include "longspan/model/decoder.h"
#include "longspan/train/job.h"
#include "train/pretrained.h"
#include "train/training_state.h"

namespace longspan::train {

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

/// Of a checkpoint of this model; the tokenizer must outlive them.
CheckpointExtras checkpoint_extras(const model::Decoder& model, const Heritage& heritage);

}  // namespace longspan::train
