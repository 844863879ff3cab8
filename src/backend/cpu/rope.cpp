#include "backend/elementwise/rope.h"
#include "backend/checks.h"
#include "backend/contracts.h"
#include "backend/cpu/cpu_backend.h"
#include "backend/cpu/parallel.h"
#include "backend/cpu/vector_math.h"
#include "backend/operation.h"

namespace longspan::backend::cpu {
namespace {

template <typename T>
void table_row(T* row, std::int32_t position, const std::vector<double>& inverse_frequencies,
               double scale) {
  const auto half = static_cast<Index>(inverse_frequencies.size());
  for (Index j = 0; j < half; ++j) {
    const double angle = position * inverse_frequencies[static_cast<std::size_t>(j)];
    row[j] = static_cast<T>(scale * std::cos(angle));
    row[half + j] = static_cast<T>(scale * std::sin(angle));
  }
}

/// out = the pairs (head[j], head[j + half]) turned by the angles of which cosine and sine are
/// given; `direction` is 1 or -1.
template <typename T>
void rotate_head(T* out, const T* head, const Compute<T>* cosine, const Compute<T>* sine,
                 Compute<T> direction, Index half) {
  using Real = Compute<T>;
#pragma omp simd
  for (Index j = 0; j < half; ++j) {
    Real first = load(head[j]);
    Real second = load(head[half + j]);
    rotate(first, second, cosine[j], direction * sine[j]);
    out[j] = round_to<T>(first);
    out[half + j] = round_to<T>(second);
  }
}

}  // namespace

void CpuBackend::rope_table(const Tensor& table, const Tensor& positions,
                            const std::vector<double>& inverse_frequencies, double scale) {
  const Operation operation(*this, "rope_table", table);
  check_rope_table(table, positions, inverse_frequencies.size());
  dispatch_float("rope_table", "table", table, [&]<typename T>() {
    if constexpr (std::is_same_v<T, Compute<T>>) {
      constexpr Index kCostOfAngle = 32;  // a sine and a cosine, in units of simple elements
      parallel_for(positions.size(0), table.size(1) * kCostOfAngle, [&](Index t) {
        table_row(table.data<T>() + t * table.row_stride(), positions.data<std::int32_t>()[t],
                  inverse_frequencies, scale);
      });
    }
  });
}

void CpuBackend::rope(const Tensor& out, const Tensor& x, const Tensor& table, bool inverse) {
  const Operation operation(*this, "rope", out);
  check_rope(out, x, table);
  const Index heads = x.size(1);
  const Index head_dim = x.size(2);
  dispatch_float("rope", "x", x, [&]<typename T>() {
    using Real = Compute<T>;
    parallel_for(x.size(0), heads * head_dim, [&](Index t) {
      T* to = out.data<T>() + t * out.row_stride();
      const T* from = x.data<T>() + t * x.row_stride();
      const Real* angles = table.data<Real>() + t * table.row_stride();
      for (Index head = 0; head < heads; ++head) {
        rotate_head(to + head * head_dim, from + head * head_dim, angles, angles + head_dim / 2,
                    inverse ? Real(-1) : Real(1), head_dim / 2);
      }
    });
  });
}

}  // namespace longspan::backend::cpu
