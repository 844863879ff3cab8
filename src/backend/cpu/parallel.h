#pragma once

#include <algorithm>

#include "backend/divide_up.h"
#include "longspan/backend/tensor.h"

// How the cpu kernels split work over threads. Each piece of work writes its own elements, so a
// split changes no result.
namespace longspan::backend::cpu {

/// Below this many elements a parallel region costs more than it saves.
inline constexpr Index kParallelElements = 16384;

/// body(i) for i in [0, count), each about `elements_each` elements of work. The body must not
/// throw: an exception may not leave a parallel region.
template <typename Body>
void parallel_for(Index count, Index elements_each, const Body& body) {
  const bool parallel = count > 1 && count * elements_each >= kParallelElements;
#pragma omp parallel for schedule(static) if (parallel)
  for (Index i = 0; i < count; ++i) body(i);
}

/// A run of consecutive elements of tensors of one shape.
struct Span {
  Index row;     ///< index of axis 0; 0 when the tensors are dense and taken as one row
  Index begin;   ///< first element within the row
  Index length;  ///< elements

  template <typename T>
  T* of(T* data, const Tensor& tensor) const {
    return data + row * tensor.row_stride() + begin;
  }
};

/// Covers tensors of `like`'s shape with spans, in parallel. `dense`: none of them has gaps.
template <typename Body>
void for_each_span(const Tensor& like, bool dense, const Body& body) {
  constexpr Index kSpan = 8192;
  const Index rows = dense ? 1 : like.size(0);
  const Index columns = dense ? like.elements() : like.row_elements();
  const Index spans = divide_up(columns, kSpan);
  parallel_for(rows * spans, std::min(columns, kSpan), [&](Index i) {
    const Index begin = i % spans * kSpan;
    body(Span{i / spans, begin, std::min(kSpan, columns - begin)});
  });
}

}  // namespace longspan::backend::cpu
