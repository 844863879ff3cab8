#pragma once

#include <cstdint>
#include <vector>

#include "longspan/backend/tensor.h"
#include "longspan/model/decoder.h"
#include "longspan/model/model_config.h"

namespace longspan::model {

/// Throws InternalError unless a micro-batch's arrays have the lengths that its row and its shard
/// say.
void check_lengths(const TokenBatch& batch);
/// Throws InputError for an id outside the vocabulary; labels may be kIgnoredLabel.
void check_ids(const std::vector<std::int32_t>& ids, backend::Index vocab, const char* what,
               bool may_be_ignored);
/// Throws InputError for a position that the table of learned ones has no row for.
void check_positions(const std::vector<std::int32_t>& positions, const ModelConfig& config);

}  // namespace longspan::model
