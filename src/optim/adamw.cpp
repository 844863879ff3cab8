#include "longspan/optim/adamw.h"

#include <algorithm>
#include <utility>

namespace longspan::optim {

using backend::Index;
using backend::MemoryTag;
using backend::Tensor;

namespace {

/// Elements that are updated on the host at a time.
constexpr Index kChunk = Index{1} << 22;

Tensor stored(const Tensor& state, const nn::OwnRange& range) {
  return state.rows(range.stored, range.stored + range.elements.size());
}

}  // namespace

AdamW::AdamW(const AdamWConfig& config, nn::ParameterSet& parameters, backend::Backend& backend,
             backend::Backend* host)
    : config_(config),
      parameters_(&parameters),
      backend_(&backend),
      home_(host != nullptr ? host : &backend) {
  const auto make = [&] {
    Tensor state = home_->allocate({parameters.partition().own_elements()},
                                   parameters.gradients().dtype(), MemoryTag::kOptimizer);
    home_->zero(state);
    return state;
  };
  moment1_ = make();
  moment2_ = make();
  if (saves_master() || is_offloaded()) master_ = make();
  reset_master();
}

/// What a chunk goes through on the host.
struct AdamW::Staging {
  Tensor weights;  // undefined where the master has their dtype
  Tensor gradients;
};

AdamW::Staging AdamW::make_staging() const {
  Index most = 0;
  for (const nn::OwnRange& range : parameters_->own_ranges()) {
    most = std::max(most, range.elements.size());
  }
  most = std::min(most, kChunk);
  Staging staging;
  staging.gradients = home_->allocate({most}, moment1_.dtype(), MemoryTag::kWorkspace);
  if (saves_master()) {
    staging.weights =
        home_->allocate({most}, parameters_->weights().dtype(), MemoryTag::kWorkspace);
  }
  return staging;
}

/// Views of one chunk: on the device, and (its weights as they go up, or came down) on the host.
struct AdamW::Chunk {
  Tensor weights;
  Tensor gradients;
  Tensor host_weights;
  Tensor host_gradients;
  Tensor master;
  Tensor moment1;
  Tensor moment2;
};

std::vector<AdamW::Chunk> AdamW::chunks_of(const nn::OwnRange& range,
                                           const Staging& staging) const {
  std::vector<Chunk> chunks;
  for (Index begin = 0; begin < range.elements.size(); begin += kChunk) {
    const Index end = std::min(begin + kChunk, range.elements.size());
    Chunk chunk;
    chunk.weights = parameters_->own_weight(range).rows(begin, end);
    chunk.gradients = parameters_->own_gradient(range).rows(begin, end);
    chunk.master = stored(master_, range).rows(begin, end);
    chunk.moment1 = stored(moment1_, range).rows(begin, end);
    chunk.moment2 = stored(moment2_, range).rows(begin, end);
    chunk.host_gradients = staging.gradients.rows(0, end - begin);
    chunk.host_weights =
        staging.weights.defined() ? staging.weights.rows(0, end - begin) : chunk.master;
    chunks.push_back(std::move(chunk));
  }
  return chunks;
}

void AdamW::reset_master() {
  if (!master_.defined()) return;
  const Staging staging = is_offloaded() ? make_staging() : Staging();
  for (const nn::OwnRange& range : parameters_->own_ranges()) {
    if (!is_offloaded()) {
      backend_->copy(stored(master_, range), parameters_->own_weight(range));
      continue;
    }
    for (const Chunk& chunk : chunks_of(range, staging)) {
      backend_->download(chunk.host_weights, chunk.weights);
      if (saves_master()) home_->copy(chunk.master, chunk.host_weights);
    }
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
  const Staging staging = is_offloaded() ? make_staging() : Staging();
  for (const nn::OwnRange& range : parameters_->own_ranges()) {
    const nn::ParameterKind kind = parameters_->at(range.number).kind;
    const bool decays = kind == nn::ParameterKind::kMatrix || config_.decay_norms_and_embeddings;
    options.weight_decay = decays ? static_cast<float>(config_.weight_decay) : 0.0F;
    if (is_offloaded()) {
      for (const Chunk& chunk : chunks_of(range, staging)) update_on_host(chunk, options);
    } else {
      update_resident(range, options);
    }
  }
}

void AdamW::update_resident(const nn::OwnRange& range, const backend::AdamWOptions& options) const {
  const Tensor weight = parameters_->own_weight(range);
  const bool has_master = master_.defined();
  backend_->adamw(has_master ? weight : Tensor(), has_master ? stored(master_, range) : weight,
                  stored(moment1_, range), stored(moment2_, range),
                  parameters_->own_gradient(range), options);
}

void AdamW::update_on_host(const Chunk& chunk, const backend::AdamWOptions& options) const {
  backend_->download(chunk.host_gradients, chunk.gradients);
  home_->adamw(saves_master() ? chunk.host_weights : Tensor(), chunk.master, chunk.moment1,
               chunk.moment2, chunk.host_gradients, options);
  backend_->upload(chunk.weights, chunk.host_weights);
}

double clip_factor(double norm, double max_norm) {
  return max_norm > 0 && norm > max_norm ? max_norm / norm : 1.0;
}

}  // namespace longspan::optim
