#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "longspan/backend/backend.h"

namespace longspan::train {

/// One product of a training step and how fast it runs alone.
struct MatmulFigure {
  std::string name;  ///< "qkv forward", "head weight gradient"
  std::int64_t m = 0, n = 0, k = 0;
  std::int64_t times = 0;  ///< in one step
  double seconds = 0;      ///< of one, median
};

/// The products of one training step of a Llama-shaped model, each measured alone with the layouts
/// and dtypes that training uses: what is left for a step when everything else is free.
struct MatmulShapes {
  std::int64_t tokens = 1024;
  std::int64_t hidden_size = 768;
  std::int64_t intermediate_size = 2048;
  std::int64_t layers = 12;
  std::int64_t vocab_size = 50304;
};
std::vector<MatmulFigure> bench_matmuls(const MatmulShapes& shapes, const std::string& precision,
                                        int repeats, backend::Backend& backend);

}  // namespace longspan::train
