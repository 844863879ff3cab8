#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "longspan/backend/backend.h"
#include "longspan/nn/parameter.h"
#include "longspan/optim/state_tensor.h"

namespace longspan::optim {

/// What all of Adam's kind have.
struct AdamConfig {
  double beta1 = 0.9;
  double beta2 = 0.95;
  double epsilon = 1e-8;
  double weight_decay = 0.1;
  bool decay_norms_and_embeddings = false;
};

/// Updates this rank's own elements of a ParameterSet with their gradients. What is common is here:
/// decoupled decay by parameter kind, for bfloat16 weights a float32 master copy, and the way to
/// the host and back; and the directions of compressed gradients, and factors of sampled ones. What
/// an optimizer keeps for its parameters it names (`states`), and that is all that checkpoints need
/// to know of it.
///
/// The host may keep the state (Ren et al. 2021, "ZeRO-Offload"): then the update runs there, chunk
/// by chunk: gradients come down, weights go up. Where the device is a processor, too, the results
/// are the same bits.
class Optimizer {
 public:
  virtual ~Optimizer() = default;
  Optimizer(const Optimizer&) = delete;
  Optimizer& operator=(const Optimizer&) = delete;

  /// One update of own weights with the gradients as they are, which must be finite, scaled by
  /// `gradient_scale` first.
  void step(double learning_rate, double gradient_scale);

  /// Before the update of a step with this loss, which is the same on every rank: whether `choose`
  /// must come before the update, too. False of an optimizer that always trains all.
  virtual bool observe(double /*loss*/) { return false; }
  /// Chooses which parameters are trained from now on. `gradient_squares`: of each parameter, the
  /// sum over its whole gradient, the same on every rank.
  virtual void choose(const std::vector<double>& /*gradient_squares*/) {}

  std::int64_t updates() const { return updates_; }
  void set_updates(std::int64_t updates) { updates_ = updates; }

  /// All that is more than the weights and the number of updates, in the order of checkpoints: the
  /// optimizer's own, then the master where it is saved.
  std::vector<StateTensor> states() const;
  /// Those of `states` that tell which others there are; mostly none. A checkpoint's are loaded
  /// before the others, and taken.
  virtual std::vector<StateTensor> choice() const { return {}; }
  virtual void take_choice() {}
  /// The master weights alone: none where checkpoints do without.
  std::vector<StateTensor> master() const;
  /// Whether checkpoints hold the master: it is more than the weights then.
  bool saves_master() const { return parameters_->weights().dtype() == base::DType::kBFloat16; }
  /// Takes the master weights from the parameters' present weights (after initialisation, or after
  /// loading weights that no master was saved with).
  void reset_master();

  /// Where the state is.
  backend::Backend& home() const { return *home_; }

 protected:
  /// Keeps the state on `host`, a backend of the processor, or where that is null on `backend`,
  /// which has the parameters. `keeps_master`: a master copy of weights of its own dtype, too. All
  /// that is given must outlive the optimizer.
  Optimizer(const AdamConfig& config, nn::ParameterSet& parameters, backend::Backend& backend,
            backend::Backend* host, bool keeps_master = false);

  /// Elements [begin, end) of an own range, counted from its first, as tensors of home(), rank 1.
  struct Piece {
    const nn::OwnRange* range = nullptr;
    backend::Index begin = 0;
    backend::Index end = 0;
    backend::Tensor weight;    ///< receives the rounded result; undefined: the master is read
    backend::Tensor master;    ///< what is updated
    backend::Tensor gradient;  ///< of the master's dtype; undefined where parameters have none
    /// Of a compressed gradient, which has an element for each `direction.size(0)` of the master.
    backend::Tensor direction;
  };
  /// All of an own range, where the state is not on a host.
  Piece resident(const nn::OwnRange& range) const;
  /// One update of a piece. Without a host a piece is an own range; with one a chunk of it, which
  /// begins at a multiple of kChunk elements, or of as many as whole elements of the gradient have.
  virtual void update(const Piece& piece, const backend::AdamWOptions& options) = 0;
  virtual void append_states(std::vector<StateTensor>& states) const = 0;
  /// Whether this parameter is updated at all.
  virtual bool trains(int /*number*/) const { return true; }

  nn::ParameterSet& parameters() const { return *parameters_; }
  /// float32 (float64): of gradients and master weights.
  base::DType wide_dtype() const {
    const base::DType dtype = parameters_->weights().dtype();
    return dtype == base::DType::kFloat64 ? dtype : base::DType::kFloat32;
  }

 private:
  struct Staging;
  bool is_offloaded() const { return home_ != backend_; }
  Staging make_staging() const;
  backend::Index chunk_of(const nn::OwnRange& range) const;
  std::vector<StateTensor> directions() const;
  std::vector<StateTensor> sampling() const;
  std::vector<Piece> chunks_of(const nn::OwnRange& range, const Staging& staging) const;
  void update_on_host(const Piece& chunk, const backend::AdamWOptions& options);

  AdamConfig config_;
  nn::ParameterSet* parameters_;
  backend::Backend* backend_;
  backend::Backend* home_;
  std::optional<OwnState> master_;
  std::int64_t updates_ = 0;
};

/// Factor that brings gradients of this norm to `max_norm`; 1 when they are within it or
/// `max_norm` is 0 (no clipping).
double clip_factor(double norm, double max_norm);

}  // namespace longspan::optim
