#include "backend/elementwise/rope.h"

#include "backend/checks.h"
#include "backend/contracts.h"
#include "backend/cuda/kernels.h"
#include "backend/cuda/kernels/elementwise.h"
#include "backend/operation.h"

namespace longspan::backend::cuda {
namespace {

constexpr Index kThreads = 256;
constexpr Index kMostBlocks = Index{1} << 30;

/// As many frequencies as go into a kernel's parameters (4 KiB of them on every device).
struct Frequencies {
  static constexpr Index kMost = 256;
  double values[kMost];
  Index count;
};

/// Columns [first, first + count) of cosines and of sines; half of head_dim lies between them.
template <typename Real>
__global__ void __launch_bounds__(kThreads)
    fill_table(Rows<Real> table, const std::int32_t* positions, Index tokens, Index half,
               Index first, Frequencies frequencies, double scale) {
  const Index all = tokens * frequencies.count;
  for (Index i = static_cast<Index>(blockIdx.x) * blockDim.x + threadIdx.x; i < all;
       i += static_cast<Index>(gridDim.x) * blockDim.x) {
    const Index token = i / frequencies.count;
    const Index j = i % frequencies.count;
    double sine = 0;
    double cosine = 0;
    sincos(positions[token] * frequencies.values[j], &sine, &cosine);
    *table.at(token, first + j) = static_cast<Real>(scale * cosine);
    *table.at(token, half + first + j) = static_cast<Real>(scale * sine);
  }
}

template <typename Real>
void make_table(const Queue& queue, const Tensor& table, const Tensor& positions,
                const std::vector<double>& inverse_frequencies, double scale) {
  const auto half = static_cast<Index>(inverse_frequencies.size());
  for (Index first = 0; first < half; first += Frequencies::kMost) {
    Frequencies frequencies{};
    frequencies.count = std::min(Frequencies::kMost, half - first);
    std::copy_n(inverse_frequencies.begin() + first, frequencies.count, frequencies.values);
    const Index blocks = divide_up(positions.size(0) * frequencies.count, kThreads);
    const Rows<Real> rows{table.data<Real>(), table.row_stride()};
    LONGSPAN_LAUNCH(fill_table<Real>, static_cast<unsigned>(std::min(blocks, kMostBlocks)),
                    static_cast<unsigned>(kThreads), 0, queue.stream, rows,
                    positions.data<std::int32_t>(), positions.size(0), half, first, frequencies,
                    scale);
  }
}

/// A block takes one token: threadIdx.x is the pack within half a head, whose angles are read once
/// for all heads that the thread turns.
template <typename T, bool kAligned>
__global__ void __launch_bounds__(kThreads)
    rotate_tokens(Rows<T> out, Rows<const T> x, Rows<const Compute<T>> table, Index heads,
                  Index half, Compute<T> direction) {
  using Real = Compute<T>;
  constexpr int kCount = kPack<T>;
  const Index token = blockIdx.x;
  for (Index j = static_cast<Index>(threadIdx.x) * kCount; j < half; j += blockDim.x * kCount) {
    const Index left = half - j;
    const auto cosine = load_pack<kAligned, kCount>(table.at(token, j), left);
    const auto sine = load_pack<kAligned, kCount>(table.at(token, half + j), left);
    for (Index head = threadIdx.y; head < heads; head += blockDim.y) {
      const T* from = x.at(token, head * 2 * half + j);
      auto first = load_pack<kAligned, kCount>(from, left);
      auto second = load_pack<kAligned, kCount>(from + half, left);
      LONGSPAN_UNROLL
      for (int k = 0; k < kCount; ++k) {
        Real one = load(first.values[k]);
        Real other = load(second.values[k]);
        rotate(one, other, cosine.values[k], direction * sine.values[k]);
        first.values[k] = round_to<T>(one);
        second.values[k] = round_to<T>(other);
      }
      T* to = out.at(token, head * 2 * half + j);
      store_pack<kAligned>(to, first, left);
      store_pack<kAligned>(to + half, second, left);
    }
  }
}

}  // namespace

void CudaKernels::rope_table(const Tensor& table, const Tensor& positions,
                             const std::vector<double>& inverse_frequencies, double scale) {
  const Operation operation(*this, "rope_table", table);
  check_rope_table(table, positions, inverse_frequencies.size());
  if (table.elements() == 0) return;
  if (table.dtype() == base::DType::kFloat64) {
    return make_table<double>(queue_, table, positions, inverse_frequencies, scale);
  }
  make_table<float>(queue_, table, positions, inverse_frequencies, scale);
}

void CudaKernels::rope(const Tensor& out, const Tensor& x, const Tensor& table, bool inverse) {
  const Operation operation(*this, "rope", out);
  check_rope(out, x, table);
  if (x.elements() == 0) return;
  const Index heads = x.size(1);
  const Index half = x.size(2) / 2;
  dispatch_float("rope", "x", x, [&]<typename T>() {
    using Real = Compute<T>;
    const Index packs = std::min(divide_up(half, kPack<T>), kThreads);
    const dim3 block(static_cast<unsigned>(packs),
                     static_cast<unsigned>(std::min(heads, kThreads / packs)));
    const bool aligned = packs_aligned(out) && packs_aligned(out, half) && packs_aligned(x) &&
                         packs_aligned(table) && packs_aligned(table, half);
    const Rows<T> to{out.data<T>(), out.row_stride()};
    const Rows<const T> from{x.data<T>(), x.row_stride()};
    const Rows<const Real> angles{table.data<Real>(), table.row_stride()};
    with_alignment(aligned, [&]<bool kAligned>() {
      LONGSPAN_LAUNCH((rotate_tokens<T, kAligned>), static_cast<unsigned>(x.size(0)), block, 0,
                      queue_.stream, to, from, angles, heads, half, inverse ? Real(-1) : Real(1));
    });
  });
}

}  // namespace longspan::backend::cuda
