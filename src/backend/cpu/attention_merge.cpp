#include <limits>

#include "backend/checks.h"
#include "backend/contracts.h"
#include "backend/cpu/cpu_backend.h"
#include "backend/cpu/parallel.h"
#include "backend/cpu/vector_math.h"
#include "backend/elementwise/attention_merge.h"
#include "backend/operation.h"

namespace longspan::backend::cpu {

void CpuBackend::attention_merge(const Tensor& out, const Tensor& lse, const Tensor& block_out,
                                 const Tensor& block_lse) {
  const Operation operation(*this, "attention_merge", out);
  check_attention_merge(out, lse, block_out, block_lse);
  dispatch_float("attention_merge", "block_out", block_out, [&]<typename T>() {
    using Acc = Compute<T>;
    constexpr Acc kNothing = -std::numeric_limits<Acc>::infinity();
    const Index head_dim = out.size(2);
    parallel_for(out.size(0), out.row_elements(), [&](Index token) {
      for (Index head = 0; head < out.size(1); ++head) {
        Acc& whole = lse.data<Acc>()[head * lse.row_stride() + token];
        const Acc block = block_lse.data<Acc>()[head * block_lse.row_stride() + token];
        if (block == kNothing) continue;
        const MergeWeights<Acc> weights(whole, block);
        Acc* to = out.data<Acc>() + token * out.row_stride() + head * head_dim;
        const T* from = block_out.data<T>() + token * block_out.row_stride() + head * head_dim;
        for (Index d = 0; d < head_dim; ++d) {
          to[d] = weights.merge(to[d], load(from[d]));
        }
        whole = weights.lse;
      }
    });
  });
}

}  // namespace longspan::backend::cpu
