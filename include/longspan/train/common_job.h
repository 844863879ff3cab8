#pragma once

#include <cstdint>
#include <string>

#include "longspan/model/memory_policy.h"

namespace longspan::train {

/// What jobs of texts (Job) and of clips (ClipJob) have in common: sections as in their files, with
/// their defaults. A key of them that a kind of job does not declare has its default there.
struct CommonJob {
  struct Run {
    std::string name = "run";
    std::string output_dir;
    std::uint64_t seed = 1;
    std::string device = "cpu";
    std::string device_profile = "auto";
    bool deterministic = true;
    std::int64_t threads = 0;  ///< per rank; 0: the machine's cores / local ranks
  } run;

  struct Optimizer {
    std::string name = "adamw";
    double learning_rate = 0.0;
    double beta1 = 0.9;
    double beta2 = 0.95;
    double epsilon = 1e-8;
    double weight_decay = 0.1;
    bool decay_norms_and_embeddings = false;
    double max_grad_norm = 1.0;
    std::string moments = "full";
    std::string offload = "none";
    std::int64_t galore_rank = 128;
    std::int64_t galore_interval = 200;  ///< updates
    double galore_scale = 0.25;
    double block_active = 0.1;           ///< part of the elements
    std::int64_t block_interval = 1000;  ///< updates; 0: no end
    std::int64_t block_patience = 100;   ///< updates; 0: not by losses
    double perturbation = 1e-3;
    std::int64_t lozo_rank = 2;
    std::int64_t lozo_interval = 50;  ///< steps
  } optimizer;

  struct Schedule {
    std::string name = "cosine";
    std::int64_t warmup_steps = 0;
    std::int64_t decay_steps = 0;
    double min_ratio = 0.1;
  } schedule;

  struct Training {
    std::int64_t steps = 0;
    std::int64_t tokens_per_step = 0;
    std::int64_t micro_batch_tokens = 0;
    std::string precision = "fp32";
    std::int64_t validation_every = 0;   ///< steps; 0: only at the end
    std::int64_t validation_tokens = 0;  ///< at most; 0: all
    std::int64_t max_skipped_steps = 5;  ///< in a row
  } training;

  struct Memory {
    std::uint64_t limit = 0;  ///< bytes per rank; 0 ("auto"): see device_memory
    std::string activation_checkpointing = "none";  ///< see model::MemoryPolicy; or "auto"
    model::SlotTexts saved_inputs = model::SlotTexts::all("full");  ///< see model::MemoryPolicy
    std::string saved_rounding = "nearest";  ///< of what waits in 8-bit codes
    std::string saved_policy = "by_slot";    ///< or "auto": see train::SlotChoice
    std::uint64_t saved_host_limit = 0;      ///< bytes of a rank for it; 0 ("auto"): its share
    /// With "auto": saved_inputs are what was chosen.
    bool slots_are_chosen = false;
    std::string mini_sequence_mlp = "auto";
    std::string mini_sequence_lm_head = "auto";
    /// Whether a planner of steps chooses a level for each group.
    bool chooses_checkpointing() const { return activation_checkpointing == "auto"; }
    /// Whether saved_inputs are still to be chosen: until then they are "full".
    bool chooses_saved_inputs() const { return saved_policy == "auto" && !slots_are_chosen; }
    void choose_saved_inputs(const model::SlotTexts& texts) {
      saved_inputs = texts;
      slots_are_chosen = true;
    }
    /// Whether something that is kept waits on the host.
    bool offloads_saved_inputs() const;
    /// Whether something that is kept waits in 8-bit codes.
    bool codes_saved_inputs() const;
    /// Whether queries, keys and values, or some of them, are not kept where else all is.
    bool recomputes_attention() const;
  } memory;

  struct Parallel {
    std::int64_t data = 0;          ///< groups; 0 ("auto"): ranks / those of a sequence group
    std::string sequence = "auto";  ///< ranks of a sequence group: "auto", "4", or "8x2"
    double timeout_seconds = 600;
    std::int64_t zero_stage = 1;  ///< see nn::Placement
    bool overlap = true;          ///< likewise, on asynchronous devices
    std::string planner = "fixed";
    std::string costs = "auto";  ///< "auto": of the dry backend; else a cost file
    /// Whether each step has a plan of its own, made of its sequences.
    bool plans_steps() const { return planner != "fixed"; }
  } parallel;

  struct Checkpoint {
    std::int64_t every = 0;  ///< steps; 0: only at the end
    std::int64_t keep_last = 3;
    std::string resume = "auto";  ///< auto | never | a checkpoint directory
  } checkpoint;

  struct Logging {
    std::int64_t every = 1;  ///< steps between console lines
    bool tensorboard = true;
    double peak_tflops = 0;  ///< of one rank's device, for MFU; 0 ("auto"): measured at the start
  } logging;

  /// Whether a step has a backward; else it is two evaluations: see optim::Mezo.
  bool has_backward() const;
};

}  // namespace longspan::train
