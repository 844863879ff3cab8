#include "longspan/nn/gated_mlp.h"

#include <utility>

namespace longspan::nn {

using backend::Index;
using backend::Tensor;

GatedMlp::GatedMlp(ParameterSet& parameters, const std::string& prefix, Index hidden,
                   Index intermediate)
    : gate_up_(
          parameters,
          {{prefix + "gate_proj.weight", intermediate}, {prefix + "up_proj.weight", intermediate}},
          hidden),
      down_(parameters, {{prefix + "down_proj.weight", hidden}}, intermediate) {}

void GatedMlp::forward(const Tensor& out, const Tensor& x, Pass& pass) const {
  Tensor gate_up = pass.saved({x.size(0), gate_up_.outputs()});
  gate_up_.forward(gate_up, x, pass);
  const Tensor product = pass.workspace({x.size(0), down_.inputs()});
  pass.backend().swiglu_forward(product, gate_up);
  pass.push(std::move(gate_up));
  down_.forward(out, product, pass);
}

void GatedMlp::backward(const Tensor& dx, const Tensor& dy, const Tensor& x, Pass& pass) const {
  const Tensor gate_up = pass.pop();
  const Tensor& dgate_up = gate_up;  // overwritten in place
  {
    // One buffer: first the product's gradient, then, made again, the product itself.
    const Tensor product = pass.workspace({x.size(0), down_.inputs()});
    down_.backward_input(product, dy, pass);
    pass.backend().swiglu_backward(dgate_up, product, product, gate_up);
    down_.backward_weight(dy, product, pass);
  }
  gate_up_.backward(dx, dgate_up, x, pass);
}

}  // namespace longspan::nn
