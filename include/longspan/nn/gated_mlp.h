#pragma once

#include <optional>
#include <string>

#include "longspan/nn/linear.h"
#include "longspan/nn/mini_sequence.h"

namespace longspan::nn {

/// SwiGLU MLP: down(silu(gate(x)) * up(x)); gate and up are one matrix.
///
/// Whole, it keeps gate_up [tokens, 2I], and makes the product again in the backward. In
/// mini-sequences it keeps nothing: the forward runs range by range, and the backward makes a
/// range's gate_up again (once; the down projection never) and finishes the range before the next
/// begins. Its memory is then a range's, whatever the number of tokens, also where the block around
/// it is recomputed.
class GatedMlp {
 public:
  /// Declares `prefix`gate_proj.weight, up_proj.weight and down_proj.weight.
  GatedMlp(ParameterSet& parameters, const std::string& prefix, backend::Index hidden,
           backend::Index intermediate, std::optional<MiniSequence> mini_sequence = std::nullopt);

  /// x, out [tokens, hidden]; out may be x.
  void forward(const backend::Tensor& out, const backend::Tensor& x, Pass& pass) const;
  /// dx may be dy or x.
  void backward(const backend::Tensor& dx, const backend::Tensor& dy, const backend::Tensor& x,
                Pass& pass) const;

 private:
  /// Calls visit(begin, end, gate_up, product) for every range, with buffers of its rows.
  template <typename Visit>
  void in_ranges(backend::Index tokens, const Pass& pass, const Visit& visit) const;
  void forward_range(const backend::Tensor& out, const backend::Tensor& x,
                     const backend::Tensor& gate_up, const backend::Tensor& product,
                     Pass& pass) const;
  void backward_range(const backend::Tensor& dx, const backend::Tensor& dy,
                      const backend::Tensor& x, const backend::Tensor& gate_up,
                      const backend::Tensor& product, Pass& pass) const;

  Linear gate_up_;
  Linear down_;
  std::optional<MiniSequence> mini_sequence_;
};

}  // namespace longspan::nn
