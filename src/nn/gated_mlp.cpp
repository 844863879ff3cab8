#include "longspan/nn/gated_mlp.h"

#include <utility>

namespace longspan::nn {

using backend::Index;
using backend::Tensor;

GatedMlp::GatedMlp(ParameterSet& parameters, const std::string& prefix, Index hidden,
                   Index intermediate, std::optional<MiniSequence> mini_sequence)
    : gate_up_(
          parameters,
          {{prefix + "gate_proj.weight", intermediate}, {prefix + "up_proj.weight", intermediate}},
          hidden),
      down_(parameters, {{prefix + "down_proj.weight", hidden}}, intermediate),
      mini_sequence_(mini_sequence) {}

template <typename Visit>
void GatedMlp::in_ranges(Index tokens, const Pass& pass, const Visit& visit) const {
  const auto width = static_cast<std::size_t>(gate_up_.outputs() + down_.inputs());
  const Ranges ranges = mini_sequence_->split(tokens, width * base::size_of(pass.dtype()));
  const Tensor gate_up = pass.workspace({ranges.longest(), gate_up_.outputs()});
  const Tensor product = pass.workspace({ranges.longest(), down_.inputs()});
  for (Index range = 0; range < ranges.count; ++range) {
    const Index begin = ranges.begin(range);
    const Index end = ranges.end(range);
    visit(begin, end, gate_up.rows(0, end - begin), product.rows(0, end - begin));
  }
}

void GatedMlp::forward(const Tensor& out, const Tensor& x, Pass& pass) const {
  const Index tokens = x.size(0);
  if (!mini_sequence_) {
    Tensor gate_up = pass.saved({tokens, gate_up_.outputs()});
    forward_range(out, x, gate_up, pass.workspace({tokens, down_.inputs()}), pass);
    pass.push(std::move(gate_up));
    return;
  }
  in_ranges(tokens, pass,
            [&](Index begin, Index end, const Tensor& gate_up, const Tensor& product) {
              forward_range(out.rows(begin, end), x.rows(begin, end), gate_up, product, pass);
            });
}

void GatedMlp::backward(const Tensor& dx, const Tensor& dy, const Tensor& x, Pass& pass) const {
  const Index tokens = x.size(0);
  if (!mini_sequence_) {
    const Tensor gate_up = pass.pop();
    backward_range(dx, dy, x, gate_up, pass.workspace({tokens, down_.inputs()}), pass);
    return;
  }
  in_ranges(
      tokens, pass, [&](Index begin, Index end, const Tensor& gate_up, const Tensor& product) {
        const Tensor rows = x.rows(begin, end);
        gate_up_.forward(gate_up, rows, pass);
        backward_range(dx.rows(begin, end), dy.rows(begin, end), rows, gate_up, product, pass);
      });
}

void GatedMlp::forward_range(const Tensor& out, const Tensor& x, const Tensor& gate_up,
                             const Tensor& product, Pass& pass) const {
  gate_up_.forward(gate_up, x, pass);
  pass.backend().swiglu_forward(product, gate_up);
  down_.forward(out, product, pass);
}

/// gate_up is overwritten by its gradient; `product` holds first the product's gradient, then, made
/// again, the product itself.
void GatedMlp::backward_range(const Tensor& dx, const Tensor& dy, const Tensor& x,
                              const Tensor& gate_up, const Tensor& product, Pass& pass) const {
  down_.backward_input(product, dy, pass);
  pass.backend().swiglu_backward(gate_up, product, product, gate_up);
  down_.backward_weight(dy, product, pass);
  gate_up_.backward(dx, gate_up, x, pass);
}

}  // namespace longspan::nn
