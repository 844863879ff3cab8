#include "backend/contracts.h"
#include "backend/cpu/cpu_backend.h"
#include "backend/cpu/norm.h"
#include "backend/operation.h"

namespace longspan::backend::cpu {

void CpuBackend::layer_norm_forward(const Tensor& out, const Tensor& mean, const Tensor& rstd,
                                    const Tensor& x, const Tensor& weight, const Tensor& bias,
                                    float epsilon) {
  const Operation operation(*this, "layer_norm_forward", out);
  check_layer_norm("layer_norm_forward", out, mean, rstd, x, weight, bias);
  normalise<true>("layer_norm_forward",
                  {out, mean, rstd, x, Tensor(), Tensor(), weight, bias, {.epsilon = epsilon}});
}

void CpuBackend::add_layer_norm_forward(const Tensor& out, const Tensor& mean, const Tensor& rstd,
                                        const Tensor& sum, const Tensor& a, const Tensor& b,
                                        const Tensor& weight, const Tensor& bias, float epsilon) {
  const Operation operation(*this, "add_layer_norm_forward", out);
  check_add_layer_norm(out, mean, rstd, sum, a, b, weight, bias);
  add_and_normalise<true>("add_layer_norm_forward",
                          {out, mean, rstd, sum, a, b, weight, bias, {.epsilon = epsilon}});
}

void CpuBackend::layer_norm_backward(const Tensor& dx, const Tensor& dweight, const Tensor& dbias,
                                     const Tensor& dy, const Tensor& residual, const Tensor& mean,
                                     const Tensor& rstd, const Tensor& x, const Tensor& weight) {
  const Operation operation(*this, "layer_norm_backward", dx);
  check_layer_norm_backward(dx, dweight, dbias, dy, residual, mean, rstd, x, weight);
  backward<true>("layer_norm_backward", {dx, dweight, dbias, dy, residual, mean, rstd, x, weight});
}

}  // namespace longspan::backend::cpu
