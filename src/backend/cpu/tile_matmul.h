#pragma once

#include <memory>

#include "backend/cpu/vector_math.h"
#include "longspan/backend/tensor.h"

namespace longspan::backend::cpu {

/// One operand or result of a small product: first element and distance between rows.
template <typename T>
struct Tile {
  T* data;
  Index stride;
};

/// Products of cache-sized tiles on the calling thread alone, for use inside a parallel region:
/// one object a thread. Primitives are made once for each distinct shape and kept, so callers
/// round their tiles to few sizes.
class TileMatmul {
 public:
  TileMatmul();
  ~TileMatmul();

  /// out[m, n] = a[m, k] * b[k, n] (+ out); with `transpose_b`, b is stored [n, k].
  template <typename T>
  void run(Tile<Compute<T>> out, Tile<const T> a, Tile<const T> b, Index m, Index n, Index k,
           bool transpose_b, bool accumulate);

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace longspan::backend::cpu
