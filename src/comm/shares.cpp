#include "comm/shares.h"

#include <fmt/format.h>

#include <algorithm>

#include "longspan/base/error.h"

namespace longspan::comm {

using backend::Tensor;

Offsets even_offsets(backend::Index elements, int ranks) {
  const backend::Index share = (elements + ranks - 1) / ranks;
  Offsets offsets;
  for (int rank = 0; rank <= ranks; ++rank) offsets.push_back(std::min(share * rank, elements));
  return offsets;
}

Tensor share(const Tensor& whole, const Offsets& offsets, int rank) {
  const auto at = static_cast<std::size_t>(rank);
  return whole.rows(offsets[at], offsets[at + 1]);
}

void check_vector(const Tensor& tensor, const Offsets& offsets, const char* operation) {
  if (tensor.rank() == 1 && tensor.is_dense() && offsets.back() == tensor.elements()) return;
  throw base::InternalError(fmt::format("{}: a tensor of {} is no dense vector of {} elements",
                                        operation, tensor.shape().to_string(), offsets.back()));
}

}  // namespace longspan::comm
