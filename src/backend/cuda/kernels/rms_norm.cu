#include "backend/contracts.h"
#include "backend/cuda/kernels.h"
#include "backend/cuda/kernels/norm_gradient.h"
#include "backend/cuda/kernels/norm_rows.h"

namespace longspan::backend::cuda {

void rms_norm_forward(const Queue& queue, const Tensor& out, const Tensor& rstd, const Tensor& x,
                      const Tensor& weight, float epsilon) {
  constexpr const char* kName = "rms_norm_forward";
  check_rms_norm(kName, out, rstd, x, weight);
  normalise<false, NormMode::kForward>(
      kName, queue, {.out = out, .rstd = rstd, .x = x, .weight = weight}, epsilon);
}

void add_rms_norm_forward(const Queue& queue, const Tensor& out, const Tensor& rstd,
                          const Tensor& sum, const Tensor& a, const Tensor& b, const Tensor& weight,
                          float epsilon) {
  check_add_rms_norm(out, rstd, sum, a, b, weight);
  normalise<false, NormMode::kAdd>(
      "add_rms_norm_forward", queue,
      {.out = out, .rstd = rstd, .x = sum, .a = a, .b = b, .weight = weight}, epsilon);
}

void rms_norm_again(const Queue& queue, const Tensor& out, const Tensor& rstd, const Tensor& x,
                    const Tensor& weight) {
  constexpr const char* kName = "rms_norm_again";
  check_rms_norm(kName, out, rstd, x, weight);
  normalise<false, NormMode::kAgain>(kName, queue,
                                     {.out = out, .rstd = rstd, .x = x, .weight = weight}, 0.0F);
}

void rms_norm_backward(const Queue& queue, const Tensor& dx, const Tensor& dweight,
                       const Tensor& dy, const Tensor& residual, const Tensor& rstd,
                       const Tensor& x, const Tensor& weight) {
  check_rms_norm_backward(dx, dweight, dy, residual, rstd, x, weight);
  backward<false>("rms_norm_backward", queue,
                  {.dx = dx,
                   .dweight = dweight,
                   .dy = dy,
                   .residual = residual,
                   .rstd = rstd,
                   .x = x,
                   .weight = weight});
}

}  // namespace longspan::backend::cuda
