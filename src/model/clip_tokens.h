#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "longspan/nn/modulation.h"
#include "longspan/nn/pass.h"
#include "longspan/shard/clip_layout.h"

namespace longspan::model {

/// A rank's tokens of packed clips in passes of one order.
struct ClipTokens {
  nn::ClipRows rows;  ///< of each clip
  /// Of whole frames (places) of all clips where ranks share attention, else of those held.
  backend::CuSeqlens cu_seqlens{0};
  std::vector<std::int32_t> positions;  ///< in the frame (by frame), or in time (by place)
};

ClipTokens clip_tokens(const shard::ClipLayout& layout, shard::ClipOrder order, int rank);

/// How ranks share what is attended over; none where each attends alone.
std::optional<nn::SequenceShard> clip_shard(const shard::ClipLayout& layout, shard::ClipOrder order,
                                            comm::Communicator* group);

}  // namespace longspan::model
