#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "longspan/backend/backend.h"
#include "longspan/model/decoder.h"
#include "tests/support/relative_distance.h"

namespace longspan::model::test {

/// A packed micro-batch on the host, as Decoder takes it.
struct Batch {
  std::vector<std::int32_t> tokens;
  std::vector<std::int32_t> labels;
  std::vector<std::int32_t> positions;
  std::vector<std::int32_t> cu_seqlens;

  operator TokenBatch() const { return {tokens, labels, positions, cu_seqlens}; }
  std::size_t documents() const { return cu_seqlens.size() - 1; }
  /// Document i alone.
  Batch document(std::size_t i) const;
};

/// One case of scripts/fixtures/*_reference.py, or of peft_adapters.py.
struct Fixture {
  ModelConfig config;
  std::string adapter;  ///< adapter_config.json; empty: there is none
  Batch batch;
  double loss_scale = 0.0;
  double nll_sum = 0.0;
  std::vector<float> logits;  ///< [tokens, vocab_size]
  std::map<std::string, std::vector<double>> weights;
  std::map<std::string, std::vector<double>> gradients;
};
/// Reads tests/model/`folder`/`name`.safetensors.
Fixture read_fixture(const std::string& name, const std::string& folder = "data");

/// A cpu backend for tests.
std::unique_ptr<backend::Backend> make_backend();
/// Elements of any float tensor.
std::vector<double> values(backend::Backend& backend, const backend::Tensor& tensor);
/// Writes every weight of a set, or of a model without adapters; the names must be exactly theirs.
void load_weights(backend::Backend& backend, nn::ParameterSet& parameters,
                  const std::map<std::string, std::vector<double>>& weights);
void load_weights(backend::Backend& backend, Decoder& model,
                  const std::map<std::string, std::vector<double>>& weights);
/// Gradients of all parameters by name.
std::map<std::string, std::vector<double>> gradients(backend::Backend& backend, Decoder& model);

using longspan::test::relative_distance;

/// Sizes alone, not resolved: a small Llama's.
ModelConfig small_sizes();
/// A small configuration of Llama, of GPT-2, and of every family that there is (Llama tied and not;
/// some with windows of 4); and a random batch of documents of these lengths.
ModelConfig small_config(bool tied);
ModelConfig small_gpt2();
std::vector<ModelConfig> small_configs();
Batch random_batch(const ModelConfig& config, const std::vector<std::int32_t>& lengths,
                   std::uint64_t seed);
/// Runs forward and backward on a batch, as a pass of this step, in which its tokens have numbers
/// from 0 on.
LossResult run(Decoder& model, const Batch& batch, double loss_scale, std::uint64_t step = 0);

}  // namespace longspan::model::test
