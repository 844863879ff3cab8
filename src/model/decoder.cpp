#include "longspan/model/decoder.h"

#include <algorithm>
#include <cmath>
#include <optional>
#include <string>
#include <utility>

#include "longspan/base/error.h"
#include "longspan/nn/embedding.h"
#include "longspan/nn/learned_positions.h"
#include "longspan/nn/lm_head_loss.h"
#include "model/batch_checks.h"
#include "model/block.h"
#include "model/composition.h"

namespace longspan::model {

using backend::Index;
using backend::MemoryTag;
using backend::Tensor;
using Ids = std::vector<std::int32_t>;

namespace {

Index count_targets(const Ids& labels) {
  Index targets = 0;
  for (const std::int32_t label : labels) targets += label != backend::kIgnoredLabel ? 1 : 0;
  return targets;
}

std::size_t row_tokens(const TokenBatch& batch) {
  return static_cast<std::size_t>(batch.cu_seqlens.back());
}

/// Of a row, one range after another.
Ids of_ranges(const Ids& row, const std::vector<shard::Range>& ranges) {
  Ids part;
  for (const shard::Range& range : ranges) {
    part.insert(part.end(), row.begin() + range.begin, row.begin() + range.end);
  }
  return part;
}

}  // namespace

class Decoder::Impl {
 public:
  Impl(const ModelConfig& config, base::DType dtype, backend::Backend& backend,
       const MemoryPolicy& memory, const nn::Placement& placement, backend::Backend* host,
       const TrainingMethods& methods)
      : config_(config),
        composition_(composition_of(config)),
        dtype_(dtype),
        backend_(&backend),
        host_(host),
        velora_{methods.velora.groups, methods.velora.scale, {methods.velora.target_modules}},
        sampling_{.ratio = methods.sampling.ratio, .modules = {methods.sampling.target_modules}},
        adapters_(adapters_of(methods.lora)),
        packs_base_(methods.lora && methods.lora->packs_base),
        embedding_(parameters_, composition_.embedding, config.vocab_size, config.hidden_size,
                   composition_.embedding_scale),
        positions_(declare_positions()),
        memory_(memory),
        blocks_(declare_blocks()),
        norm_(make_norm(parameters_, composition_, composition_.norms.last, config)),
        head_(parameters_, declare_head(), memory.lm_head(), composition_.logits_soft_cap) {
    nn::Placement base = placement;
    base.trains = placement.trains && !adapters_;
    parameters_.allocate(backend, dtype, base);
    if (adapters_) adapter_parameters_.allocate(backend, dtype, placement);
  }

  const ModelConfig& config() const { return config_; }
  base::DType dtype() const { return dtype_; }
  nn::ParameterSet& parameters() { return parameters_; }
  nn::ParameterSet* adapters() { return adapters_ ? &adapter_parameters_ : nullptr; }

  LossResult forward_backward(const TokenBatch& batch, double loss_scale,
                              const MemoryPolicy* other) {
    check(batch);
    const nn::ParameterSet& trained = adapters_ ? adapter_parameters_ : parameters_;
    if (!trained.trains()) {
      throw base::InternalError("a model that is only read has no gradients");
    }
    parameters_.settle_packed();
    const MemoryPolicy& memory = other == nullptr ? memory_ : *other;
    nn::Pass pass =
        make_pass(batch.positions, batch.cu_seqlens, batch.shard, nn::Pass::Keep::kSlots);
    const Tensor ids = upload(batch.tokens, MemoryTag::kSaved);
    const bool samples = trained.row_sampling().count() > 0;
    if (has_dropout() || samples || memory.rounds_at_random()) {
      pass.set_draws(upload_draws(batch, memory.rounds_at_random()));
    }

    Tensor x = run_blocks(ids, pass, memory, nullptr);
    double nll_sum = 0.0;
    const Tensor d = run_head(x, batch.labels, loss_scale, pass, nll_sum);
    x = {};
    const backend::Scope scope(*backend_, "backward");
    for (std::size_t layer = blocks_.size(); layer-- > 0;) {
      const backend::Scope block(*backend_, "block", static_cast<Index>(layer));
      const int unit = unit_of(layer);
      open_block(layer, nn::Use::kBoth, layer > 0 ? unit - 1 : nn::ParameterSet::kNoUnit);
      blocks_[layer].backward(d, pass, block_memory(memory, layer));
      close_block(layer);
    }
    const backend::Scope embedding(*backend_, "embedding");
    parameters_.open(kEmbeddingUnit, nn::Use::kGradients);
    if (positions_) positions_->backward(d, pass);
    embedding_.backward(d, ids, pass);  // may overwrite d
    parameters_.close(kEmbeddingUnit);
    return {.nll_sum = nll_sum, .targets = count_targets(batch.labels)};
  }

