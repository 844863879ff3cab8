#pragma once

#include <cstdint>
#include <string>

#include "longspan/comm/communicator.h"

namespace longspan::train {

/// One attention layer's shapes, whose tokens all ranks share by Ulysses.
struct ReshardShapes {
  std::int64_t tokens = 16384;
  std::int64_t heads = 32;
  std::int64_t kv_heads = 8;
  std::int64_t head_dim = 128;
};

/// An exchange, as the slowest rank saw it; medians.
struct ReshardFigure {
  std::string name;            ///< "q, k, v to heads", "output to tokens"
  std::uint64_t bytes = 0;     ///< sent by a rank, the most
  double seconds = 0;          ///< of all of it
  double packing_seconds = 0;  ///< of the same copies to and from messages without sending
};

struct ReshardFigures {
  ReshardFigure to_heads;
  ReshardFigure to_tokens;
};

/// Measures the two exchanges of a forward: what of them is packing, which a kernel that writes the
/// messages itself would save. Called by all ranks.
ReshardFigures bench_reshard(const ReshardShapes& shapes, const std::string& precision, int repeats,
                             comm::Communicator& world);

}  // namespace longspan::train
