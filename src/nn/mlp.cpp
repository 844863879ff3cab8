#include "longspan/nn/mlp.h"

#include <utility>

namespace longspan::nn {

using backend::Backend;
using backend::Index;
using backend::Tensor;

namespace {

bool is_gated(Activation activation) { return activation != Activation::kGeluTanh; }

/// Gate and up, each of a name or both of one; or one.
std::vector<Linear::Part> up_parts(const MlpProjections& projections, Activation activation,
                                   Index intermediate) {
  const Index width = is_gated(activation) ? 2 * intermediate : intermediate;
  const auto count = static_cast<Index>(projections.up.size());
  std::vector<Linear::Part> parts;
  for (const std::string& name : projections.up) parts.push_back({name, width / count});
  return parts;
}

backend::GateActivation gate_of(Activation activation) {
  return activation == Activation::kSwiGlu ? backend::GateActivation::kSilu
                                           : backend::GateActivation::kGeluTanh;
}

void activate(Activation activation, const Tensor& out, const Tensor& projected, Backend& backend) {
  if (!is_gated(activation)) return backend.gelu_forward(out, projected);
  backend.gated_forward(out, projected, gate_of(activation));
}

/// `projected` becomes its gradient, `activated` the activation once more (if anybody reads it),
/// which held the gradient of it.
void activate_backward(Activation activation, const Tensor& projected, const Tensor& activated,
                       bool again, Backend& backend) {
  const Tensor out = again ? activated : Tensor();
  if (!is_gated(activation)) return backend.gelu_backward(projected, out, activated, projected);
  backend.gated_backward(projected, out, activated, projected, gate_of(activation));
}

}  // namespace

Mlp::Mlp(ParameterSet& parameters, const MlpProjections& projections, Activation activation,
         Index hidden, Index intermediate)
    : activation_(activation),
      up_(parameters, up_parts(projections, activation, intermediate), hidden,
          projections.up_options),
      down_(parameters, {{projections.down, hidden}}, intermediate, projections.down_options) {
  if (projections.output_norm.empty()) return;
  output_norm_ = std::make_unique<RmsNorm>(parameters, projections.output_norm, hidden,
                                           projections.norm_options);
}

Mlp::Buffers Mlp::Buffers::rows(Index count) const {
  const auto of = [count](const Tensor& tensor) {
    return tensor.defined() ? tensor.rows(0, count) : tensor;
  };
  return {of(projected), of(activated), of(result), of(statistics), of(gradient)};
}

/// What a whole forward leaves for its backward is `kept`: the up-projection, and what the norm of
/// the output went over.
Mlp::Buffers Mlp::make_buffers(Index rows, bool keeps, const Pass& pass) const {
  const auto kept = [&](const backend::Shape& shape) {
    return keeps ? pass.saved(shape) : pass.workspace(shape);
  };
  Buffers buffers;
  buffers.projected = kept({rows, up_.outputs()});
  buffers.activated = pass.workspace({rows, down_.inputs()});
  if (!output_norm_) return buffers;
  buffers.result = kept({rows, down_.outputs()});
  const backend::Shape statistics = output_norm_->statistics(rows);
  buffers.statistics =
      keeps ? pass.saved_statistics(statistics) : pass.workspace_statistics(statistics);
  return buffers;
}

template <typename Visit>
void Mlp::in_ranges(const MiniSequence& mini_sequence, Index tokens, Pass& pass,
                    const Visit& visit) const {
  // Of the norm of the output: the result and its gradient.
  const Index normed = output_norm_ ? 2 * down_.outputs() : 0;
  const auto width = static_cast<std::size_t>(up_.outputs() + down_.inputs() + normed);
  const Ranges ranges = mini_sequence.split(tokens, width * base::size_of(pass.dtype()));
  Buffers buffers = make_buffers(ranges.longest(), /*keeps=*/false, pass);
  if (output_norm_) buffers.gradient = pass.workspace({ranges.longest(), down_.outputs()});
  for (Index range = 0; range < ranges.count; ++range) {
    const Index begin = ranges.begin(range);
    const Index end = ranges.end(range);
    const TokenRange tokens_of_range(pass, begin);
    visit(begin, end, buffers.rows(end - begin));
  }
}

void Mlp::forward(const Tensor& out, const Tensor& x, Pass& pass, const Portions& mini_sequence,
                  const MlpSaving& saving) const {
  const Index tokens = x.size(0);
  if (!mini_sequence) {
    Buffers buffers = make_buffers(tokens, /*keeps=*/true, pass);
    forward_range(out, x, buffers, pass);
    buffers.activated = {};
    if (output_norm_) {
      pass.push(std::move(buffers.result), saving.projected,
                {SlotKind::kMlpProjected, down_.outputs()});
      pass.push(std::move(buffers.statistics));
    }
    pass.push(std::move(buffers.projected), saving.up, {SlotKind::kMlpUp, down_.inputs()});
    return;
  }
  in_ranges(*mini_sequence, tokens, pass, [&](Index begin, Index end, const Buffers& buffers) {
    forward_range(out.rows(begin, end), x.rows(begin, end), buffers, pass);
  });
}

void Mlp::backward(const Tensor& dx, const Tensor& dy, const Tensor& x, Pass& pass,
                   const Portions& mini_sequence) const {
  const Index tokens = x.size(0);
  if (!mini_sequence) {
    Buffers buffers;
    buffers.projected = pop_projected(x, pass);
    buffers.activated = pass.workspace({tokens, down_.inputs()});
    if (output_norm_) {
      buffers.statistics = pass.pop();
      buffers.result = pass.pop();
      buffers.gradient = pass.workspace(buffers.result.shape());
    }
    backward_range(dx, dy, x, buffers, pass);
    return;
  }
  in_ranges(*mini_sequence, tokens, pass, [&](Index begin, Index end, const Buffers& buffers) {
    const Tensor rows = x.rows(begin, end);
    project_again(rows, buffers, pass);
    backward_range(dx.rows(begin, end), dy.rows(begin, end), rows, buffers, pass);
  });
}

void Mlp::forward_range(const Tensor& out, const Tensor& x, const Buffers& buffers,
                        Pass& pass) const {
  up_.forward(buffers.projected, x, pass);
  activate(activation_, buffers.activated, buffers.projected, pass.backend());
  if (!output_norm_) return down_.forward(out, buffers.activated, pass);
  down_.forward(buffers.result, buffers.activated, pass);
  output_norm_->forward(out, buffers.statistics, buffers.result, pass);
}

/// The up-projection of a whole forward, of which rows may have to be made again.
Tensor Mlp::pop_projected(const Tensor& x, Pass& pass) const {
  const Pass::Incomplete up = pass.pop_incomplete();
  for (const shard::Range& rows : up.missing) {
    const TokenRange tokens_of_range(pass, rows.begin);
    up_.forward(up.tensor.rows(rows.begin, rows.end), x.rows(rows.begin, rows.end), pass);
  }
  return up.tensor;
}

/// What a backward needs of a forward that kept nothing.
void Mlp::project_again(const Tensor& x, const Buffers& buffers, Pass& pass) const {
  if (!output_norm_) return up_.forward(buffers.projected, x, pass);
  forward_range(buffers.gradient, x, buffers, pass);  // which is overwritten
}

/// `projected` is overwritten by its gradient; `activated` holds first the activation's gradient,
/// then, made again, the activation itself.
void Mlp::backward_range(const Tensor& dx, const Tensor& dy, const Tensor& x,
                         const Buffers& buffers, Pass& pass) const {
  Tensor dresult = dy;
  if (output_norm_) {
    dresult = buffers.gradient;
    output_norm_->backward(dresult, dy, {}, buffers.statistics, buffers.result, pass);
  }
  down_.backward_input(buffers.activated, dresult, pass);
  activate_backward(activation_, buffers.projected, buffers.activated, down_.needs_input(),
                    pass.backend());
  down_.backward_weight(dresult, buffers.activated, pass);
  up_.backward(dx, buffers.projected, x, pass);
}

}  // namespace longspan::nn
