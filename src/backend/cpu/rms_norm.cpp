#include "backend/contracts.h"
#include "backend/cpu/cpu_backend.h"
#include "backend/cpu/norm.h"
#include "backend/operation.h"

namespace longspan::backend::cpu {

void CpuBackend::rms_norm_forward(const Tensor& out, const Tensor& rstd, const Tensor& x,
                                  const Tensor& weight, const RmsNormOptions& options) {
  const Operation operation(*this, "rms_norm_forward", out);
  check_rms_norm("rms_norm_forward", out, rstd, x, weight);
  normalise<false>("rms_norm_forward",
                   {.out = out, .rstd = rstd, .x = x, .weight = weight, .options = options});
}

void CpuBackend::add_rms_norm_forward(const Tensor& out, const Tensor& rstd, const Tensor& sum,
                                      const Tensor& a, const Tensor& b, const Tensor& weight,
                                      const RmsNormOptions& options) {
  const Operation operation(*this, "add_rms_norm_forward", out);
  check_add_rms_norm(out, rstd, sum, a, b, weight);
  add_and_normalise<false>(
      "add_rms_norm_forward",
      {.out = out, .rstd = rstd, .x = sum, .a = a, .b = b, .weight = weight, .options = options});
}

void CpuBackend::rms_norm_again(const Tensor& out, const Tensor& rstd, const Tensor& x,
                                const Tensor& weight, const RmsNormOptions& options) {
  const Operation operation(*this, "rms_norm_again", out);
  check_rms_norm("rms_norm_again", out, rstd, x, weight);
  dispatch_float("rms_norm_again", "x", x, [&]<typename T>() {
    using Real = Compute<T>;
    const NormTensors norm{.out = out, .rstd = rstd, .x = x, .weight = weight, .options = options};
    parallel_for(x.size(0), x.row_elements(), [&](Index token) {
      for_heads(x, token, [&](const NormRow& row) {
        normalise_row<false, T>(norm, row, {Real(0), row.statistic<Real>(rstd)});
      });
    });
  });
}

void CpuBackend::rms_norm_backward(const Tensor& dx, const Tensor& dweight, const Tensor& dy,
                                   const Tensor& residual, const Tensor& rstd, const Tensor& x,
                                   const Tensor& weight, const RmsNormOptions& options) {
  const Operation operation(*this, "rms_norm_backward", dx);
  check_rms_norm_backward(dx, dweight, dy, residual, rstd, x, weight);
  backward<false>("rms_norm_backward", {.dx = dx,
                                        .dweight = dweight,
                                        .dy = dy,
                                        .residual = residual,
                                        .rstd = rstd,
                                        .x = x,
                                        .weight = weight,
                                        .options = options});
}

}  // namespace longspan::backend::cpu
