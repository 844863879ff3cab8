#pragma once

#include <omp.h>

#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <cstring>
#include <functional>
#include <vector>

#include "longspan/backend/backend.h"
#include "longspan/base/error.h"

// Host arrays seen as tensors, and the comparisons that the kernels' tests share.
namespace longspan::backend::testing {

using base::BFloat16;
using base::DType;

/// The cpu backend, for its operations.
inline Backend& processor() {
  static const auto backend = make_cpu_backend(std::size_t{64} << 20U);
  return *backend;
}

/// The float dtypes a kernel must serve.
inline DType every_float() { return GENERATE(DType::kFloat32, DType::kBFloat16, DType::kFloat64); }

/// Largest relative error of one rounding to the dtype.
inline double unit_roundoff(DType dtype) {
  if (dtype == DType::kFloat64) return 0x1p-53;
  return dtype == DType::kBFloat16 ? 0x1p-8 : 0x1p-24;
}

/// The dtype of norms, statistics and parameter gradients that goes with activations of `dtype`.
inline DType wide(DType dtype) {
  return dtype == DType::kFloat64 ? DType::kFloat64 : DType::kFloat32;
}

/// Of an update with everything in it.
inline AdamWOptions adamw_options(std::int64_t update) {
  AdamWOptions options;
  options.learning_rate = 0.01F;
  options.beta1 = 0.9F;
  options.beta2 = 0.95F;
  options.epsilon = 1e-6F;
  options.weight_decay = 0.1F;
  options.gradient_scale = 0.7F;
  options.update = update;
  return options;
}

/// A tensor with its memory. With `padding` each row of axis 0 is followed by that many elements
/// that no kernel may touch.
class Array {
 public:
  Array(DType dtype, const Shape& shape, Index padding = 0)
      : dtype_(dtype), shape_(shape), row_elements_(row_elements_of(shape)), padding_(padding) {
    const Index rows = shape.rank() == 0 ? 1 : shape[0];
    const Index stride = row_elements_ + padding;
    memory_.assign(static_cast<std::size_t>(rows * stride) * base::size_of(dtype), kUntouched);
    bind();
  }
  Array(const Array& other)
      : dtype_(other.dtype_),
        shape_(other.shape_),
        row_elements_(other.row_elements_),
        padding_(other.padding_),
        memory_(other.memory_) {
    bind();
  }
  Array& operator=(const Array&) = delete;

  operator const Tensor&() const { return tensor_; }
  const Tensor& tensor() const { return tensor_; }
  Index elements() const { return shape_.elements(); }

  double get(Index i) const {
    const void* at = address(i);
    switch (dtype_) {
      case DType::kFloat64:
        return *static_cast<const double*>(at);
      case DType::kFloat32:
        return *static_cast<const float*>(at);
      case DType::kBFloat16:
        return static_cast<float>(*static_cast<const BFloat16*>(at));
      case DType::kUInt8:
        return *static_cast<const std::uint8_t*>(at);
      default:
        return *static_cast<const std::int32_t*>(at);
    }
  }

  void set(Index i, double value) {
    void* at = address(i);
    switch (dtype_) {
      case DType::kFloat64:
        *static_cast<double*>(at) = value;
        break;
      case DType::kFloat32:
        *static_cast<float*>(at) = static_cast<float>(value);
        break;
      case DType::kBFloat16:
        *static_cast<BFloat16*>(at) = BFloat16(static_cast<float>(value));
        break;
      case DType::kUInt8:
        *static_cast<std::uint8_t*>(at) = static_cast<std::uint8_t>(value);
        break;
      default:
        *static_cast<std::int32_t*>(at) = static_cast<std::int32_t>(value);
    }
  }

  Array& fill(double value) {
    for (Index i = 0; i < elements(); ++i) set(i, value);
    return *this;
  }
  /// Normal numbers; `salt` tells the arrays of one test apart.
  Array& random(std::uint64_t salt, double deviation = 1.0) {
    const base::RandomStream stream(7, base::Purpose::kTest, 0, salt);
    for (Index i = 0; i < elements(); ++i) {
      set(i, deviation * stream.normal(static_cast<std::uint64_t>(i)));
    }
    return *this;
  }
  /// Integers in [0, end).
  Array& random_ids(std::uint64_t salt, Index end) {
    const base::RandomStream stream(7, base::Purpose::kTest, 0, salt);
    for (Index i = 0; i < elements(); ++i) {
      set(i, std::floor(stream.uniform(static_cast<std::uint64_t>(i)) * static_cast<double>(end)));
    }
    return *this;
  }

