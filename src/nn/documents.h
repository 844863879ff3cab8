#pragma once

#include <vector>

#include "longspan/backend/backend.h"
#include "longspan/shard/cover.h"

// Parts of a packed row, as attention over shared tokens cuts it.
namespace longspan::nn {

/// The documents of the row, as far as they lie in these ranges of it, which ascend.
backend::CuSeqlens documents_in(const backend::CuSeqlens& documents,
                                const std::vector<shard::Range>& ranges);

inline backend::Tensor rows_of(const backend::Tensor& tensor, const shard::Range& range) {
  return tensor.rows(range.begin, range.end);
}

/// Of an lse [heads, tokens].
inline backend::Tensor tokens_of(const backend::Tensor& lse, const shard::Range& range) {
  return lse.columns(range.begin, range.end);
}

}  // namespace longspan::nn