  LossResult evaluate(const TokenBatch& batch, std::vector<double>* nll) {
    check(batch);
    parameters_.settle_packed();
    nn::Pass pass =
        make_pass(batch.positions, batch.cu_seqlens, batch.shard, nn::Pass::Keep::kNothing);
    const Tensor x =
        run_blocks(upload(batch.tokens, MemoryTag::kWorkspace), pass, memory_, nullptr);
    const Tensor normed = pass.workspace(x.shape());
    open_head(nn::Use::kWeights, nn::ParameterSet::kNoUnit);
    norm_->forward(normed, pass.workspace_statistics(norm_->statistics(x.size(0))), x, pass);
    const double nll_sum = nll == nullptr ? head_.forward(normed, batch.labels, pass)
                                          : head_.forward(normed, batch.labels, *nll, pass);
    close_head();
    return {.nll_sum = nll_sum, .targets = count_targets(batch.labels)};
  }

  KvCache make_cache(Index capacity) const {
    const backend::Shape shape{capacity, config_.num_key_value_heads, config_.head_dim};
    KvCache cache;
    for (std::size_t layer = 0; layer < blocks_.size(); ++layer) {
      cache.keys.push_back(backend_->allocate(shape, dtype_, MemoryTag::kSaved));
      cache.values.push_back(backend_->allocate(shape, dtype_, MemoryTag::kSaved));
    }
    return cache;
  }

  void grow_cache(KvCache& cache, Index capacity) const {
    const backend::Shape shape{capacity, config_.num_key_value_heads, config_.head_dim};
    for (std::vector<Tensor>* side : {&cache.keys, &cache.values}) {
      for (Tensor& layer : *side) {
        const Tensor larger = backend_->allocate(shape, dtype_, MemoryTag::kSaved);
        backend_->copy(larger.rows(0, cache.length), layer.rows(0, cache.length));
        layer = larger;
      }
    }
  }

  std::vector<float> next_logits(const Ids& tokens, KvCache& cache) {
    check_cache(tokens, cache);
    check_ids(tokens, config_.vocab_size, "token", /*may_be_ignored=*/false);
    const auto count = static_cast<Index>(tokens.size());
    Ids positions;
    for (Index i = 0; i < count; ++i) {
      positions.push_back(static_cast<std::int32_t>(cache.length + i));
    }
    if (positions_) check_positions(positions, config_);
    const Ids cu_seqlens{0, static_cast<std::int32_t>(count)};
    nn::Pass pass = make_pass(positions, cu_seqlens, nullptr, nn::Pass::Keep::kNothing);
    const Tensor x = run_blocks(upload(tokens, MemoryTag::kWorkspace), pass, memory_, &cache);
    cache.length += count;
    const Tensor normed = pass.workspace({1, config_.hidden_size});
    open_head(nn::Use::kWeights, nn::ParameterSet::kNoUnit);
    norm_->forward(normed, pass.workspace_statistics(norm_->statistics(1)),
                   x.rows(count - 1, count), pass);
    std::vector<float> logits = download_logits(normed, pass);
    close_head();
    return logits;
  }

 private:
  // Units of the parameters: the embedding, each block, the final norm and (not tied) the head.
  static constexpr int kEmbeddingUnit = 0;
  static int unit_of(std::size_t layer) { return 1 + static_cast<int>(layer); }
  int head_unit() const { return unit_of(blocks_.size()); }

