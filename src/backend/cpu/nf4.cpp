#include "backend/elementwise/nf4.h"

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "backend/checks.h"
#include "backend/contracts.h"
#include "backend/cpu/cpu_backend.h"
#include "backend/cpu/parallel.h"
#include "backend/cpu/vector_math.h"
#include "backend/elementwise/dynamic_map.h"
#include "backend/operation.h"

namespace longspan::backend::cpu {
namespace {

/// Beside a copy's.
constexpr Index kCodeWork = 8;

const MapTable& size_table() {
  static const MapTable kTable = [] {
    MapTable table;
    for (int code = 0; code < kMapCodes; ++code) table.fill_nearest(code);
    return table;
  }();
  return kTable;
}

template <typename T>
void code_block(std::uint8_t* codes, float& size, const T* x, Index length) {
  float block[kNf4Block] = {};
  float most = 0.0F;
  float taint = 0.0F;
  for (Index i = 0; i < length; ++i) {
    block[i] = static_cast<float>(load(x[i]));
    most = std::max(most, std::abs(block[i]));
    taint += taint_of(block[i]);
  }
  size = most + taint;
  const float inverse = inverse_of(most);
  for (Index i = 0; i < length; i += 2) {
    const int first = nf4_code(block[i] * inverse);
    codes[i / 2] = static_cast<std::uint8_t>(first << 4 | nf4_code(block[i + 1] * inverse));
  }
}

template <typename T>
void decode_block(T* out, const std::uint8_t* codes, float size, Index length) {
  T values[kNf4Values];
  for (int code = 0; code < kNf4Values; ++code) {
    values[code] = round_to<T>(nf4_value(code) * size);
  }
  for (Index i = 0; i + 1 < length; i += 2) {
    out[i] = values[codes[i / 2] >> 4];
    out[i + 1] = values[codes[i / 2] & 15];
  }
  if (length % 2 != 0) out[length - 1] = values[codes[length / 2] >> 4];
}

}  // namespace

void CpuBackend::nf4_quantize(const Tensor& codes, const Tensor& sizes, const Tensor& x) {
  const Operation operation(*this, "nf4_quantize", x);
  check_nf4_quantize(codes, sizes, x);
  dispatch_float("nf4_quantize", "x", x, [&]<typename T>() {
    parallel_for(sizes.elements(), kCodeWork * kNf4Block, [&](Index block) {
      const Index begin = block * kNf4Block;
      code_block(codes.data<std::uint8_t>() + begin / 2, sizes.data<float>()[block],
                 x.data<T>() + begin, std::min(kNf4Block, x.elements() - begin));
    });
  });
}

void CpuBackend::nf4_quantize_sizes(const Tensor& codes, const Tensor& scales, const Tensor& sizes,
                                    float mean) {
  const Operation operation(*this, "nf4_quantize_sizes", sizes);
  check_nf4_quantize_sizes(codes, scales, sizes);
  const MapTable& table = size_table();
  parallel_for(scales.elements(), kCodeWork * kNf4Scales, [&](Index block) {
    const Index begin = block * kNf4Scales;
    const Index end = std::min(begin + kNf4Scales, sizes.elements());
    const auto* from = sizes.data<float>();
    float most = 0.0F;
    for (Index i = begin; i < end; ++i) most = std::max(most, std::abs(from[i] - mean));
    scales.data<float>()[block] = most;
    const float inverse = inverse_of(most);
    for (Index i = begin; i < end; ++i) {
      codes.data<std::uint8_t>()[i] = table.code_of((from[i] - mean) * inverse);
    }
  });
}

void CpuBackend::nf4_dequantize(const Tensor& out, const Tensor& codes, const Tensor& size_codes,
                                const Tensor& scales, float mean) {
  const Operation operation(*this, "nf4_dequantize", out);
  check_nf4_dequantize(out, codes, size_codes, scales);
  const MapTable& table = size_table();
  dispatch_float("nf4_dequantize", "out", out, [&]<typename T>() {
    parallel_for(size_codes.elements(), kNf4Block, [&](Index block) {
      const Index begin = block * kNf4Block;
      const float size = nf4_size(table.values[size_codes.data<std::uint8_t>()[block]],
                                  scales.data<float>()[block / kNf4Scales], mean);
      decode_block(out.data<T>() + begin, codes.data<std::uint8_t>() + begin / 2, size,
                   std::min(kNf4Block, out.elements() - begin));
    });
  });
}

}  // namespace longspan::backend::cpu
