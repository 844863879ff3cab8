#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "longspan/backend/backend.h"

namespace longspan::train {

/// An operation that is bound by memory, and how fast it runs alone.
struct KernelFigure {
  std::string name;    ///< the Backend's operation; the first is "copy", what the others aim at
  double bytes = 0;    ///< read and written, as a plan counts them
  double seconds = 0;  ///< of one, median
};

/// Sizes of a training step of a Llama-shaped model.
struct KernelShapes {
  std::int64_t tokens = 8192;
  std::int64_t hidden_size = 2048;
  std::int64_t intermediate_size = 5632;
  std::int64_t heads = 16;
  std::int64_t head_dim = 128;
  std::int64_t vocab_size = 50304;
  std::int64_t loss_tokens = 1024;  ///< of a range of the LM head
};
/// Each measured alone with the dtypes that training in this precision uses.
std::vector<KernelFigure> bench_kernels(const KernelShapes& shapes, const std::string& precision,
                                        int repeats, backend::Backend& backend);

}  // namespace longspan::train