  std::vector<double> values() const {
    std::vector<double> result;
    for (Index i = 0; i < elements(); ++i) result.push_back(get(i));
    return result;
  }

  bool gaps_untouched() const {
    const std::size_t size = base::size_of(dtype_);
    const auto stride = static_cast<std::size_t>(row_elements_ + padding_) * size;
    const auto used = static_cast<std::size_t>(row_elements_) * size;
    for (std::size_t i = 0; i < memory_.size(); ++i) {
      if (i % stride >= used && memory_[i] != kUntouched) return false;
    }
    return true;
  }

  /// Bit for bit, gaps aside.
  bool same_bits(const Array& other) const {
    const std::size_t size = base::size_of(dtype_);
    for (Index i = 0; i < elements(); ++i) {
      if (std::memcmp(address(i), other.address(i), size) != 0) return false;
    }
    return dtype_ == other.dtype_ && shape_ == other.shape_;
  }

 private:
  static constexpr std::byte kUntouched{0xA5};

  static Index row_elements_of(const Shape& shape) {
    Index product = 1;
    for (int axis = 1; axis < shape.rank(); ++axis) product *= shape[axis];
    return product;
  }
  void bind() {
    tensor_ = Tensor(nullptr, memory_.data(), dtype_, shape_);
    if (padding_ == 0) return;
    const Tensor whole(nullptr, memory_.data(), dtype_, {shape_[0], row_elements_ + padding_});
    tensor_ = whole.columns(0, row_elements_).reshape(shape_);
  }
  void* address(Index i) const {
    const Index offset = i / row_elements_ * (row_elements_ + padding_) + i % row_elements_;
    return const_cast<std::byte*>(memory_.data()) +
           static_cast<std::size_t>(offset) * base::size_of(dtype_);
  }

  DType dtype_;
  Shape shape_;
  Index row_elements_;
  Index padding_;
  std::vector<std::byte> memory_;
  Tensor tensor_;
};

/// |found - expected| <= tolerance * (1 + |expected|) everywhere; NaN fails.
inline void require_close(const Array& found, const std::vector<double>& expected,
                          double tolerance) {
  REQUIRE(found.elements() == static_cast<Index>(expected.size()));
  for (Index i = 0; i < found.elements(); ++i) {
    const double want = expected[static_cast<std::size_t>(i)];
    const double got = found.get(i);
    if (!(std::abs(got - want) <= tolerance * (1.0 + std::abs(want)))) {
      FAIL("element " << i << " is " << got << "; expected " << want << " within " << tolerance);
    }
  }
  REQUIRE(found.gaps_untouched());
}

inline double dot(const Array& a, const Array& b) {
  double sum = 0.0;
  for (Index i = 0; i < a.elements(); ++i) sum += a.get(i) * b.get(i);
  return sum;
}

/// d loss / d x by central differences, x float64.
inline std::vector<double> finite_difference(Array& x, const std::function<double()>& loss) {
  constexpr double kStep = 1e-5;
  std::vector<double> slope;
  for (Index i = 0; i < x.elements(); ++i) {
    const double kept = x.get(i);
    x.set(i, kept + kStep);
    const double above = loss();
    x.set(i, kept - kStep);
    const double below = loss();
    x.set(i, kept);
    slope.push_back((above - below) / (2.0 * kStep));
  }
  return slope;
}
/// What the truncation (step^2) and the rounding (2^-53 / step) of such a difference leave.
inline constexpr double kDifferenceTolerance = 1e-8;

/// Sets the number of OpenMP threads for a scope.
class Threads {
 public:
  explicit Threads(int count) : before_(omp_get_max_threads()) { omp_set_num_threads(count); }
  ~Threads() { omp_set_num_threads(before_); }
  Threads(const Threads&) = delete;
  Threads& operator=(const Threads&) = delete;

 private:
  int before_;
};

}  // namespace longspan::backend::testing
