#pragma once

#include <memory>
#include <optional>
#include <vector>

#include "longspan/backend/backend.h"
#include "longspan/model/lora.h"
#include "longspan/model/memory_policy.h"
#include "longspan/model/model_config.h"
#include "longspan/model/row_sampling.h"
#include "longspan/model/velora.h"
#include "longspan/nn/parameter.h"
#include "longspan/nn/pass.h"

namespace longspan::model {

/// Keys and values of the tokens generated so far, for one sequence: per layer
/// [capacity, kv_heads, head_dim].
struct KvCache {
  std::vector<backend::Tensor> keys;
  std::vector<backend::Tensor> values;
  std::int64_t length = 0;

  std::int64_t capacity() const { return keys.empty() ? 0 : keys.front().size(0); }
};

/// What dropout, codes that are rounded at random and sampled gradients draw from in a pass that
/// trains: `numbers` tells of each token of the whole row, as its ranks share it, which of its
/// step's it is.
struct TokenDraws {
  std::uint64_t seed = 0;
  std::uint64_t step = 0;
  const std::vector<std::int32_t>& numbers;
};

/// A packed micro-batch on the host, as far as this rank holds it: arrays of equal length, which
/// may be empty; labels are already shifted, kIgnoredLabel is not trained on. `cu_seqlens` are
/// those of the whole row, of which `shard` says what this rank holds; null: all of it.
struct TokenBatch {
  const std::vector<std::int32_t>& tokens;
  const std::vector<std::int32_t>& labels;
  const std::vector<std::int32_t>& positions;
  const std::vector<std::int32_t>& cu_seqlens;
  const nn::SequenceShard* shard = nullptr;
  /// Of a pass that trains with dropout, slots that are rounded at random, or sampled gradients.
  const TokenDraws* draws = nullptr;
};

/// What a loss pass returns: of this rank's tokens.
struct LossResult {
  double nll_sum = 0.0;      ///< negative log-likelihood (natural log) of the unmasked labels
  std::int64_t targets = 0;  ///< unmasked labels
};

/// What of a model is trained, and how the gradients of its matrices are formed.
struct TrainingMethods {
  /// The parameters are a frozen base, and adapters are trained; none: the parameters are.
  std::optional<LoraConfig> lora = {};
  VeloraConfig velora = {};         ///< of what is trained, which gradients are compressed
  RowSamplingConfig sampling = {};  ///< and which are of sampled tokens
};

/// A decoder-only transformer for language modelling: embedding, pre-norm blocks of attention and
/// an MLP, a last norm and the head. Which norms, positions, activations and names follows from the
/// config's family. Parameters bear Hugging Face's names.
class Decoder {
 public:
  /// Declares and allocates the parameters (zeroed) in `dtype` on the backend, which must outlive
  /// the model. `config` must be resolved. Embedding (with learned
  /// positions), blocks, and final norm with the head are the
  /// units in which `placement` divides parameters. The inputs that blocks keep for the backward
  /// wait on `host`, a backend of the processor, unless it is null.
  /// Adapters are in units of the blocks that have some; `placement` is theirs, and the base's but
  /// that it does not train. Where gradients are compressed, `directions` of the trained parameters
  /// must be found or loaded before these are worth anything; where they are of sampled tokens,
  /// `row_sampling` of the trained parameters settles after each step.
  Decoder(const ModelConfig& config, base::DType dtype, backend::Backend& backend,
          const MemoryPolicy& memory = {}, const nn::Placement& placement = {},
          backend::Backend* host = nullptr, const TrainingMethods& methods = {});
  ~Decoder();

  const ModelConfig& config() const;
  base::DType dtype() const;
  nn::ParameterSet& parameters();
  /// Null for a model without adapters.
  nn::ParameterSet* adapters();
  /// What is trained: the adapters, or else the parameters.
  nn::ParameterSet& trained() { return adapters() != nullptr ? *adapters() : parameters(); }

  /// Forward and backward of one packed micro-batch: adds the gradients of `loss_scale` * sum of
  /// NLL to the parameters' (of this rank's tokens: what ranks hold is to be summed). Where ranks
  /// share a row all of them call it, and where parameters are divided among ranks, every rank runs
  /// the same number of passes (of `evaluate`, too): empty ones where it has no more rows. A token
  /// or label outside the vocabulary, or a position beyond a table of learned ones, throws
  /// InputError before any work. With `blocks` the blocks keep what that says in this pass, instead
  /// of what the model's own policy does, which still holds for the head: ranks that share a row
  /// must agree about it.
  LossResult forward_backward(const TokenBatch& batch, double loss_scale,
                              const MemoryPolicy* blocks = nullptr);
  /// Loss alone; keeps nothing. With `nll`, each token's own there, 0 where its label is ignored.
  LossResult evaluate(const TokenBatch& batch, std::vector<double>* nll = nullptr);

  /// For generation: a cache for `capacity` tokens, and the logits (host, float) of the last of
  /// `tokens`, which continue the cached sequence. Throws InputError past the capacity, or past a
  /// table of learned positions.
  KvCache make_cache(std::int64_t capacity);
  /// Gives a cache more room, layer by layer, so that one layer is there twice at most.
  void grow_cache(KvCache& cache, std::int64_t capacity);
  std::vector<float> next_logits(const std::vector<std::int32_t>& tokens, KvCache& cache);

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace longspan::model
