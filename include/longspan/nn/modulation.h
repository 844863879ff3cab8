#pragma once

#include <string>
#include <vector>

#include "longspan/nn/parameter.h"
#include "longspan/nn/pass.h"
#include "longspan/shard/cover.h"

namespace longspan::nn {

/// Which rows of a pass are of which clip, in order: maybe none of some.
using ClipRows = std::vector<shard::Range>;

/// What a condition (a time of diffusion, say) does to a layer, clip by clip (Peebles & Xie 2023,
/// "adaLN"): of both halves of a block a shift and a scale of what its norm gives, and a gate of
/// what it adds. The vectors of a clip are a table of the layer's own plus what the condition says
/// of all layers, [6, hidden] each.
///
/// All of it is of rows alone: where ranks share a clip, each has the gradients of its own rows,
/// which are summed with the parameters'.
class Modulation {
 public:
  /// Rows of a clip's six vectors; the second half's come kHalf later.
  enum Vector : int { kShift = 0, kScale = 1, kGate = 2, kHalf = 3, kVectors = 6 };

  /// Declares `name` [6, hidden], zeros at first. `parameters` must outlive the layer.
  Modulation(ParameterSet& parameters, const std::string& name, backend::Index hidden,
             double epsilon);

  /// What the layer does in a pass: vectors [clips * 6, hidden] of its dtype, scales with the 1
  /// that they are added to; and their gradients, in the dtype of statistics, 0 at first.
  struct Vectors {
    backend::Tensor values;
    backend::Tensor gradients;  ///< undefined in a pass without a backward
    const ClipRows* rows = nullptr;
  };
  /// `condition` [clips, 6 * hidden] of the pass's dtype.
  Vectors of(const backend::Tensor& condition, const ClipRows& rows, Pass& pass) const;
  /// Once the layer's backward is done: adds to the table's gradient, and to `dcondition` [clips,
  /// 6 * hidden], of the gradients' dtype.
  void backward(const backend::Tensor& dcondition, const Vectors& vectors, Pass& pass) const;

  /// out = layer norm of x, without weights (Ba et al. 2016), times scale plus shift; `half` 0 or
  /// 1; out is not x. `statistics` [2, tokens]: as LayerNorm's.
  void norm(const backend::Tensor& out, const backend::Tensor& statistics, const backend::Tensor& x,
            const Vectors& vectors, int half, Pass& pass) const;
  /// dx = residual + the gradient through it; dx may be dy. Adds to the vectors' gradients.
  void norm_backward(const backend::Tensor& dx, const backend::Tensor& dy,
                     const backend::Tensor& residual, const backend::Tensor& statistics,
                     const backend::Tensor& x, const Vectors& vectors, int half, Pass& pass) const;
  /// out = x + gate * y; out may be x or y.
  void add(const backend::Tensor& out, const backend::Tensor& x, const backend::Tensor& y,
           const Vectors& vectors, int half, Pass& pass) const;
  /// dy = gate * dout, of the sum above; dy is neither dout nor y. Adds to the gate's gradient.
  void add_backward(const backend::Tensor& dy, const backend::Tensor& dout,
                    const backend::Tensor& y, const Vectors& vectors, int half, Pass& pass) const;

 private:
  ParameterSet* parameters_;
  int table_;
  backend::Index hidden_;
  float epsilon_;
};

}  // namespace longspan::nn
