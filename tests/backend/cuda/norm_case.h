#pragma once

#include <catch2/catch.hpp>

#include "longspan/backend/tensor.h"

namespace longspan::backend::cuda::testing {

struct NormCase {
  Index tokens, hidden, padding;
};

/// One warp a row and several; rows that share a block; parts of packs; gaps that keep and break
/// alignment. The last three do not fit: in registers, or (backward) in shared memory.
inline NormCase awkward_norm() {
  return GENERATE(NormCase{0, 8, 0}, NormCase{1, 1, 0}, NormCase{7, 64, 0}, NormCase{5, 7, 3},
                  NormCase{9, 33, 0}, NormCase{3, 1000, 1}, NormCase{11, 512, 8},
                  NormCase{3, 2056, 0}, NormCase{300, 33, 0}, NormCase{2, 20000, 0});
}

}  // namespace longspan::backend::cuda::testing
