#include "backend/checks.h"
#include "backend/cpu/cpu_backend.h"
#include "backend/cpu/parallel.h"
#include "backend/cpu/vector_math.h"
#include "backend/operation.h"

namespace longspan::backend::cpu {

void CpuBackend::random_normal(const Tensor& out, const base::RandomStream& stream,
                               double deviation, std::uint64_t first_element) {
  const Operation operation(*this, "random_normal", out);
  dispatch_float("random_normal", "out", out, [&]<typename T>() {
    for_each_span(out, out.is_dense(), [&](const Span& span) {
      T* to = span.of(out.data<T>(), out);
      const auto first =
          first_element + static_cast<std::uint64_t>(span.row * out.row_elements() + span.begin);
      for (Index i = 0; i < span.length; ++i) {
        to[i] = round_to<T>(deviation * stream.normal(first + static_cast<std::uint64_t>(i)));
      }
    });
  });
}

}  // namespace longspan::backend::cpu
