#include "longspan/optim/adamw.h"

namespace longspan::optim {

using backend::MemoryTag;
using backend::Tensor;
using base::DType;
namespace {

Tensor stored(const Tensor& state, const nn::OwnRange& range) {
  return state.rows(range.stored, range.stored + range.elements.size());
}

}  // namespace

AdamW::AdamW(const AdamWConfig& config, nn::ParameterSet& parameters, backend::Backend& backend)
    : config_(config), parameters_(&parameters), backend_(&backend) {
  const auto make = [&] {
    Tensor state = backend.allocate({parameters.partition().own_elements()},
                                    parameters.gradients().dtype(), MemoryTag::kOptimizer);
    backend.zero(state);
    return state;
  };
  moment1_ = make();
  moment2_ = make();
  if (parameters.weights().dtype() == DType::kBFloat16) master_ = make();
  reset_master();
}

void AdamW::reset_master() {
  if (!master_.defined()) return;
  for (const nn::OwnRange& range : parameters_->own_ranges()) {
    backend_->copy(stored(master_, range), parameters_->own_weight(range));
  }
}

void AdamW::publish_master() {
  if (!master_.defined()) return;
  for (const nn::OwnRange& range : parameters_->own_ranges()) {
    backend_->copy(parameters_->own_weight(range), stored(master_, range));
  }
}

void AdamW::step(double learning_rate, double gradient_scale) {
  ++updates_;
  backend::AdamWOptions options;
  options.learning_rate = static_cast<float>(learning_rate);
  options.beta1 = static_cast<float>(config_.beta1);
  options.beta2 = static_cast<float>(config_.beta2);
  options.epsilon = static_cast<float>(config_.epsilon);
  options.gradient_scale = static_cast<float>(gradient_scale);
  options.update = updates_;
  for (const nn::OwnRange& range : parameters_->own_ranges()) {
    const nn::ParameterKind kind = parameters_->at(range.number).kind;
    const bool decays = kind == nn::ParameterKind::kMatrix || config_.decay_norms_and_embeddings;
    options.weight_decay = decays ? static_cast<float>(config_.weight_decay) : 0.0F;
    const Tensor weight = parameters_->own_weight(range);
    const bool has_master = master_.defined();
    backend_->adamw(has_master ? weight : Tensor(), has_master ? stored(master_, range) : weight,
                    stored(moment1_, range), stored(moment2_, range),
                    parameters_->own_gradient(range), options);
  }
}

double clip_factor(double norm, double max_norm) {
  return max_norm > 0 && norm > max_norm ? max_norm / norm : 1.0;
}

}  // namespace longspan::optim
