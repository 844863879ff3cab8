#include "longspan/backend/tensor.h"

#include <fmt/format.h>

#include "longspan/base/error.h"

namespace longspan::backend {

using base::InternalError;

Shape::Shape(std::initializer_list<Index> extents) : rank_(static_cast<int>(extents.size())) {
  if (rank_ > kMaxRank) {
    throw InternalError(fmt::format("Shape: rank {} is over the limit of {}", rank_, kMaxRank));
  }
  std::size_t axis = 0;
  for (const Index extent : extents) {
    if (extent < 0) throw InternalError(fmt::format("Shape: negative extent {}", extent));
    extents_[axis++] = extent;
  }
}

Index Shape::elements() const {
  Index product = 1;
  for (int axis = 0; axis < rank_; ++axis) product *= (*this)[axis];
  return product;
}

std::string Shape::to_string() const {
  std::string text = "[";
  for (int axis = 0; axis < rank_; ++axis) {
    text += fmt::format("{}{}", axis == 0 ? "" : ", ", (*this)[axis]);
  }
  return text + "]";
}

Tensor::Tensor(std::shared_ptr<Buffer> owner, void* data, base::DType dtype, Shape shape)
    : owner_(std::move(owner)), data_(data), dtype_(dtype), shape_(shape), defined_(true) {
  row_stride_ = row_elements();
}

Index Tensor::row_elements() const {
  Index product = 1;
  for (int axis = 1; axis < rank(); ++axis) product *= size(axis);
  return product;
}

bool Tensor::is_dense() const {
  return rank() == 0 || size(0) <= 1 || row_stride_ == row_elements();
}

std::size_t Tensor::bytes() const {
  return static_cast<std::size_t>(elements()) * base::size_of(dtype_);
}

Tensor Tensor::rows(Index begin, Index end) const {
  if (rank() < 1 || begin < 0 || begin > end || end > size(0)) {
    throw InternalError(
        fmt::format("Tensor::rows: [{}, {}) of shape {}", begin, end, shape_.to_string()));
  }
  Tensor view = *this;
  view.data_ = static_cast<std::byte*>(data_) +
               static_cast<std::size_t>(begin * row_stride_) * base::size_of(dtype_);
  const Index count = end - begin;
  switch (rank()) {
    case 1:
      view.shape_ = {count};
      break;
    case 2:
      view.shape_ = {count, size(1)};
      break;
    case 3:
      view.shape_ = {count, size(1), size(2)};
      break;
    default:
      view.shape_ = {count, size(1), size(2), size(3)};
  }
  return view;
}

Tensor Tensor::columns(Index begin, Index end) const {
  if (rank() != 2 || begin < 0 || begin > end || end > size(1)) {
    throw InternalError(
        fmt::format("Tensor::columns: [{}, {}) of shape {}", begin, end, shape_.to_string()));
  }
  Tensor view = *this;
  view.data_ =
      static_cast<std::byte*>(data_) + static_cast<std::size_t>(begin) * base::size_of(dtype_);
  view.shape_ = {size(0), end - begin};
  return view;
}

Tensor Tensor::reshape(Shape shape) const {
  const bool same_rows = rank() > 0 && shape.rank() > 0 && shape[0] == size(0);
  if (shape.elements() != elements() || (!is_dense() && !same_rows)) {
    throw InternalError(fmt::format("Tensor::reshape: {} (row stride {}) to {}", shape_.to_string(),
                                    row_stride_, shape.to_string()));
  }
  Tensor view = *this;
  view.shape_ = shape;
  if (!same_rows) view.row_stride_ = view.row_elements();
  return view;
}

Tensor Tensor::as(base::DType dtype) const {
  const std::size_t size = base::size_of(dtype);
  const bool is_aligned = reinterpret_cast<std::uintptr_t>(data_) % size == 0;
  if (rank() != 1 || !is_dense() || bytes() % size != 0 || !is_aligned) {
    throw InternalError(fmt::format("Tensor::as: {} {} as {}", base::name_of(dtype_),
                                    shape_.to_string(), base::name_of(dtype)));
  }
  Tensor view = *this;
  view.dtype_ = dtype;
  view.shape_ = {static_cast<Index>(bytes() / size)};
  return view;
}

void Tensor::check_dtype(base::DType wanted) const {
  if (dtype_ != wanted) {
    throw InternalError(fmt::format("Tensor::data: a {} tensor was read as {}",
                                    base::name_of(dtype_), base::name_of(wanted)));
  }
}

}  // namespace longspan::backend
