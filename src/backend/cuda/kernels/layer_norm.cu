#include "backend/contracts.h"
#include "backend/cuda/kernels.h"
#include "backend/cuda/kernels/norm_gradient.h"
#include "backend/cuda/kernels/norm_rows.h"

namespace longspan::backend::cuda {

void layer_norm_forward(const Queue& queue, const Tensor& out, const Tensor& mean,
                        const Tensor& rstd, const Tensor& x, const Tensor& weight,
                        const Tensor& bias, float epsilon) {
  constexpr const char* kName = "layer_norm_forward";
  check_layer_norm(kName, out, mean, rstd, x, weight, bias);
  normalise<true, NormMode::kForward>(
      kName, queue, {out, mean, rstd, x, Tensor(), Tensor(), weight, bias}, epsilon);
}

void add_layer_norm_forward(const Queue& queue, const Tensor& out, const Tensor& mean,
                            const Tensor& rstd, const Tensor& sum, const Tensor& a, const Tensor& b,
                            const Tensor& weight, const Tensor& bias, float epsilon) {
  check_add_layer_norm(out, mean, rstd, sum, a, b, weight, bias);
  normalise<true, NormMode::kAdd>("add_layer_norm_forward", queue,
                                  {out, mean, rstd, sum, a, b, weight, bias}, epsilon);
}

void layer_norm_backward(const Queue& queue, const Tensor& dx, const Tensor& dweight,
                         const Tensor& dbias, const Tensor& dy, const Tensor& residual,
                         const Tensor& mean, const Tensor& rstd, const Tensor& x,
                         const Tensor& weight) {
  check_layer_norm_backward(dx, dweight, dbias, dy, residual, mean, rstd, x, weight);
  backward<true>("layer_norm_backward", queue,
                 {dx, dweight, dbias, dy, residual, mean, rstd, x, weight});
}

}  // namespace longspan::backend::cuda
