#include "backend/contracts.h"
#include "backend/cpu/kernels.h"
#include "backend/cpu/norm.h"

namespace longspan::backend::cpu {

void layer_norm_forward(const Tensor& out, const Tensor& mean, const Tensor& rstd, const Tensor& x,
                        const Tensor& weight, const Tensor& bias, float epsilon) {
  check_layer_norm("layer_norm_forward", out, mean, rstd, x, weight, bias);
  normalise<true>("layer_norm_forward", {out, mean, rstd, x, Tensor(), Tensor(), weight, bias},
                  epsilon);
}

void add_layer_norm_forward(const Tensor& out, const Tensor& mean, const Tensor& rstd,
                            const Tensor& sum, const Tensor& a, const Tensor& b,
                            const Tensor& weight, const Tensor& bias, float epsilon) {
  check_add_layer_norm(out, mean, rstd, sum, a, b, weight, bias);
  add_and_normalise<true>("add_layer_norm_forward", {out, mean, rstd, sum, a, b, weight, bias},
                          epsilon);
}

void layer_norm_backward(const Tensor& dx, const Tensor& dweight, const Tensor& dbias,
                         const Tensor& dy, const Tensor& residual, const Tensor& mean,
                         const Tensor& rstd, const Tensor& x, const Tensor& weight) {
  check_layer_norm_backward(dx, dweight, dbias, dy, residual, mean, rstd, x, weight);
  backward<true>("layer_norm_backward", {dx, dweight, dbias, dy, residual, mean, rstd, x, weight});
}

}  // namespace longspan::backend::cpu
