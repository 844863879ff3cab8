#include "backend/cuda_scratch.h"

#include <algorithm>

#include "backend/checks.h"

namespace longspan::backend {

NormShares rms_norm_backward_shares(Index tokens, Index hidden) {
  constexpr Index kPackOfSmallest = 8;  // bfloat16 in 16 bytes
  constexpr Index kFewestRows = 8;      // fewer would write about as much as they read
  // Enough blocks for a large device, more where their rows are short, so that few threads each
  // still make many together.
  constexpr Index kFewBlocks = 512;
  constexpr Index kShareElements = Index{1} << 21;
  NormShares shares{};
  shares.columns = (hidden + kPackOfSmallest - 1) / kPackOfSmallest * kPackOfSmallest;
  const Index most = std::max(kFewBlocks, kShareElements / std::max<Index>(1, shares.columns));
  shares.rows_each = std::max(kFewestRows, (tokens + most - 1) / most);
  shares.blocks = (tokens + shares.rows_each - 1) / shares.rows_each;
  return shares;
}

std::size_t rms_norm_backward_scratch_bytes(base::DType dtype, Index tokens, Index hidden) {
  return static_cast<std::size_t>(rms_norm_backward_shares(tokens, hidden).elements()) *
         base::size_of(compute_dtype(dtype));
}

}  // namespace longspan::backend
