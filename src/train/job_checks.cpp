#include <fmt/format.h>

#include "longspan/backend/cuda.h"
#include "longspan/base/error.h"
#include "longspan/train/job.h"
#include "train/adapter_keys.h"
#include "train/common_keys.h"
#include "train/gradient_keys.h"
#include "train/optimizer_keys.h"
#include "train/parallel_layout.h"

namespace longspan::train {
namespace {

using base::InputError;

/// Documents that planners deal out are not rows, of which a step must have a whole number.
void check_batch(const Job& job) {
  const Job::Training& training = job.training;
  if (job.parallel.plans_steps() && training.tokens_per_step < training.micro_batch_tokens) {
    throw InputError(
        fmt::format("training.tokens_per_step is {}; legal: at least training.micro_batch_tokens, "
                    "which is {}",
                    training.tokens_per_step, training.micro_batch_tokens));
  }
  if (!job.parallel.plans_steps() && training.tokens_per_step % training.micro_batch_tokens != 0) {
    throw InputError(
        fmt::format("training.tokens_per_step is {}; legal: a multiple of "
                    "training.micro_batch_tokens, which is {}",
                    training.tokens_per_step, training.micro_batch_tokens));
  }
  // A row may hold one document, and a streamed row is one: positions reach to its end.
  if (training.micro_batch_tokens > job.model.max_position_embeddings) {
    throw InputError(
        fmt::format("training.micro_batch_tokens is {}; legal: at most "
                    "model.max_position_embeddings, which is {}",
                    training.micro_batch_tokens, job.model.max_position_embeddings));
  }
}

void check_planner(const Job& job) {
  const Job::Parallel& parallel = job.parallel;
  if (!parallel.plans_steps()) {
    if (job.memory.chooses_checkpointing()) {
      throw InputError(
          "memory.activation_checkpointing is \"auto\", but parallel.planner is \"fixed\", which "
          "chooses nothing; legal: \"none\", \"block\", \"block_keep_attention\" or ranges of "
          "layers; or set parallel.planner to \"flexible\"");
    }
    if (parallel.costs == "auto") return;
    throw InputError(
        fmt::format("parallel.costs is \"{}\", but parallel.planner is \"fixed\", which asks for "
                    "none; leave it out, or set parallel.planner to \"flexible\"",
                    parallel.costs));
  }
  const auto refuse = [&](const std::string& what, const std::string& why) {
    throw InputError(
        fmt::format("{}, but parallel.planner is \"{}\": {}", what, parallel.planner, why));
  };
  if (parallel.sequence != "auto") {
    refuse(fmt::format("parallel.sequence is \"{}\"", parallel.sequence),
           "it chooses how many ranks share a document; leave the key out");
  }
  if (parallel.data != 0) {
    refuse(fmt::format("parallel.data is {}", parallel.data),
           "it chooses how many groups of ranks there are; leave the key out");
  }
  if (job.data.packing != "packed") {
    refuse(fmt::format("data.packing is \"{}\"", job.data.packing),
           "it packs whole documents; legal: \"packed\"");
  }
  if (!job.data.weights.empty()) {
    refuse("data.weights are given",
           "a step's documents are drawn from all files alike; leave it out");
  }
}

/// "auto" chooses for every slot, and for passes that are alike.
void check_saved_inputs(const Job& job) {
  const Job::Memory& memory = job.memory;
  if (memory.saved_policy != "auto") {
    if (memory.saved_host_limit == 0) return;
    throw InputError(fmt::format(
        "memory.saved_inputs.host_limit is {}, but memory.saved_inputs.policy is \"{}\" and only "
        "\"auto\" has a limit; leave it out",
        memory.saved_host_limit, memory.saved_policy));
  }
  const std::string what = "memory.saved_inputs.policy is \"auto\"";
  for (const model::SlotWords& slot : model::saved_slots()) {
    if (memory.saved_inputs[slot.slot] == "full") continue;
    throw InputError(
        fmt::format("{}, which chooses for every slot, but memory.saved_inputs.{} is \"{}\"; leave "
                    "one of them out",
                    what, slot.name, memory.saved_inputs[slot.slot]));
  }
  if (!job.has_backward()) {
    throw InputError(fmt::format(
        "{}, but optimizer.name is \"{}\", which has no backward that anything is kept for; leave "
        "it out",
        what, job.optimizer.name));
  }
  if (!job.parallel.plans_steps()) return;
  throw InputError(fmt::format(
      "{}, which chooses for rows of one length, but parallel.planner is \"{}\", whose groups have "
      "documents of any; leave it out",
      what, job.parallel.planner));
}

/// Ranks of projections and directions must be those of some matrix.
void check_optimizer_of(const Job& job) {
  const MostRank hidden{job.model.hidden_size, "model.hidden_size"};
  const auto lora = job.lora();
  check_optimizer(job, hidden, lora ? MostRank{lora->rank, "adapter.rank"} : hidden);
  if (job.has_backward() || job.adapter.lora.dropout == 0) return;
  throw InputError(
      fmt::format("adapter.dropout is {}, but optimizer.name is \"{}\", whose evaluations drop "
                  "nothing; legal: 0",
                  job.adapter.lora.dropout, job.optimizer.name));
}

void check_weights(const Job::Data& data) {
  if (data.weights.empty() || data.weights.size() == data.train.size()) return;
  throw InputError(
      fmt::format("data.weights has {} numbers for the {} files of data.train; give one for each",
                  data.weights.size(), data.train.size()));
}

void check_validation(const Job& job) {
  const bool is_split = job.data.validation_fraction > 0;
  const bool has_files = !job.data.validation.empty();
  if (is_split && has_files) {
    throw InputError(
        fmt::format("data.validation and data.validation_fraction ({}) are both given; keep one",
                    job.data.validation_fraction));
  }
  if (is_split || has_files) return;
  const auto needs_data = [](const char* key, std::int64_t value) {
    if (value == 0) return;
    throw InputError(
        fmt::format("{} is {}, but there is nothing to validate on; give data.validation or "
                    "data.validation_fraction",
                    key, value));
  };
  needs_data("training.validation_every", job.training.validation_every);
  needs_data("training.validation_tokens", job.training.validation_tokens);
}

void check_beginning(const Job& job) {
  const std::string& resume = job.checkpoint.resume;
  // The checkpoint of an adapter is without its base.
  const bool is_adapter = job.lora().has_value();
  const std::string& from = is_adapter ? job.adapter.from : job.model_from;
  if (from.empty() || resume == "auto" || resume == "never") return;
  throw InputError(
      fmt::format("checkpoint.resume \"{}\" and {}.from \"{}\" both say what the run begins "
                  "with; keep one",
                  resume, is_adapter ? "adapter" : "model", from));
}

void check_tokens(const Job& job) {
  if (job.data.document_end < job.model.vocab_size) return;
  throw InputError(
      fmt::format("data.document_end is {}; legal: below model.vocab_size, which is {}",
                  job.data.document_end, job.model.vocab_size));
}

void check_device(const Job& job) {
  if (job.run.device != "cuda" || job.model.head_dim <= backend::kCudaMostHeadDim) return;
  throw InputError(fmt::format("model.head_dim is {}; run.device \"cuda\" does at most {}",
                               job.model.head_dim, backend::kCudaMostHeadDim));
}

}  // namespace

void check(Job& job) {
  job.model.resolve("model");
  check_beginning(job);
  check_adapter(job);
  check_velora(job);
  check_sampling(job);
  check_tokens(job);
  check_device(job);
  check_planner(job);
  check_batch(job);
  check_optimizer_of(job);
  check_schedule(job);
  check_weights(job.data);
  check_validation(job);
  memory_policy(job);
  check_saved_inputs(job);
  check_sequence(job);
}

}  // namespace longspan::train
