#include "backend/elementwise/dropout.h"
#include "backend/checks.h"
#include "backend/contracts.h"
#include "backend/cpu/cpu_backend.h"
#include "backend/cpu/parallel.h"
#include "backend/cpu/vector_math.h"
#include "backend/operation.h"

namespace longspan::backend::cpu {

void CpuBackend::dropout(const Tensor& out, const Tensor& x, const Tensor& numbers,
                         const base::RandomStream& stream, double probability) {
  const Operation operation(*this, "dropout", out);
  check_dropout(out, x, numbers, probability);
  const std::uint32_t threshold = dropout_threshold(probability);
  dispatch_float("dropout", "x", x, [&]<typename T>() {
    using Real = Compute<T>;
    const auto scale = static_cast<Real>(1.0 / (1.0 - probability));
    const auto* const number = numbers.data<std::int32_t>();
    const Index columns = x.size(1);
    parallel_for(x.size(0), columns, [&](Index row) {
      const T* from = x.data<T>() + row * x.row_stride();
      T* to = out.data<T>() + row * out.row_stride();
      base::PhiloxBlock block{};
      for (Index column = 0; column < columns; ++column) {
        if (column % kDropoutNeighbours == 0) {
          block = dropout_block(stream, number[row], columns, column);
        }
        const bool keeps = dropout_keeps(block, column, threshold);
        to[column] = keeps ? round_to<T>(load(from[column]) * scale) : T{};
      }
    });
  });
}

}  // namespace longspan::backend::cpu
