#pragma once

#include <cstdint>

#include "longspan/backend/tensor.h"
#include "longspan/base/random.h"

// Which elements dropout (Srivastava et al. 2014) lets through, the same on every device: four
// neighbours of a row share one evaluation of Philox, a word of 32 bits each.
namespace longspan::backend {

inline constexpr Index kDropoutNeighbours = 4;

/// The words of the columns around `column` in the row of this number, `columns` wide.
LONGSPAN_HOST_DEVICE inline base::PhiloxBlock dropout_block(const base::RandomStream& stream,
                                                            std::int32_t number, Index columns,
                                                            Index column) {
  const Index blocks = (columns + kDropoutNeighbours - 1) / kDropoutNeighbours;
  return stream.block(static_cast<std::uint64_t>(number * blocks + column / kDropoutNeighbours));
}

/// A word below it is dropped.
inline std::uint32_t dropout_threshold(double probability) {
  return static_cast<std::uint32_t>(probability * 0x1.0p32);
}

LONGSPAN_HOST_DEVICE inline bool dropout_keeps(const base::PhiloxBlock& block, Index column,
                                               std::uint32_t threshold) {
  return block.word[column % kDropoutNeighbours] >= threshold;
}

}  // namespace longspan::backend