  /// The adapters' unit of a block of this unit, if it has any.
  int adapter_unit_of(int unit) const {
    const bool is_block = unit >= unit_of(0) && unit < head_unit();
    return is_block && adapters_ ? adapter_units_[static_cast<std::size_t>(unit - unit_of(0))]
                                 : nn::ParameterSet::kNoUnit;
  }
  /// And its adapters. `next` is the base's.
  void open_block(std::size_t layer, nn::Use use, int next) {
    parameters_.open(unit_of(layer), use, next);
    const int unit = adapter_unit_of(unit_of(layer));
    if (unit != nn::ParameterSet::kNoUnit) {
      adapter_parameters_.open(unit, use, adapter_unit_of(next));
    }
  }
  void close_block(std::size_t layer) {
    const int unit = adapter_unit_of(unit_of(layer));
    if (unit != nn::ParameterSet::kNoUnit) adapter_parameters_.close(unit);
    parameters_.close(unit_of(layer));
  }

  /// Begins the unit of a block's adapters, if it has any.
  void begin_adapters(const std::string& prefix) {
    std::vector<std::string> modules = composition_.attention.qkv;
    modules.push_back(composition_.attention.output);
    modules.insert(modules.end(), composition_.mlp.up.begin(), composition_.mlp.up.end());
    modules.push_back(composition_.mlp.down);
    const bool is_adapted =
        std::any_of(modules.begin(), modules.end(), [&](const std::string& module) {
          return adapters_->options.targets.contain(prefix + module);
        });
    adapter_units_.push_back(is_adapted ? adapted_blocks_++ : nn::ParameterSet::kNoUnit);
    if (is_adapted) adapter_parameters_.begin_unit();
  }

  bool has_dropout() const { return adapters_ && adapters_->options.dropout > 0.0; }

  std::optional<nn::Adapters> adapters_of(const std::optional<LoraConfig>& lora) {
    if (!lora) return std::nullopt;
    return nn::Adapters{&adapter_parameters_,
                        {.rank = lora->rank,
                         .scale = lora->scale(),
                         .dropout = lora->dropout,
                         .targets = {lora->target_modules}},
                        &velora_,
                        &sampling_};
  }

  /// A tied head reads the embedding's unit, too.
  void open_head(nn::Use use, int next) {
    const bool tied = composition_.is_tied();
    parameters_.open(head_unit(), use, tied ? kEmbeddingUnit : next);
    if (tied) parameters_.open(kEmbeddingUnit, use, next);
  }
  /// The larger one last: its sums go on beside the next block's backward.
  void close_head() {
    parameters_.close(head_unit());
    if (composition_.is_tied()) parameters_.close(kEmbeddingUnit, /*comes_again=*/true);
  }

  std::optional<nn::LearnedPositions> declare_positions() {
    if (composition_.learned_positions.empty()) return std::nullopt;
    return nn::LearnedPositions(parameters_, composition_.learned_positions,
                                config_.max_position_embeddings, config_.hidden_size);
  }

  /// Ends with the unit of norm and head begun.
  std::vector<Block> declare_blocks() {
    std::vector<Block> blocks;
    for (Index layer = 0; layer < config_.num_hidden_layers; ++layer) {
      const std::string prefix = composition_.blocks + std::to_string(layer) + ".";
      parameters_.begin_unit();
      if (adapters_) begin_adapters(prefix);
      blocks.emplace_back(parameters_, prefix, config_, composition_,
                          composition_.layers.at(static_cast<std::size_t>(layer)),
                          adapters_
                              ? nn::MatrixMethods{.adapters = &*adapters_, .packs = packs_base_}
                              : nn::MatrixMethods{.velora = &velora_, .sampling = &sampling_});
    }
    parameters_.begin_unit();
    return blocks;
  }

  static BlockMemory block_memory(const MemoryPolicy& memory, std::size_t layer) {
    const auto number = static_cast<Index>(layer);
    return {memory.checkpointing(number), memory.mlp(number), memory.slots(number)};
  }

  /// The number of the head's weight: the embedding's when tied.
  int declare_head() {
    if (composition_.is_tied()) return embedding_.parameter();
    return parameters_.declare(composition_.head + ".weight",
                               {config_.vocab_size, config_.hidden_size},
                               nn::ParameterKind::kMatrix);
  }

  void check(const TokenBatch& batch) const {
    check_lengths(batch);
    check_ids(batch.tokens, config_.vocab_size, "token", /*may_be_ignored=*/false);
    check_ids(batch.labels, config_.vocab_size, "label", /*may_be_ignored=*/true);
    if (positions_) check_positions(batch.positions, config_);
  }

