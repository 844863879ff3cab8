#pragma once

#include <string>

#include "longspan/backend/tensor.h"
#include "longspan/base/error.h"

// Contract checks of kernels, and the one place where a dtype becomes a template argument.
namespace longspan::backend {

[[noreturn]] inline void contract_broken(const char* operation, const std::string& what) {
  throw base::InternalError(std::string(operation) + ": " + what);
}

/// "float32 [7, 64]", or "undefined".
inline std::string describe(const Tensor& tensor) {
  if (!tensor.defined()) return "undefined";
  return std::string(base::name_of(tensor.dtype())) + " " + tensor.shape().to_string();
}

[[noreturn]] inline void contract_broken(const char* operation, const char* name,
                                         const Tensor& found, const std::string& expected) {
  contract_broken(operation,
                  std::string(name) + " is " + describe(found) + "; expected " + expected);
}

/// A vector (rank 1) must be dense as well: kernels index it without its stride.
inline void expect(const char* operation, const char* name, const Tensor& tensor, base::DType dtype,
                   const Shape& shape) {
  if (!tensor.defined() || tensor.dtype() != dtype || tensor.shape() != shape) {
    contract_broken(operation, name, tensor,
                    std::string(base::name_of(dtype)) + " " + shape.to_string());
  }
  if (shape.rank() == 1 && !tensor.is_dense()) {
    contract_broken(operation, name, tensor, "a dense vector");
  }
}

inline void expect_rank(const char* operation, const char* name, const Tensor& tensor, int rank) {
  if (!tensor.defined() || tensor.rank() != rank) {
    contract_broken(operation, name, tensor, "rank " + std::to_string(rank));
  }
}

/// The dtype in which sums, norms, softmax and gradients of parameters are kept.
inline base::DType compute_dtype(base::DType dtype) {
  return dtype == base::DType::kFloat64 ? base::DType::kFloat64 : base::DType::kFloat32;
}

/// Calls visit.template operator()<T>() for the tensor's element type: double, float, BFloat16.
template <typename Visit>
void dispatch_float(const char* operation, const char* name, const Tensor& tensor, Visit&& visit) {
  if (!tensor.defined()) contract_broken(operation, name, tensor, "a float tensor");
  switch (tensor.dtype()) {
    case base::DType::kFloat64:
      return visit.template operator()<double>();
    case base::DType::kFloat32:
      return visit.template operator()<float>();
    case base::DType::kBFloat16:
      return visit.template operator()<base::BFloat16>();
    default:
      contract_broken(operation, name, tensor, "float32, bfloat16 or float64");
  }
}

/// Of contracts alone (contracts.cpp).
void expect_float(const char* operation, const char* name, const Tensor& tensor);

}  // namespace longspan::backend
