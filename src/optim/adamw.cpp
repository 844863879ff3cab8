#include "longspan/optim/adamw.h"

namespace longspan::optim {

using backend::Index;
using backend::MemoryTag;
using backend::Tensor;
using base::DType;

AdamW::AdamW(const AdamWConfig& config, nn::ParameterSet& parameters, backend::Backend& backend)
    : config_(config), parameters_(&parameters), backend_(&backend) {
  const Index elements = parameters.elements();
  const DType dtype = parameters.gradients().dtype();
  moment1_ = backend.allocate({elements}, dtype, MemoryTag::kOptimizer);
  moment2_ = backend.allocate({elements}, dtype, MemoryTag::kOptimizer);
  backend.zero(moment1_);
  backend.zero(moment2_);
  master_ = parameters.weights().dtype() == DType::kBFloat16
                ? backend.allocate({elements}, dtype, MemoryTag::kOptimizer)
                : parameters.weights();
  reset_master();
}

void AdamW::reset_master() {
  if (master_.raw() != parameters_->weights().raw()) {
    backend_->copy(master_, parameters_->weights());
  }
}

void AdamW::publish_master() {
  if (master_.raw() != parameters_->weights().raw()) {
    backend_->copy(parameters_->weights(), master_);
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
  const bool has_master = master_.raw() != parameters_->weights().raw();
  for (const nn::Parameter& parameter : parameters_->parameters()) {
    const bool decays =
        parameter.kind == nn::ParameterKind::kMatrix || config_.decay_norms_and_embeddings;
    options.weight_decay = decays ? static_cast<float>(config_.weight_decay) : 0.0F;
    const Index begin = parameter.offset;
    const Index end = begin + parameter.shape.elements();
    backend_->adamw(has_master ? parameters_->weights().rows(begin, end) : Tensor(),
                    master_.rows(begin, end), moment1_.rows(begin, end), moment2_.rows(begin, end),
                    parameters_->gradients().rows(begin, end), options);
  }
}

double clip_factor(double norm, double max_norm) {
  return max_norm > 0 && norm > max_norm ? max_norm / norm : 1.0;
}

}  // namespace longspan::optim
