#pragma once

#include <cstdint>
#include <vector>

#include "longspan/backend/backend.h"
#include "longspan/nn/parameter.h"

namespace longspan::optim {

struct AdamWConfig {
  double beta1 = 0.9;
  double beta2 = 0.95;
  double epsilon = 1e-8;
  double weight_decay = 0.1;
  bool decay_norms_and_embeddings = false;
};

/// AdamW (Loshchilov & Hutter) over this rank's own elements of a ParameterSet, with decoupled
/// decay by parameter kind, float32 moments and, for bfloat16 weights, a float32 master copy.
///
/// The host may keep its state (Ren et al. 2021, "ZeRO-Offload"): then the update runs there, chunk
/// by chunk: gradients come down, weights go up. Where the device is a processor, too, the results
/// are the same bits.
class AdamW {
 public:
  /// Allocates the state (zero moments) on `host`, a backend of the processor, or where that is
  /// null on `backend`, which has the parameters. All that is given must outlive the optimizer.
  AdamW(const AdamWConfig& config, nn::ParameterSet& parameters, backend::Backend& backend,
        backend::Backend* host = nullptr);

  /// Takes the master weights from the parameters' present weights (after initialisation, or after
  /// loading weights that no master was saved with).
  void reset_master();
  /// One update of own weights with the gradients as they are, scaled by `gradient_scale` first.
  void step(double learning_rate, double gradient_scale);

  std::int64_t updates() const { return updates_; }
  void set_updates(std::int64_t updates) { updates_ = updates; }

  /// Where the state is.
  backend::Backend& home() const { return *home_; }
  /// Whether checkpoints hold the master: it is more than the weights then.
  bool saves_master() const { return parameters_->weights().dtype() == base::DType::kBFloat16; }
  /// Rank-1, over own elements as nn::OwnRange::stored counts them. The master is undefined when
  /// the weights themselves are updated.
  const backend::Tensor& master() const { return master_; }
  const backend::Tensor& moment1() const { return moment1_; }
  const backend::Tensor& moment2() const { return moment2_; }

 private:
  struct Staging;
  struct Chunk;
  bool is_offloaded() const { return home_ != backend_; }
  Staging make_staging() const;
  std::vector<Chunk> chunks_of(const nn::OwnRange& range, const Staging& staging) const;
  void update_resident(const nn::OwnRange& range, const backend::AdamWOptions& options) const;
  void update_on_host(const Chunk& chunk, const backend::AdamWOptions& options) const;

  AdamWConfig config_;
  nn::ParameterSet* parameters_;
  backend::Backend* backend_;
  backend::Backend* home_;
  backend::Tensor master_;
  backend::Tensor moment1_;
  backend::Tensor moment2_;
  std::int64_t updates_ = 0;
};

/// Factor that brings gradients of this norm to `max_norm`; 1 when they are within it or
/// `max_norm` is 0 (no clipping).
double clip_factor(double norm, double max_norm);

}  // namespace longspan::optim
