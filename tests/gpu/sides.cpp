#include "tests/gpu/sides.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <limits>

#include "longspan/backend/cuda.h"

namespace longspan::test {

using backend::Index;
using backend::MemoryTag;
using backend::Shape;
using backend::Tensor;
using base::DType;

namespace {

constexpr std::size_t kMemory = std::size_t{256} << 20U;

/// Rows of a tensor with gaps between them.
Tensor padded(backend::Backend& backend, const Shape& shape, DType dtype, Index padding) {
  if (padding == 0) return backend.allocate(shape, dtype, MemoryTag::kWorkspace);
  const Index columns = shape[0] == 0 ? 0 : shape.elements() / shape[0];
  const Tensor wide = backend.allocate({shape[0], columns + padding}, dtype, MemoryTag::kWorkspace);
  backend.zero(wide);
  return wide.columns(0, columns).reshape(shape);
}

}  // namespace

Tensor Side::random(const Shape& shape, DType dtype, double deviation, Index padding) {
  const auto host = backend::make_cpu_backend(kMemory);
  const Tensor values = host->allocate(shape, dtype, MemoryTag::kWorkspace);
  host->random_normal(values, {9, base::Purpose::kTest, 0, drawn_++}, deviation, 0);
  const Tensor result = padded(*backend_, shape, dtype, padding);
  backend_->copy_from_host(result, values.raw(), values.bytes());
  return result;
}

Tensor Side::unwritten(const Shape& shape, DType dtype, Index padding) const {
  const Tensor result = padded(*backend_, shape, dtype, padding);
  backend_->fill(result, std::numeric_limits<double>::quiet_NaN());
  return result;
}

Tensor Side::zeros(const Shape& shape, DType dtype) const {
  const Tensor result = backend_->allocate(shape, dtype, MemoryTag::kWorkspace);
  backend_->zero(result);
  return result;
}

Tensor Side::integers(const std::vector<std::int32_t>& values) const {
  const Tensor result =
      backend_->allocate({static_cast<Index>(values.size())}, DType::kInt32, MemoryTag::kWorkspace);
  backend_->copy_from_host(result, values.data(), result.bytes());
  return result;
}

std::vector<double> Side::values(const Tensor& tensor) const {
  const Tensor exact = backend_->allocate(tensor.shape(), DType::kFloat64, MemoryTag::kWorkspace);
  backend_->copy(exact, tensor);
  std::vector<double> result(static_cast<std::size_t>(exact.elements()));
  backend_->copy_to_host(result.data(), exact, exact.bytes());
  return result;
}

Side& cpu_side() {
  static Side side(backend::make_cpu_backend(kMemory));
  return side;
}

Side& cuda_side() {
  static Side side(backend::make_cuda_backend(0, kMemory));
  return side;
}

void compare(const Work& work, double relative) {
  std::vector<std::vector<std::vector<double>>> results;
  std::vector<Index> columns;
  for (Side* side : {&cpu_side(), &cuda_side()}) {
    side->start_again();
    columns.clear();
    auto& of_side = results.emplace_back();
    for (const Tensor& tensor : work(*side)) {
      of_side.push_back(side->values(tensor));
      columns.push_back(std::max<Index>(1, tensor.size(tensor.rank() - 1)));
    }
  }
  for (std::size_t number = 0; number < columns.size(); ++number) {
    const auto& expected = results[0][number];
    const auto& found = results[1][number];
    REQUIRE(found.size() == expected.size());
    const auto width = static_cast<std::size_t>(columns[number]);
    for (std::size_t begin = 0; begin < expected.size(); begin += width) {
      double largest = 0;
      for (std::size_t i = begin; i < begin + width; ++i) {
        if (std::isfinite(expected[i])) largest = std::max(largest, std::abs(expected[i]));
      }
      for (std::size_t i = begin; i < begin + width; ++i) {
        if (found[i] == expected[i]) continue;
        if (std::abs(found[i] - expected[i]) <= relative * largest) continue;
        FAIL("output " << number << ", element " << i << ": " << found[i] << ", the cpu has "
                       << expected[i] << " (largest of its row " << largest << ")");
      }
    }
  }
}

base::DType every_float() {
  return GENERATE(base::DType::kFloat32, base::DType::kBFloat16, base::DType::kFloat64);
}

base::DType wide(base::DType dtype) {
  return dtype == base::DType::kFloat64 ? dtype : base::DType::kFloat32;
}

double tolerance(DType dtype, double terms) {
  // Errors of a sum grow as a random walk of its roundings; 4 covers the largest of many sums.
  const double rounding = dtype == DType::kFloat64 ? 0x1p-53 : 0x1p-24;
  const double sums = 4 * rounding * std::sqrt(terms + 16);
  // What is stored in bfloat16 may fall on the other side of one rounding.
  return dtype == DType::kBFloat16 ? 0x1p-7 + sums : sums;
}

}  // namespace longspan::test
