#include "train/optimizer_keys.h"

#include <fmt/format.h>

#include <string>
#include <vector>

#include "longspan/base/error.h"
#include "longspan/optim/kinds.h"
#include "train/key_limits.h"

namespace longspan::train {

using base::Declarations;
using base::InputError;

namespace {

std::vector<base::Key::Word> optimizer_words() {
  std::vector<base::Key::Word> words;
  for (const optim::OptimizerKind& kind : optim::optimizer_kinds()) {
    words.push_back({kind.name, kind.words});
  }
  return words;
}

void declare_galore(CommonJob::Optimizer& optimizer, Declarations& keys) {
  keys.section("optimizer.galore", "What \"galore\" projects gradients of matrices to.");
  keys.integer("optimizer.galore.rank", optimizer.galore_rank,
               "Rank of the projected gradients; matrices with a shorter side are not projected.")
      .at_least(1)
      .at_most(kMaxCount)
      .known_elsewhere_as({"galore_rank"});
  keys.integer("optimizer.galore.interval", optimizer.galore_interval,
               "Updates between projections, each made of the gradient of its update.")
      .at_least(1)
      .at_most(kMaxSteps)
      .unit("steps")
      .known_elsewhere_as({"update_proj_gap", "galore_update_interval"});
  keys.real("optimizer.galore.scale", optimizer.galore_scale,
            "Factor of the learning rate of projected matrices.")
      .above(0)
      .known_elsewhere_as({"galore_scale", "galore_alpha"});
}

void declare_blocks(CommonJob::Optimizer& optimizer, Declarations& keys) {
  keys.section("optimizer.blockllm", "Which parameters \"blockllm\" trains, and for how long.");
  keys.real("optimizer.blockllm.active", optimizer.block_active,
            "Part of all elements that are trained at a time; a larger parameter is trained alone.")
      .above(0)
      .at_most(1)
      .known_elsewhere_as({"sparsity", "sparsity_level"});
  keys.integer("optimizer.blockllm.interval", optimizer.block_interval,
               "Updates between choices of parameters at most; 0: any number.")
      .at_least(0)
      .at_most(kMaxSteps)
      .unit("steps")
      .known_elsewhere_as({"update_freq", "switch_block_every"});
  keys.integer("optimizer.blockllm.patience", optimizer.block_patience,
               "Updates whose mean loss is compared with that of all before them under the same "
               "choice: if it is higher, there is a new one; 0: losses do not matter.")
      .at_least(0)
      .at_most(kMaxSteps)
      .unit("steps")
      .known_elsewhere_as({"blockllm_patience", "loss_patience"});
}

void declare_zeroth_order(CommonJob::Optimizer& optimizer, Declarations& keys) {
  keys.section("optimizer.zeroth_order",
               "How \"mezo\" and \"lozo\" measure the slope along a direction.");
  keys.real("optimizer.zeroth_order.perturbation", optimizer.perturbation,
            "How far to each side of the weights the loss is evaluated: times a normal number for "
            "each weight.")
      .above(0)
      .known_elsewhere_as({"zo_eps", "zo_epsilon", "perturbation_scale"});
  keys.integer("optimizer.zeroth_order.rank", optimizer.lozo_rank,
               "Of \"lozo\": rank of matrices' directions; matrices with a shorter side have "
               "full ones.")
      .at_least(1)
      .at_most(kMaxCount)
      .known_elsewhere_as({"rank_r", "lozo_rank"});
  keys.integer("optimizer.zeroth_order.interval", optimizer.lozo_interval,
               "Of \"lozo\": steps in which a matrix's directions lie in one subspace.")
      .at_least(1)
      .at_most(kMaxSteps)
      .unit("steps")
      .known_elsewhere_as({"step_interval", "lozo_interval"});
}

/// Keys that only some optimizers have, given for another.
void refuse_foreign_keys(const CommonJob& job, const optim::OptimizerKind& kind) {
  const CommonJob::Optimizer& given = job.optimizer;
  const CommonJob::Optimizer plain;
  struct Foreign {
    bool is_legal;
    bool is_given;
    const char* key;
    const char* those;  ///< that have it
  };
  const Foreign all[] = {
      {kind.has_galore_keys, given.galore_rank != plain.galore_rank, "galore.rank", "\"galore\""},
      {kind.has_galore_keys, given.galore_interval != plain.galore_interval, "galore.interval",
       "\"galore\""},
      {kind.has_galore_keys, given.galore_scale != plain.galore_scale, "galore.scale",
       "\"galore\""},
      {kind.has_block_keys, given.block_active != plain.block_active, "blockllm.active",
       "\"blockllm\""},
      {kind.has_block_keys, given.block_interval != plain.block_interval, "blockllm.interval",
       "\"blockllm\""},
      {kind.has_block_keys, given.block_patience != plain.block_patience, "blockllm.patience",
       "\"blockllm\""},
      {!kind.needs_gradients, given.perturbation != plain.perturbation, "zeroth_order.perturbation",
       "\"mezo\" or \"lozo\""},
      {kind.has_lozo_keys, given.lozo_rank != plain.lozo_rank, "zeroth_order.rank", "\"lozo\""},
      {kind.has_lozo_keys, given.lozo_interval != plain.lozo_interval, "zeroth_order.interval",
       "\"lozo\""},
  };
  for (const Foreign& one : all) {
    if (one.is_legal || !one.is_given) continue;
    throw InputError(
        fmt::format("optimizer.{} is given, but optimizer.name is \"{}\"; leave it out, or set "
                    "optimizer.name to {}",
                    one.key, given.name, one.those));
  }
}

/// Of "mezo" and "lozo": what would be of a backward, or of means of gradients.
void check_no_backward(const CommonJob& job) {
  const CommonJob::Optimizer& optimizer = job.optimizer;
  const CommonJob::Optimizer plain;
  const auto refuse = [&](const std::string& what, const char* why) {
    throw InputError(
        fmt::format("{}, but optimizer.name is \"{}\", {}", what, optimizer.name, why));
  };
  const auto refuse_mean = [&](const char* key, bool is_given) {
    if (!is_given) return;
    refuse(fmt::format("optimizer.{} is given", key),
           "which keeps no means of gradients; leave it out");
  };
  refuse_mean("beta1", optimizer.beta1 != plain.beta1);
  refuse_mean("beta2", optimizer.beta2 != plain.beta2);
  refuse_mean("epsilon", optimizer.epsilon != plain.epsilon);
  refuse_mean("moments", optimizer.moments != plain.moments);
  if (job.memory.activation_checkpointing != "none") {
    refuse(fmt::format("memory.activation_checkpointing is \"{}\"",
                       job.memory.activation_checkpointing),
           "which has no backward that anything is kept for; legal: \"none\"");
  }
  for (const model::SlotWords& slot : model::saved_slots()) {
    const std::string& policy = job.memory.saved_inputs[slot.slot];
    if (policy == "full") continue;
    refuse(fmt::format("memory.saved_inputs.{} is \"{}\"", slot.name, policy),
           "which has no backward that anything is kept for; legal: \"full\"");
  }
}

/// Ranks of projections and directions must be those of some matrix.
void check_rank(const char* key, std::int64_t rank, const MostRank& most) {
  if (rank <= most.value) return;
  throw InputError(fmt::format("optimizer.{} is {}; legal: at most {}, which is {}", key, rank,
                               most.key, most.value));
}

}  // namespace

bool CommonJob::has_backward() const {
  return optim::optimizer_kind(optimizer.name).needs_gradients;
}

void declare_optimizer(CommonJob::Optimizer& optimizer, Declarations& keys) {
  keys.section("optimizer", "How gradients change the weights.");
  keys.choice("optimizer.name", optimizer.name, optimizer_words(), "Which optimizer.");
  keys.real("optimizer.learning_rate", optimizer.learning_rate,
            "Peak learning rate, which the schedule scales.")
      .required()
      .above(0)
      .known_elsewhere_as({"lr", "max_lr", "peak_lr", "step_size"});
  keys.real("optimizer.beta1", optimizer.beta1, "Decay of the mean of gradients, per step.")
      .at_least(0)
      .below(1)
      .known_elsewhere_as({"betas", "adam_beta1", "momentum"});
  keys.real("optimizer.beta2", optimizer.beta2, "Decay of the mean of squares, per step.")
      .at_least(0)
      .below(1)
      .known_elsewhere_as({"adam_beta2"});
  keys.real("optimizer.epsilon", optimizer.epsilon, "Added to the root of the mean of squares.")
      .above(0)
      .known_elsewhere_as({"eps", "adam_eps", "adam_epsilon"});
  keys.real("optimizer.weight_decay", optimizer.weight_decay,
            "Part of each weight that goes per step, times the learning rate.")
      .at_least(0)
      .known_elsewhere_as({"wd", "decay"});
  keys.boolean("optimizer.decay_norms_and_embeddings", optimizer.decay_norms_and_embeddings,
               "Whether weight_decay concerns norms, biases and embeddings, too.");
  keys.real("optimizer.max_grad_norm", optimizer.max_grad_norm,
            "Gradients of a larger global norm are scaled down to it, and so is a larger slope of "
            "\"mezo\" and \"lozo\"; 0: never.")
      .at_least(0)
      .known_elsewhere_as({"grad_clip", "clip_grad", "clip_grad_norm", "gradient_clipping"});
  keys.choice("optimizer.moments", optimizer.moments,
              {{"full", "in 32 bits (64 with training.precision \"fp64\")"},
               {"bf16",
                "in bfloat16, each rounded up or down at random so that it is right in the mean"}},
              "What the means of \"adamw\" are kept in.")
      .known_elsewhere_as({"moment_dtype", "optimizer_state_dtype", "exp_avg_dtype"});
  keys.choice("optimizer.offload", optimizer.offload,
              {{"none", "on the device"},
               {"host",
                "in host memory, where the update then runs; for devices with memory of "
                "their own"}},
              "Where moments and master weights are kept.")
      .known_elsewhere_as({"offload_optimizer", "cpu_offload", "optimizer_cpu_offload"});
  declare_galore(optimizer, keys);
  declare_blocks(optimizer, keys);
  declare_zeroth_order(optimizer, keys);
}

void check_optimizer(const CommonJob& job, const MostRank& projection, const MostRank& direction) {
  const CommonJob::Optimizer& optimizer = job.optimizer;
  const optim::OptimizerKind& kind = optim::optimizer_kind(optimizer.name);
  const bool rounds = optimizer.moments == "bf16";
  refuse_foreign_keys(job, kind);
  if (kind.has_galore_keys) check_rank("galore.rank", optimizer.galore_rank, projection);
  if (kind.has_lozo_keys) check_rank("zeroth_order.rank", optimizer.lozo_rank, direction);
  if (!kind.needs_gradients) check_no_backward(job);
  if (optimizer.offload == "host" && !kind.may_be_on_host) {
    throw InputError(
        fmt::format("optimizer.offload is \"host\", but optimizer.name is \"{}\", whose updates "
                    "run on the device; legal: \"none\"",
                    optimizer.name));
  }
  if (rounds && !kind.may_round_moments) {
    throw InputError(
        fmt::format("optimizer.moments is \"bf16\", but optimizer.name is \"{}\", whose moments "
                    "have a form of their own; leave it out",
                    optimizer.name));
  }
  if (job.training.precision != "fp64") return;
  if (rounds) {
    throw InputError(
        "optimizer.moments is \"bf16\", but training.precision is \"fp64\", in which everything "
        "is in 64 bits; leave it out");
  }
  if (!kind.does_float64) {
    throw InputError(
        fmt::format("optimizer.name is \"{}\", which does not work with training.precision "
                    "\"fp64\"; legal: \"fp32\" or \"bf16\"",
                    optimizer.name));
  }
}

}  // namespace longspan::train
