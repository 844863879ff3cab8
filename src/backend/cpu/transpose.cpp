#include "backend/cpu/transpose.h"

#include <cstdint>
#include <cstring>

#include "backend/cpu/parallel.h"

namespace longspan::backend::cpu {
namespace {

constexpr Index kBlock = 8;
constexpr Index kStripe = 32;  // rows that fill one cache line of the result

using Vector = std::uint16_t __attribute__((vector_size(2 * kBlock)));

Vector load(const std::uint16_t* from) {
  Vector vector;
  std::memcpy(&vector, from, sizeof(vector));
  return vector;
}

/// Interleaves pairs of lanes of both, as three rounds of which an 8 x 8 transposition is made.
template <int kWidth>
void interleave(Vector& a, Vector& b) {
  Vector low;
  Vector high;
  if constexpr (kWidth == 1) {
    low = __builtin_shufflevector(a, b, 0, 8, 1, 9, 2, 10, 3, 11);
    high = __builtin_shufflevector(a, b, 4, 12, 5, 13, 6, 14, 7, 15);
  } else if constexpr (kWidth == 2) {
    low = __builtin_shufflevector(a, b, 0, 1, 8, 9, 2, 3, 10, 11);
    high = __builtin_shufflevector(a, b, 4, 5, 12, 13, 6, 7, 14, 15);
  } else {
    low = __builtin_shufflevector(a, b, 0, 1, 2, 3, 8, 9, 10, 11);
    high = __builtin_shufflevector(a, b, 4, 5, 6, 7, 12, 13, 14, 15);
  }
  a = low;
  b = high;
}

void transpose_block(std::uint16_t* out, Index out_stride, const std::uint16_t* in,
                     Index in_stride) {
  Vector v[kBlock];
  for (Index i = 0; i < kBlock; ++i) v[i] = load(in + i * in_stride);
  for (const int i : {0, 2, 4, 6}) interleave<1>(v[i], v[i + 1]);
  for (const int i : {0, 1, 4, 5}) interleave<2>(v[i], v[i + 2]);
  for (const int i : {0, 1, 2, 3}) interleave<4>(v[i], v[i + 4]);
  // Where the rounds have left each row of the result.
  constexpr int kPlace[kBlock] = {0, 4, 2, 6, 1, 5, 3, 7};
  for (Index i = 0; i < kBlock; ++i)
    std::memcpy(out + i * out_stride, &v[kPlace[i]], sizeof(Vector));
}

}  // namespace

void transpose_bfloat16(const Tensor& out, const Tensor& in) {
  const Index rows = in.size(0);
  const Index columns = in.size(1);
  const Index stride = in.row_stride();
  const auto* source = static_cast<const std::uint16_t*>(in.raw());
  auto* target = static_cast<std::uint16_t*>(out.raw());
  parallel_for(divide_up(rows, kStripe), kStripe * columns, [&](Index stripe) {
    const Index begin = stripe * kStripe;
    const Index end = std::min(begin + kStripe, rows);
    const Index whole_rows = begin + (end - begin) / kBlock * kBlock;
    const Index whole_columns = columns / kBlock * kBlock;
    for (Index j = 0; j < whole_columns; j += kBlock) {
      for (Index i = begin; i < whole_rows; i += kBlock) {
        transpose_block(target + j * rows + i, rows, source + i * stride + j, stride);
      }
    }
    for (Index i = begin; i < end; ++i) {
      for (Index j = i < whole_rows ? whole_columns : 0; j < columns; ++j) {
        target[j * rows + i] = source[i * stride + j];
      }
    }
  });
}

}  // namespace longspan::backend::cpu
