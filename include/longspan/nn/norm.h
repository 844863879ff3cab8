#pragma once

#include "longspan/nn/pass.h"

namespace longspan::nn {

/// A norm of each token. Its output is cheap and large, so it need not be kept: `again` makes it
/// from x and the statistics that `forward` wrote. The caller keeps both (a norm pushes no slot,
/// because `again` comes before the backward of what follows).
///
/// x, out and their gradients are [tokens, hidden]; out is not x.
class Norm {
 public:
  virtual ~Norm() = default;
  Norm() = default;
  Norm(const Norm&) = delete;
  Norm& operator=(const Norm&) = delete;

  /// The shape of the statistics of so many tokens, in the dtype of statistics.
  virtual backend::Shape statistics(backend::Index tokens) const = 0;

  virtual void forward(const backend::Tensor& out, const backend::Tensor& statistics,
                       const backend::Tensor& x, Pass& pass) const = 0;
  /// sum = a + b, and the forward of sum, bit for bit; sum may be a or b.
  virtual void add_forward(const backend::Tensor& out, const backend::Tensor& statistics,
                           const backend::Tensor& sum, const backend::Tensor& a,
                           const backend::Tensor& b, Pass& pass) const = 0;
  /// The forward's output once more, bit for bit.
  virtual void again(const backend::Tensor& out, const backend::Tensor& statistics,
                     const backend::Tensor& x, Pass& pass) const = 0;
  /// dx = residual + the gradient through the norm. `residual` may be undefined (nothing is
  /// added) or dx itself.
  virtual void backward(const backend::Tensor& dx, const backend::Tensor& dy,
                        const backend::Tensor& residual, const backend::Tensor& statistics,
                        const backend::Tensor& x, Pass& pass) const = 0;
};

}  // namespace longspan::nn
