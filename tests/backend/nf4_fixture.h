#pragma once

#include <cstdint>
#include <vector>

#include "tests/backend/kernel_fixture.h"

namespace longspan::backend::testing {

/// A vector as NF4, with its memory.
struct Nf4 {
  explicit Nf4(Index elements)
      : codes(bytes(elements, 2)),
        sizes(bytes(elements, kNf4Block)),
        size_codes(bytes(elements, kNf4Block)),
        scales(bytes(elements, kNf4Block * kNf4Scales)) {}

  void quantize(Backend& on, const Tensor& x) {
    on.nf4_quantize(of(codes), of(sizes), x);
    double sum = 0;
    for (const float size : sizes) sum += size;
    mean = sizes.empty() ? 0.0F : static_cast<float>(sum / static_cast<double>(sizes.size()));
    quantize_sizes(on);
  }
  void quantize_sizes(Backend& on) {
    on.nf4_quantize_sizes(of(size_codes), of(scales), of(sizes), mean);
  }
  void dequantize(Backend& on, const Tensor& out) {
    on.nf4_dequantize(out, of(codes), of(size_codes), of(scales), mean);
  }
  /// The nibble of an element.
  int code(Index i) const {
    const int both = codes[static_cast<std::size_t>(i / 2)];
    return i % 2 == 0 ? both >> 4 : both & 15;
  }

  static std::size_t bytes(Index elements, Index each) {
    return static_cast<std::size_t>((elements + each - 1) / each);
  }
  static Tensor of(std::vector<std::uint8_t>& bytes) {
    return {nullptr, bytes.data(), DType::kUInt8, {static_cast<Index>(bytes.size())}};
  }
  static Tensor of(std::vector<float>& numbers) {
    return {nullptr, numbers.data(), DType::kFloat32, {static_cast<Index>(numbers.size())}};
  }

  std::vector<std::uint8_t> codes;
  std::vector<float> sizes;
  std::vector<std::uint8_t> size_codes;
  std::vector<float> scales;
  float mean = 0;
};

}  // namespace longspan::backend::testing
