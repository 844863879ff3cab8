#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <string>
#include <vector>

#include "longspan/base/bfloat16.h"
#include "longspan/base/dtype.h"

namespace longspan::backend {

using Index = std::int64_t;

/// Up to four extents, row-major. Extents may be zero.
class Shape {
 public:
  static constexpr int kMaxRank = 4;

  Shape() = default;
  Shape(std::initializer_list<Index> extents);

  int rank() const { return rank_; }
  Index operator[](int axis) const { return extents_[static_cast<std::size_t>(axis)]; }
  /// One for each axis.
  std::vector<Index> extents() const { return {extents_.begin(), extents_.begin() + rank_}; }
  /// Product of all extents; 1 for rank 0.
  Index elements() const;
  bool operator==(const Shape& other) const = default;
  /// "[1024, 12, 64]".
  std::string to_string() const;

 private:
  std::array<Index, kMaxRank> extents_{};
  int rank_ = 0;
};

/// Memory owned by a backend's allocator; freed (and taken off the ledger) with its last view.
class Buffer {
 public:
  virtual ~Buffer() = default;
  Buffer() = default;
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
};

/// A typed view of a buffer: dtype, shape, and the distance between successive indices of axis 0
/// (`row_stride`, in elements); all other axes are dense. Copying a Tensor copies the view, never
/// the data; a `const Tensor&` may be written through, as with std::span. Operations take outputs
/// first. A default-constructed Tensor is empty (`!defined()`).
class Tensor {
 public:
  Tensor() = default;
  /// A dense view of `data` (on the backend's device), keeping `owner` alive; `owner` may be null
  /// for memory that outlives the tensor.
  Tensor(std::shared_ptr<Buffer> owner, void* data, base::DType dtype, Shape shape);

  bool defined() const { return data_ != nullptr || defined_; }
  base::DType dtype() const { return dtype_; }
  const Shape& shape() const { return shape_; }
  int rank() const { return shape_.rank(); }
  Index size(int axis) const { return shape_[axis]; }
  Index elements() const { return shape_.elements(); }
  /// Elements from one index of axis 0 to the next.
  Index row_stride() const { return row_stride_; }
  /// Elements in one index of axis 0 (product of the other extents).
  Index row_elements() const;
  bool is_dense() const;
  /// Bytes of the elements (not of the gaps).
  std::size_t bytes() const;

  /// First element, checked against the dtype (T: double, float, BFloat16, int64_t, int32_t,
  /// uint16_t, uint8_t). Throws InternalError on a mismatch.
  template <typename T>
  T* data() const {
    check_dtype(dtype_of<T>());
    return static_cast<T*>(data_);
  }
  void* raw() const { return data_; }

  /// Indices [begin, end) of axis 0.
  Tensor rows(Index begin, Index end) const;
  /// Columns [begin, end) of a rank-2 tensor, as rank 2 with the same row stride.
  Tensor columns(Index begin, Index end) const;
  /// The same elements under another shape. A view that is not dense may only split or join axes
  /// behind axis 0: [tokens, heads * head_dim] <-> [tokens, heads, head_dim].
  Tensor reshape(Shape shape) const;
  /// The same bytes as elements of another dtype. Dense, of rank 1, a whole number of these,
  /// aligned for them.
  Tensor as(base::DType dtype) const;

 private:
  template <typename T>
  static constexpr base::DType dtype_of();
  void check_dtype(base::DType wanted) const;

  std::shared_ptr<Buffer> owner_;
  void* data_ = nullptr;
  base::DType dtype_ = base::DType::kFloat32;
  Shape shape_;
  Index row_stride_ = 0;
  bool defined_ = false;
};

template <typename T>
constexpr base::DType Tensor::dtype_of() {
  if constexpr (std::is_same_v<T, double>) return base::DType::kFloat64;
  if constexpr (std::is_same_v<T, float>) return base::DType::kFloat32;
  if constexpr (std::is_same_v<T, base::BFloat16>) return base::DType::kBFloat16;
  if constexpr (std::is_same_v<T, std::int64_t>) return base::DType::kInt64;
  if constexpr (std::is_same_v<T, std::int32_t>) return base::DType::kInt32;
  if constexpr (std::is_same_v<T, std::uint16_t>) return base::DType::kUInt16;
  if constexpr (std::is_same_v<T, std::uint8_t>) return base::DType::kUInt8;
}

}  // namespace longspan::backend
