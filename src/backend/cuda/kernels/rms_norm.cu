#include "backend/contracts.h"
#include "backend/cuda/kernels.h"
#include "backend/cuda/kernels/norm_gradient.h"
#include "backend/cuda/kernels/norm_rows.h"
#include "backend/operation.h"

namespace longspan::backend::cuda {

void CudaKernels::rms_norm_forward(const Tensor& out, const Tensor& rstd, const Tensor& x,
                                   const Tensor& weight, const RmsNormOptions& options) {
  const Operation operation(*this, "rms_norm_forward", out);
  constexpr const char* kName = "rms_norm_forward";
  check_rms_norm(kName, out, rstd, x, weight);
  normalise<false, NormMode::kForward>(
      kName, queue_, {.out = out, .rstd = rstd, .x = x, .weight = weight, .options = options});
}

void CudaKernels::add_rms_norm_forward(const Tensor& out, const Tensor& rstd, const Tensor& sum,
                                       const Tensor& a, const Tensor& b, const Tensor& weight,
                                       const RmsNormOptions& options) {
  const Operation operation(*this, "add_rms_norm_forward", out);
  check_add_rms_norm(out, rstd, sum, a, b, weight);
  normalise<false, NormMode::kAdd>(
      "add_rms_norm_forward", queue_,
      {.out = out, .rstd = rstd, .x = sum, .a = a, .b = b, .weight = weight, .options = options});
}

void CudaKernels::rms_norm_again(const Tensor& out, const Tensor& rstd, const Tensor& x,
                                 const Tensor& weight, const RmsNormOptions& options) {
  const Operation operation(*this, "rms_norm_again", out);
  constexpr const char* kName = "rms_norm_again";
  check_rms_norm(kName, out, rstd, x, weight);
  normalise<false, NormMode::kAgain>(
      kName, queue_, {.out = out, .rstd = rstd, .x = x, .weight = weight, .options = options});
}

void CudaKernels::rms_norm_backward(const Tensor& dx, const Tensor& dweight, const Tensor& dy,
                                    const Tensor& residual, const Tensor& rstd, const Tensor& x,
                                    const Tensor& weight, const RmsNormOptions& options) {
  const Operation operation(*this, "rms_norm_backward", dx);
  check_rms_norm_backward(dx, dweight, dy, residual, rstd, x, weight);
  backward<false>("rms_norm_backward", queue_,
                  {.dx = dx,
                   .dweight = dweight,
                   .dy = dy,
                   .residual = residual,
                   .rstd = rstd,
                   .x = x,
                   .weight = weight,
                   .options = options});
}

}  // namespace longspan::backend::cuda
