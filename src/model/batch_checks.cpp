#include "model/batch_checks.h"

#include <fmt/format.h>

#include <cstddef>
#include <string>

#include "longspan/base/error.h"

namespace longspan::model {

using backend::Index;
using Ids = std::vector<std::int32_t>;

void check_lengths(const TokenBatch& batch) {
  const Ids& cu_seqlens = batch.cu_seqlens;
  const auto held = static_cast<Index>(batch.tokens.size());
  const bool is_shared = batch.shard != nullptr;
  const Index row = is_shared ? batch.shard->layout.tokens() : held;
  const Index expected = is_shared ? batch.shard->layout.size(batch.shard->rank()) : held;
  bool is_legal = held == expected && batch.labels.size() == batch.tokens.size() &&
                  batch.positions.size() == batch.tokens.size() && !cu_seqlens.empty() &&
                  cu_seqlens.front() == 0 && cu_seqlens.back() == row;
  for (std::size_t i = 1; is_legal && i < cu_seqlens.size(); ++i) {
    is_legal = cu_seqlens[i - 1] <= cu_seqlens[i];
  }
  if (!is_legal) {
    throw base::InternalError(
        "a micro-batch of " + std::to_string(held) + " tokens has " +
        std::to_string(batch.labels.size()) + " labels, " + std::to_string(batch.positions.size()) +
        " positions and cu_seqlens that do not rise from 0 to the number of tokens of its row");
  }
}

void check_ids(const Ids& ids, Index vocab, const char* what, bool may_be_ignored) {
  for (std::size_t i = 0; i < ids.size(); ++i) {
    const bool is_ignored = may_be_ignored && ids[i] == backend::kIgnoredLabel;
    if (!is_ignored && (ids[i] < 0 || ids[i] >= vocab)) {
      throw base::InputError(std::string(what) + " " + std::to_string(ids[i]) + " at index " +
                             std::to_string(i) + " is outside the model's vocabulary [0, " +
                             std::to_string(vocab) + "): the data were made for another tokenizer");
    }
  }
}

void check_positions(const Ids& positions, const ModelConfig& config) {
  for (const std::int32_t position : positions) {
    if (position >= config.max_position_embeddings) {
      throw base::InputError(fmt::format(
          "position {} of a sequence is beyond the model's learned positions, which are {} "
          "(max_position_embeddings)",
          position, config.max_position_embeddings));
    }
  }
}

}  // namespace longspan::model
