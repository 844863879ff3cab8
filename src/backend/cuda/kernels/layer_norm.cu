#include "backend/contracts.h"
#include "backend/cuda/kernels.h"
#include "backend/cuda/kernels/norm_gradient.h"
#include "backend/cuda/kernels/norm_rows.h"
#include "backend/operation.h"

namespace longspan::backend::cuda {

void CudaKernels::layer_norm_forward(const Tensor& out, const Tensor& mean, const Tensor& rstd,
                                     const Tensor& x, const Tensor& weight, const Tensor& bias,
                                     float epsilon) {
  const Operation operation(*this, "layer_norm_forward", out);
  constexpr const char* kName = "layer_norm_forward";
  check_layer_norm(kName, out, mean, rstd, x, weight, bias);
  normalise<true, NormMode::kForward>(
      kName, queue_, {out, mean, rstd, x, Tensor(), Tensor(), weight, bias, {.epsilon = epsilon}});
}

void CudaKernels::add_layer_norm_forward(const Tensor& out, const Tensor& mean, const Tensor& rstd,
                                         const Tensor& sum, const Tensor& a, const Tensor& b,
                                         const Tensor& weight, const Tensor& bias, float epsilon) {
  const Operation operation(*this, "add_layer_norm_forward", out);
  check_add_layer_norm(out, mean, rstd, sum, a, b, weight, bias);
  normalise<true, NormMode::kAdd>("add_layer_norm_forward", queue_,
                                  {out, mean, rstd, sum, a, b, weight, bias, {.epsilon = epsilon}});
}

void CudaKernels::layer_norm_backward(const Tensor& dx, const Tensor& dweight, const Tensor& dbias,
                                      const Tensor& dy, const Tensor& residual, const Tensor& mean,
                                      const Tensor& rstd, const Tensor& x, const Tensor& weight) {
  const Operation operation(*this, "layer_norm_backward", dx);
  check_layer_norm_backward(dx, dweight, dbias, dy, residual, mean, rstd, x, weight);
  backward<true>("layer_norm_backward", queue_,
                 {dx, dweight, dbias, dy, residual, mean, rstd, x, weight});
}

}  // namespace longspan::backend::cuda
