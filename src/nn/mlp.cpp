#include "longspan/nn/mlp.h"

#include <utility>

namespace longspan::nn {

using backend::Backend;
using backend::Index;
using backend::Tensor;

namespace {

std::vector<Linear::Part> up_parts(const MlpProjections& projections, Index intermediate) {
  std::vector<Linear::Part> parts;
  for (const std::string& name : projections.up) parts.push_back({name, intermediate});
  return parts;
}

void activate(Activation activation, const Tensor& out, const Tensor& projected, Backend& backend) {
  switch (activation) {
    case Activation::kSwiGlu:
      return backend.swiglu_forward(out, projected);
    case Activation::kGeluTanh:
      return backend.gelu_forward(out, projected);
  }
}

/// `projected` becomes its gradient, `activated` the activation once more, which held the gradient
/// of it.
void activate_backward(Activation activation, const Tensor& projected, const Tensor& activated,
                       Backend& backend) {
  switch (activation) {
    case Activation::kSwiGlu:
      return backend.swiglu_backward(projected, activated, activated, projected);
    case Activation::kGeluTanh:
      return backend.gelu_backward(projected, activated, activated, projected);
  }
}

}  // namespace

Mlp::Mlp(ParameterSet& parameters, const MlpProjections& projections, Activation activation,
         Index hidden, Index intermediate, std::optional<MiniSequence> mini_sequence)
    : activation_(activation),
      up_(parameters, up_parts(projections, intermediate), hidden, projections.up_options),
      down_(parameters, {{projections.down, hidden}}, intermediate, projections.down_options),
      mini_sequence_(mini_sequence) {}

template <typename Visit>
void Mlp::in_ranges(Index tokens, const Pass& pass, const Visit& visit) const {
  const auto width = static_cast<std::size_t>(up_.outputs() + down_.inputs());
  const Ranges ranges = mini_sequence_->split(tokens, width * base::size_of(pass.dtype()));
  const Tensor projected = pass.workspace({ranges.longest(), up_.outputs()});
  const Tensor activated = pass.workspace({ranges.longest(), down_.inputs()});
  for (Index range = 0; range < ranges.count; ++range) {
    const Index begin = ranges.begin(range);
    const Index end = ranges.end(range);
    visit(begin, end, projected.rows(0, end - begin), activated.rows(0, end - begin));
  }
}

void Mlp::forward(const Tensor& out, const Tensor& x, Pass& pass) const {
  const Index tokens = x.size(0);
  if (!mini_sequence_) {
    Tensor projected = pass.saved({tokens, up_.outputs()});
    forward_range(out, x, projected, pass.workspace({tokens, down_.inputs()}), pass);
    pass.push(std::move(projected));
    return;
  }
  in_ranges(tokens, pass,
            [&](Index begin, Index end, const Tensor& projected, const Tensor& activated) {
              forward_range(out.rows(begin, end), x.rows(begin, end), projected, activated, pass);
            });
}

void Mlp::backward(const Tensor& dx, const Tensor& dy, const Tensor& x, Pass& pass) const {
  const Index tokens = x.size(0);
  if (!mini_sequence_) {
    const Tensor projected = pass.pop();
    backward_range(dx, dy, x, projected, pass.workspace({tokens, down_.inputs()}), pass);
    return;
  }
  in_ranges(
      tokens, pass, [&](Index begin, Index end, const Tensor& projected, const Tensor& activated) {
        const Tensor rows = x.rows(begin, end);
        up_.forward(projected, rows, pass);
        backward_range(dx.rows(begin, end), dy.rows(begin, end), rows, projected, activated, pass);
      });
}

void Mlp::forward_range(const Tensor& out, const Tensor& x, const Tensor& projected,
                        const Tensor& activated, Pass& pass) const {
  up_.forward(projected, x, pass);
  activate(activation_, activated, projected, pass.backend());
  down_.forward(out, activated, pass);
}

/// `projected` is overwritten by its gradient; `activated` holds first the activation's gradient,
/// then, made again, the activation itself.
void Mlp::backward_range(const Tensor& dx, const Tensor& dy, const Tensor& x,
                         const Tensor& projected, const Tensor& activated, Pass& pass) const {
  down_.backward_input(activated, dy, pass);
  activate_backward(activation_, projected, activated, pass.backend());
  down_.backward_weight(dy, activated, pass);
  up_.backward(dx, projected, x, pass);
}

}  // namespace longspan::nn
