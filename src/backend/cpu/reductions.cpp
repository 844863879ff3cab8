#include <numeric>

#include "backend/checks.h"
#include "backend/cpu/cpu_backend.h"
#include "backend/cpu/parallel.h"
#include "backend/cpu/vector_math.h"
#include "backend/operation.h"

namespace longspan::backend::cpu {
namespace {

/// Sums term(element) over blocks of about 64 K elements that depend on the shape alone, and the
/// blocks in order: the number of threads changes no bit.
template <typename T, typename Term>
double ordered_sum(const Tensor& in, const Term& term) {
  constexpr Index kBlock = 65536;
  const bool dense = in.is_dense();
  const Index rows = dense ? 1 : in.size(0);
  const Index columns = dense ? in.elements() : in.row_elements();
  if (rows * columns == 0) return 0.0;
  const Index rows_each = std::max<Index>(1, kBlock / columns);
  const Index pieces = divide_up(columns, kBlock);
  const Index blocks = divide_up(rows, rows_each) * pieces;
  const T* data = in.data<T>();
  std::vector<double> sums(static_cast<std::size_t>(blocks));
  parallel_for(blocks, std::min(kBlock, rows * columns), [&](Index block) {
    const Index begin = block % pieces * kBlock;
    const Index length = std::min(kBlock, columns - begin);
    const Index first = block / pieces * rows_each;
    const Index last = std::min(rows, first + rows_each);
    double sum = 0.0;
    for (Index row = first; row < last; ++row) {
      const T* elements = data + row * in.row_stride() + begin;
      sum += sum_of<double>(length,
                            [&](Index i) { return term(static_cast<double>(load(elements[i]))); });
    }
    sums[static_cast<std::size_t>(block)] = sum;
  });
  return std::accumulate(sums.begin(), sums.end(), 0.0);
}

}  // namespace

double CpuBackend::sum(const Tensor& in) {
  const Operation operation(*this, "sum", in);
  double total = 0.0;
  dispatch_float("sum", "in", in, [&]<typename T>() {
    total = ordered_sum<T>(in, [](double value) { return value; });
  });
  return total;
}

double CpuBackend::sum_of_squares(const Tensor& in) {
  const Operation operation(*this, "sum_of_squares", in);
  double total = 0.0;
  dispatch_float("sum_of_squares", "in", in, [&]<typename T>() {
    total = ordered_sum<T>(in, [](double value) { return value * value; });
  });
  return total;
}

}  // namespace longspan::backend::cpu
