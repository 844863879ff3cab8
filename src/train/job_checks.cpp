#include <fmt/format.h>

#include "longspan/backend/cuda.h"
#include "longspan/base/error.h"
#include "longspan/train/job.h"
#include "train/parallel_layout.h"

namespace longspan::train {
namespace {

using base::InputError;

void check_batch(const Job& job) {
  const Job::Training& training = job.training;
  if (training.tokens_per_step % training.micro_batch_tokens != 0) {
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

void check_schedule(const Job& job) {
  const Job::Schedule& schedule = job.schedule;
  const bool is_wsd = schedule.name == "wsd";
  if (is_wsd && schedule.decay_steps == 0) {
    throw InputError("schedule.decay_steps is 0; schedule.name \"wsd\" needs at least 1");
  }
  if (!is_wsd && schedule.decay_steps != 0) {
    throw InputError(
        fmt::format("schedule.decay_steps is {}, but schedule.name is \"{}\" and only \"wsd\" has "
                    "a decay of its own; leave it out",
                    schedule.decay_steps, schedule.name));
  }
  if (schedule.name == "constant" && schedule.min_ratio != Job::Schedule{}.min_ratio) {
    throw InputError(
        fmt::format("schedule.min_ratio is {}, but schedule.name \"constant\" never falls; leave "
                    "it out",
                    schedule.min_ratio));
  }
  if (schedule.warmup_steps + schedule.decay_steps > job.training.steps) {
    throw InputError(
        fmt::format("schedule.warmup_steps ({}) and schedule.decay_steps ({}) are more than "
                    "training.steps, which is {}",
                    schedule.warmup_steps, schedule.decay_steps, job.training.steps));
  }
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
  if (job.model_from.empty() || resume == "auto" || resume == "never") return;
  throw InputError(
      fmt::format("checkpoint.resume \"{}\" and model.from \"{}\" both say what the run begins "
                  "with; keep one",
                  resume, job.model_from));
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
  check_tokens(job);
  check_device(job);
  check_batch(job);
  check_schedule(job);
  check_weights(job.data);
  check_validation(job);
  memory_policy(job);
  check_sequence(job);
}

}  // namespace longspan::train
