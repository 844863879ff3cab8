#pragma once

#include "tests/backend/kernel_fixture.h"

// What the tests of rotary positions share.
namespace longspan::backend::testing {

inline std::vector<double> frequencies(Index head_dim) {
  std::vector<double> result;
  for (Index j = 0; j < head_dim / 2; ++j) {
    result.push_back(
        std::pow(10000.0, -2.0 * static_cast<double>(j) / static_cast<double>(head_dim)));
  }
  return result;
}

inline Array make_positions(Index tokens) {
  Array positions(DType::kInt32, {tokens});
  return positions.random_ids(9, 100000);
}

}  // namespace longspan::backend::testing
