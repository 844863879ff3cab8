#pragma once

#include <cstdint>
#include <vector>

#include "longspan/plan/cost_model.h"

namespace longspan::plan::test {

/// Ranks with room for 100 tokens each, where communication makes larger groups dearer.
inline CostModel small_costs(int ranks) {
  CostModel costs{ranks, {}, 0.5, ""};
  for (int degree = 1; degree <= ranks; degree *= 2) {
    costs.kinds.push_back(
        {degree, "", 0.1, (1.0 + 0.1 * (degree - 1)) / degree, 0.01 / degree, 100 * degree});
  }
  return costs;
}

}  // namespace longspan::plan::test