  /// Of this rank's tokens, and, to round slots, of all that its Ulysses ranks exchange.
  nn::Draws upload_draws(const TokenBatch& batch, bool rounds) const {
    const TokenDraws* draws = batch.draws;
    if (draws == nullptr || draws->numbers.size() != row_tokens(batch)) {
      throw base::InternalError("a pass that draws was not told the numbers of its row's tokens");
    }
    nn::Draws uploaded{draws->seed, draws->step, {}, {}};
    const auto upload_ranges = [&](const std::vector<shard::Range>& ranges) {
      return upload(of_ranges(draws->numbers, ranges), MemoryTag::kSaved);
    };
    if (batch.shard == nullptr) {
      uploaded.numbers = upload(draws->numbers, MemoryTag::kSaved);
      return uploaded;
    }
    const shard::TokenLayout& layout = batch.shard->layout;
    if (!rounds || batch.shard->ulysses == nullptr) {
      uploaded.numbers = upload_ranges(layout.ranges(batch.shard->rank()));
      return uploaded;
    }
    const int place = batch.shard->place();
    uploaded.exchanged_numbers = upload_ranges(layout.parts().ranges(place));
    const auto& own = layout.within(place).ranges(batch.shard->ulysses->rank());
    const shard::Range range = own.empty() ? shard::Range{} : own.front();
    uploaded.numbers = uploaded.exchanged_numbers.rows(range.begin, range.end);
    return uploaded;
  }

  void check_cache(const Ids& tokens, const KvCache& cache) const {
    if (tokens.empty() || cache.keys.size() != blocks_.size()) {
      throw base::InternalError("next_logits needs a token and this model's cache");
    }
    const Index capacity = cache.capacity();
    if (cache.length + static_cast<Index>(tokens.size()) > capacity) {
      throw base::InputError(
          "the sequence does not fit its key-value cache: " + std::to_string(cache.length) +
          " tokens in it and " + std::to_string(tokens.size()) + " more, room for " +
          std::to_string(capacity));
    }
  }

  Tensor upload(const Ids& host, MemoryTag tag) const {
    const Tensor device =
        backend_->allocate({static_cast<Index>(host.size())}, base::DType::kInt32, tag);
    backend_->copy_from_host(device, host.data(), device.bytes());
    return device;
  }

  nn::Pass make_pass(const Ids& positions, const Ids& cu_seqlens, const nn::SequenceShard* shared,
                     nn::Pass::Keep keep) const {
    const bool keeps = keep == nn::Pass::Keep::kSlots;
    const Tensor device = upload(positions, keeps ? MemoryTag::kSaved : MemoryTag::kWorkspace);
    std::optional<nn::SequenceShard> shard;
    if (shared != nullptr) shard = *shared;
    nn::Pass pass(*backend_, dtype_, cu_seqlens, device, keep, std::move(shard), host_);
    std::vector<Tensor> tables;
    for (const Rope& rope : composition_.ropes) {
      tables.push_back(pass.saved_statistics({pass.tokens(), config_.head_dim}));
      backend_->rope_table(tables.back(), device, rope.inverse_frequencies, rope.scale);
    }
    pass.set_rope_tables(std::move(tables));
    return pass;
  }

  /// The residual stream behind the last block, [tokens, hidden].
  Tensor run_blocks(const Tensor& ids, nn::Pass& pass, const MemoryPolicy& memory,
                    const KvCache* cache) {
    const backend::Scope scope(*backend_, "forward");
    const backend::Shape shape{ids.size(0), config_.hidden_size};
    Tensor x = pass.saved(shape);
    parameters_.open(kEmbeddingUnit, nn::Use::kWeights, unit_of(0));
    embedding_.forward(x, ids, pass);
    if (positions_) positions_->forward(x, pass);
    parameters_.close(kEmbeddingUnit);
    for (std::size_t layer = 0; layer < blocks_.size(); ++layer) {
      const backend::Scope block(*backend_, "block", static_cast<Index>(layer));
      open_block(layer, nn::Use::kWeights, unit_of(layer) + 1);
      Tensor out = pass.saved(shape);
      if (cache == nullptr) {
        blocks_[layer].forward(out, x, pass, block_memory(memory, layer));
      } else {
        const nn::AttentionCache rows{cache->keys[layer], cache->values[layer], cache->length};
        blocks_[layer].forward(out, x, pass, block_memory(memory, layer), &rows);
      }
      close_block(layer);
      x = std::move(out);
    }
    return x;
  }

