#include "longspan/model/clip_conditioning.h"

#include <cmath>

#include "longspan/nn/modulation.h"

namespace longspan::model {

using backend::GateActivation;
using backend::Index;
using backend::Tensor;

namespace {

/// x beside ones: silu is SwiGLU's gate with nothing to gate.
Tensor gated(const Tensor& x, nn::Pass& pass) {
  const Index width = x.size(1);
  const Tensor both = pass.workspace({x.size(0), 2 * width});
  const Tensor ones = pass.workspace(x.shape());
  pass.backend().fill(ones, 1.0);
  pass.backend().copy(both.columns(0, width), x);
  pass.backend().copy(both.columns(width, 2 * width), ones);
  return both;
}

Tensor silu(const Tensor& x, nn::Pass& pass) {
  const Tensor out = pass.saved(x.shape());
  pass.backend().gated_forward(out, gated(x, pass), GateActivation::kSilu);
  return out;
}

/// d becomes the gradient of x.
void silu_backward(const Tensor& d, const Tensor& x, nn::Pass& pass) {
  const Tensor gradient = pass.workspace({x.size(0), 2 * x.size(1)});
  pass.backend().gated_backward(gradient, Tensor(), d, gated(x, pass), GateActivation::kSilu);
  pass.backend().copy(d, gradient.columns(0, x.size(1)));
}

/// Cosines, then sines, of frequencies from 1 to 1 / 10000, of a time that is told in thousandths.
Tensor sinusoids_of(const std::vector<double>& times, nn::Pass& pass) {
  constexpr Index kHalf = ClipConditioning::kSinusoids / 2;
  std::vector<double> host;
  for (const double time : times) {
    for (const bool is_sine : {false, true}) {
      for (Index i = 0; i < kHalf; ++i) {
        const double angle =
            1000.0 * time * std::pow(10000.0, -static_cast<double>(i) / static_cast<double>(kHalf));
        host.push_back(is_sine ? std::sin(angle) : std::cos(angle));
      }
    }
  }
  const backend::Shape shape{static_cast<Index>(times.size()), ClipConditioning::kSinusoids};
  backend::Backend& backend = pass.backend();
  const Tensor exact =
      backend.allocate(shape, base::DType::kFloat64, backend::MemoryTag::kWorkspace);
  backend.copy_from_host(exact, host.data(), exact.bytes());
  const Tensor sinusoids = pass.saved(shape);
  backend.copy(sinusoids, exact);
  return sinusoids;
}

const nn::LinearOptions kWithBias{.has_bias = true};

}  // namespace

ClipConditioning::ClipConditioning(nn::ParameterSet& parameters, const ClipConfig& config)
    : in_(parameters, {{"time.in", config.hidden_size}}, kSinusoids, kWithBias),
      out_(parameters, {{"time.out", config.hidden_size}}, config.hidden_size, kWithBias),
      to_blocks_(parameters, {{"time.to_blocks", nn::Modulation::kVectors * config.hidden_size}},
                 config.hidden_size, kWithBias) {}

ClipConditioning::Result ClipConditioning::forward(const std::vector<double>& times,
                                                   nn::Pass& pass) const {
  const auto clips = static_cast<Index>(times.size());
  Result result;
  result.sinusoids = sinusoids_of(times, pass);
  result.inner = pass.saved({clips, in_.outputs()});
  in_.forward(result.inner, result.sinusoids, pass);
  result.activated = silu(result.inner, pass);
  result.t = pass.saved({clips, out_.outputs()});
  out_.forward(result.t, result.activated, pass);
  result.told = silu(result.t, pass);
  result.blocks = pass.saved({clips, to_blocks_.outputs()});
  to_blocks_.forward(result.blocks, result.told, pass);
  return result;
}

void ClipConditioning::backward(const Tensor& dblocks, const Result& result, nn::Pass& pass) const {
  const Tensor dt = pass.workspace(result.t.shape());
  to_blocks_.backward(dt, dblocks, result.told, pass);
  silu_backward(dt, result.t, pass);
  const Tensor dinner = pass.workspace(result.activated.shape());
  out_.backward(dinner, dt, result.activated, pass);
  silu_backward(dinner, result.inner, pass);
  in_.backward_weight(dinner, result.sinusoids, pass);
}

}  // namespace longspan::model
