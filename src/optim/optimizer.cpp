#include "longspan/optim/optimizer.h"

#include <algorithm>
#include <utility>

namespace longspan::optim {

using backend::Index;
using backend::MemoryTag;
using backend::Tensor;

namespace {

/// Elements that are updated on the host at a time: whole blocks of any state that has such.
constexpr Index kChunk = Index{1} << 22;

}  // namespace

Optimizer::Optimizer(const AdamConfig& config, nn::ParameterSet& parameters,
                     backend::Backend& backend, backend::Backend* host, bool keeps_master)
    : config_(config),
      parameters_(&parameters),
      backend_(&backend),
      home_(host != nullptr ? host : &backend) {
  if (saves_master() || is_offloaded() || keeps_master)
    master_.emplace(parameters, *home_, wide_dtype());
  reset_master();
}

std::vector<StateTensor> Optimizer::states() const {
  std::vector<StateTensor> states;
  append_states(states);
  for (StateTensor& state : directions()) states.push_back(std::move(state));
  for (StateTensor& state : sampling()) states.push_back(std::move(state));
  for (StateTensor& state : master()) states.push_back(std::move(state));
  return states;
}

/// Of each compressed gradient: those that share one have it each.
std::vector<StateTensor> Optimizer::directions() const {
  std::vector<StateTensor> states;
  for (int number = 0; number < static_cast<int>(parameters_->parameters().size()); ++number) {
    const nn::Parameter& parameter = parameters_->at(number);
    if (parameter.compression == 1) continue;
    StateTensor state;
    state.name = "direction." + parameter.name;
    state.parameter = number;
    state.held = parameters_->directions().of(parameter.direction);
    state.shape = state.held.shape();
    state.where = backend_;
    state.is_split = false;
    states.push_back(std::move(state));
  }
  return states;
}

/// Of all sampled gradients together.
std::vector<StateTensor> Optimizer::sampling() const {
  if (parameters_->row_sampling().count() == 0) return {};
  StateTensor state;
  state.name = "row_sampling.factors";
  state.held = parameters_->row_sampling().factors();
  state.shape = state.held.shape();
  state.where = backend_;
  state.is_split = false;
  return {state};
}

std::vector<StateTensor> Optimizer::master() const {
  std::vector<StateTensor> states;
  if (saves_master()) master_->append_to(states, "master.");
  return states;
}

/// What a chunk goes through on the host.
struct Optimizer::Staging {
  Tensor weights;  // undefined where the master has their dtype
  Tensor gradients;
  Tensor directions;  // undefined where gradients are not compressed
};

Optimizer::Staging Optimizer::make_staging() const {
  Index most = 0;
  for (const nn::OwnRange& range : parameters_->own_ranges()) {
    most = std::max(most, range.elements.size());
  }
  most = std::min(most, kChunk);
  Staging staging;
  const nn::Directions& directions = parameters_->directions();
  Index longest = 0;
  for (int number = 0; number < directions.count(); ++number) {
    longest = std::max(longest, directions.length(number));
  }
  if (longest > 0) {
    staging.directions = home_->allocate({longest}, wide_dtype(), MemoryTag::kWorkspace);
  }
  staging.gradients = home_->allocate({most}, wide_dtype(), MemoryTag::kWorkspace);
  if (saves_master()) {
    staging.weights =
        home_->allocate({most}, parameters_->weights().dtype(), MemoryTag::kWorkspace);
  }
  return staging;
}

Index Optimizer::chunk_of(const nn::OwnRange& range) const {
  const Index compression = parameters_->at(range.number).compression;
  return kChunk / compression * compression;
}

std::vector<Optimizer::Piece> Optimizer::chunks_of(const nn::OwnRange& range,
                                                   const Staging& staging) const {
  std::vector<Piece> chunks;
  const Index compression = parameters_->at(range.number).compression;
  const Index most = chunk_of(range);
  for (Index begin = 0; begin < range.elements.size(); begin += most) {
    const Index end = std::min(begin + most, range.elements.size());
    Piece chunk;
    chunk.range = &range;
    chunk.begin = begin;
    chunk.end = end;
    chunk.master = master_->of(range, begin, end);
    chunk.gradient = staging.gradients.rows(0, (end - begin) / compression);
    if (compression > 1) chunk.direction = staging.directions.rows(0, compression);
    if (staging.weights.defined()) chunk.weight = staging.weights.rows(0, end - begin);
    chunks.push_back(std::move(chunk));
  }
  return chunks;
}

Optimizer::Piece Optimizer::resident(const nn::OwnRange& range) const {
  const Tensor weight = parameters_->own_weight(range);
  Piece piece;
  piece.range = &range;
  piece.end = range.elements.size();
  if (master_) piece.weight = weight;
  piece.master = master_ ? master_->of(range) : weight;
  if (parameters_->trains()) piece.gradient = parameters_->own_gradient(range);
  const nn::Parameter& parameter = parameters_->at(range.number);
  if (parameter.compression > 1) {
    piece.direction = parameters_->directions().of(parameter.direction);
  }
  return piece;
}

void Optimizer::reset_master() {
  if (!master_) return;
  const Staging staging = is_offloaded() ? make_staging() : Staging();
  for (const nn::OwnRange& range : parameters_->own_ranges()) {
    const Tensor weight = parameters_->own_weight(range);
    if (!is_offloaded()) {
      backend_->copy(master_->of(range), weight);
      continue;
    }
    for (const Piece& chunk : chunks_of(range, staging)) {
      const Tensor& arrives = saves_master() ? chunk.weight : chunk.master;
      backend_->download(arrives, weight.rows(chunk.begin, chunk.end));
      if (saves_master()) home_->copy(chunk.master, chunk.weight);
    }
  }
}

void Optimizer::step(double learning_rate, double gradient_scale) {
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
    if (!trains(range.number)) continue;
    const nn::ParameterKind kind = parameters_->at(range.number).kind;
    const bool decays = kind == nn::ParameterKind::kMatrix || config_.decay_norms_and_embeddings;
    options.weight_decay = decays ? static_cast<float>(config_.weight_decay) : 0.0F;
    if (is_offloaded()) {
      for (const Piece& chunk : chunks_of(range, staging)) update_on_host(chunk, options);
    } else {
      update(resident(range), options);
    }
  }
}

void Optimizer::update_on_host(const Piece& chunk, const backend::AdamWOptions& options) {
  const nn::OwnRange& range = *chunk.range;
  const nn::Parameter& parameter = parameters_->at(range.number);
  const Index each = parameter.compression;
  backend_->download(chunk.gradient,
                     parameters_->own_gradient(range).rows(chunk.begin / each, chunk.end / each));
  if (each > 1) {
    backend_->download(chunk.direction, parameters_->directions().of(parameter.direction));
  }
  update(chunk, options);
  backend_->upload(parameters_->own_weight(range).rows(chunk.begin, chunk.end),
                   saves_master() ? chunk.weight : chunk.master);
}

double clip_factor(double norm, double max_norm) {
  return max_norm > 0 && norm > max_norm ? max_norm / norm : 1.0;
}

}  // namespace longspan::optim