  /// Final norm, head and loss, and back: the gradient of the residual stream x.
  Tensor run_head(const Tensor& x, const Ids& labels, double loss_scale, nn::Pass& pass,
                  double& nll_sum) {
    const backend::Scope scope(*backend_, "loss");
    open_head(nn::Use::kBoth, unit_of(blocks_.size() - 1));
    const Tensor normed = pass.saved(x.shape());
    const Tensor statistics = pass.saved_statistics(norm_->statistics(x.size(0)));
    norm_->forward(normed, statistics, x, pass);
    nll_sum = head_.forward_backward(normed, normed, labels, loss_scale, pass);
    Tensor d = pass.workspace(x.shape());
    norm_->backward(d, normed, {}, statistics, x, pass);
    close_head();
    return d;
  }

  std::vector<float> download_logits(const Tensor& normed, nn::Pass& pass) const {
    const Tensor logits =
        backend_->allocate({1, config_.vocab_size}, pass.statistic_dtype(), MemoryTag::kWorkspace);
    head_.logits(logits, normed, pass);
    Tensor floats = logits;
    if (logits.dtype() != base::DType::kFloat32) {
      floats = backend_->allocate(logits.shape(), base::DType::kFloat32, MemoryTag::kWorkspace);
      backend_->copy(floats, logits);
    }
    std::vector<float> host(static_cast<std::size_t>(config_.vocab_size));
    backend_->copy_to_host(host.data(), floats, floats.bytes());
    if (composition_.logits_soft_cap > 0.0) {
      const auto cap = static_cast<float>(composition_.logits_soft_cap);
      for (float& logit : host) logit = cap * std::tanh(logit / cap);
    }
    return host;
  }

  ModelConfig config_;
  Composition composition_;
  base::DType dtype_;
  backend::Backend* backend_;
  backend::Backend* host_;
  nn::ParameterSet parameters_;
  nn::ParameterSet adapter_parameters_;
  nn::VeloraOptions velora_;
  nn::SamplingOptions sampling_;
  std::optional<nn::Adapters> adapters_;
  std::vector<int> adapter_units_;  ///< of each block; kNoUnit: it has none
  int adapted_blocks_ = 0;
  bool packs_base_;
  nn::Embedding embedding_;
  std::optional<nn::LearnedPositions> positions_;
  MemoryPolicy memory_;
  std::vector<Block> blocks_;
  std::unique_ptr<nn::Norm> norm_;
  nn::LmHeadLoss head_;
};

Decoder::Decoder(const ModelConfig& config, base::DType dtype, backend::Backend& backend,
                 const MemoryPolicy& memory, const nn::Placement& placement, backend::Backend* host,
                 const TrainingMethods& methods)
    : impl_(std::make_unique<Impl>(config, dtype, backend, memory, placement, host, methods)) {}

Decoder::~Decoder() = default;

const ModelConfig& Decoder::config() const { return impl_->config(); }

base::DType Decoder::dtype() const { return impl_->dtype(); }

nn::ParameterSet& Decoder::parameters() { return impl_->parameters(); }

nn::ParameterSet* Decoder::adapters() { return impl_->adapters(); }

LossResult Decoder::forward_backward(const TokenBatch& batch, double loss_scale,
                                     const MemoryPolicy* blocks) {
  return impl_->forward_backward(batch, loss_scale, blocks);
}

LossResult Decoder::evaluate(const TokenBatch& batch, std::vector<double>* nll) {
  return impl_->evaluate(batch, nll);
}

KvCache Decoder::make_cache(std::int64_t capacity) { return impl_->make_cache(capacity); }

void Decoder::grow_cache(KvCache& cache, std::int64_t capacity) {
  impl_->grow_cache(cache, capacity);
}

std::vector<float> Decoder::next_logits(const Ids& tokens, KvCache& cache) {
  return impl_->next_logits(tokens, cache);
}

}  // namespace longspan::model
