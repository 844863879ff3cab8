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

void check_vector(const Tensor& tensor, const Offsets& offsets, int ranks, const char* operation) {
  if (offsets.size() != static_cast<std::size_t>(ranks) + 1 || offsets.front() != 0 ||
      !std::is_sorted(offsets.begin(), offsets.end())) {
    throw base::InternalError(
        fmt::format("{}: offsets of {} ranks must rise from 0", operation, ranks));
  }
  if (tensor.rank() == 1 && tensor.is_dense() && offsets.back() == tensor.elements()) return;
  throw base::InternalError(fmt::format("{}: a tensor of {} is no dense vector of {} elements",
                                        operation, tensor.shape().to_string(), offsets.back()));
}

void check_part(const Tensor& part, const Offsets& offsets, int rank) {
  const auto at = static_cast<std::size_t>(rank);
  const backend::Index expected = offsets[at + 1] - offsets[at];
  if (part.rank() == 1 && part.is_dense() && part.elements() == expected) return;
  throw base::InternalError(
      fmt::format("reduce-scatter: a tensor of {} is no dense vector of the {} elements of rank {}",
                  part.shape().to_string(), expected, rank));
}

void check_neighbours(const Tensor& receive, int from, const Tensor& send, int to, int rank) {
  for (const Tensor* tensor : {&receive, &send}) {
    if (tensor->rank() == 1 && tensor->is_dense()) continue;
    throw base::InternalError(fmt::format("send and receive: a tensor of {} is no dense vector",
                                          tensor->shape().to_string()));
  }
  if ((to == rank) != (from == rank)) {
    throw base::InternalError("a rank that sends to itself receives from itself");
  }
}

}  // namespace longspan::comm
