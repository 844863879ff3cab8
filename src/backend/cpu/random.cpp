#include "backend/checks.h"
#include "backend/cpu/cpu_backend.h"
#include "backend/cpu/parallel.h"
#include "backend/cpu/vector_math.h"
#include "backend/operation.h"

namespace longspan::backend::cpu {

namespace {

/// draw(element) of every element, rounded.
template <typename Draw>
void fill_randomly(const char* operation, const Tensor& out, std::uint64_t first_element,
                   const Draw& draw) {
  dispatch_float(operation, "out", out, [&]<typename T>() {
    for_each_span(out, out.is_dense(), [&](const Span& span) {
      T* to = span.of(out.data<T>(), out);
      const auto first =
          first_element + static_cast<std::uint64_t>(span.row * out.row_elements() + span.begin);
      for (Index i = 0; i < span.length; ++i) {
        to[i] = round_to<T>(draw(first + static_cast<std::uint64_t>(i)));
      }
    });
  });
}

}  // namespace

void CpuBackend::random_normal(const Tensor& out, const base::RandomStream& stream,
                               double deviation, std::uint64_t first_element) {
  const Operation operation(*this, "random_normal", out);
  fill_randomly("random_normal", out, first_element,
                [&](std::uint64_t element) { return deviation * stream.normal(element); });
}

void CpuBackend::random_uniform(const Tensor& out, const base::RandomStream& stream, double bound,
                                std::uint64_t first_element) {
  const Operation operation(*this, "random_uniform", out);
  fill_randomly("random_uniform", out, first_element, [&](std::uint64_t element) {
    return bound * (2.0 * stream.uniform(element) - 1.0);
  });
}

}  // namespace longspan::backend::cpu
