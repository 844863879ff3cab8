#include "train/common_keys.h"

#include <fmt/format.h>

#include <string>
#include <vector>

#include "longspan/base/error.h"
#include "train/key_limits.h"

namespace longspan::train {

using base::Declarations;
using base::InputError;

namespace {

std::vector<base::Key::Word> profile_words() {
  return {{"auto", "this machine's device of the kind that `device` names"},
          {"cpu", "this machine's processor"},
          {"a100-80gb", "NVIDIA A100 80 GB"},
          {"h100-80gb", "NVIDIA H100 80 GB"},
          {"h200", "NVIDIA H200"}};
}

}  // namespace

void declare_run(CommonJob::Run& run, Declarations& keys) {
  keys.section("run", "What the run is called, where it writes, what it runs on.");
  keys.text("run.name", run.name, "Name of the run, shown with its progress and curves.")
      .at_least(1)
      .known_elsewhere_as({"run_name", "project", "title"});
  keys.path("run.output_dir", run.output_dir,
            "Run directory, created if need be: resolved job, metrics, checkpoints.")
      .required()
      .at_least(1)
      .known_elsewhere_as({"out_dir", "save_dir", "output"});
  keys.integer("run.seed", run.seed,
               "Seed of everything random: initial weights, order of documents, split.")
      .known_elsewhere_as({"random_seed", "rng_seed"});
  keys.choice("run.device", run.device,
              {{"cpu", "the processor"}, {"cuda", "NVIDIA GPUs, one a rank"}}, "What computes.");
  keys.path("run.device_profile", run.device_profile,
            "What `longspan plan` takes the device for: a built-in profile, or a file of your own.",
            profile_words())
      .at_least(1);
  keys.boolean(
          "run.deterministic", run.deterministic,
          "Whether the same run always gives the same bits; on GPUs attention can be faster, and "
          "of longer documents, when it need not.")
      .known_elsewhere_as({"use_deterministic_algorithms", "deterministic_mode"});
  keys.integer("run.threads", run.threads, "Threads of each rank.")
      .at_least(1)
      .at_most(kMaxCount)
      .automatic("the machine's cores divided by the ranks on it")
      .known_elsewhere_as({"num_threads", "omp_num_threads"});
}

void declare_schedule(CommonJob::Schedule& schedule, Declarations& keys) {
  keys.section("schedule", "The learning rate over the steps.");
  keys.choice("schedule.name", schedule.name,
              {{"constant", "at the peak after the warm-up"},
               {"linear", "down in a line until the last step"},
               {"cosine", "down in half a cosine until the last step"},
               {"wsd", "at the peak, and down in a line over the last decay_steps"}},
              "Shape after the warm-up.")
      .known_elsewhere_as({"lr_schedule", "lr_scheduler_type", "lr_decay_style", "scheduler"});
  keys.integer("schedule.warmup_steps", schedule.warmup_steps,
               "Steps over which the rate rises to its peak in a line.")
      .at_least(0)
      .at_most(kMaxSteps)
      .unit("steps")
      .known_elsewhere_as({"warmup_iters", "num_warmup_steps", "lr_warmup_iters"});
  keys.integer("schedule.decay_steps", schedule.decay_steps,
               "Steps of the decay of \"wsd\", which needs it; 0 with every other schedule.")
      .at_least(0)
      .at_most(kMaxSteps)
      .unit("steps")
      .known_elsewhere_as({"cooldown_steps", "wsd_decay_steps"});
  keys.real("schedule.min_ratio", schedule.min_ratio,
            "Rate of the last step as a part of the peak; not for \"constant\".")
      .at_least(0)
      .at_most(1)
      .known_elsewhere_as({"min_lr", "min_lr_ratio", "final_ratio"});
}

void declare_steps(CommonJob::Training& training, Declarations& keys) {
  keys.section("training", "How long, in what portions, how precisely.");
  keys.integer("training.steps", training.steps, "Steps of the optimizer in all.")
      .required()
      .at_least(1)
      .at_most(kMaxSteps)
      .unit("steps")
      .known_elsewhere_as({"max_steps", "num_steps", "train_iters", "max_iters", "iterations"});
}

void declare_precision(CommonJob::Training& training, Declarations& keys) {
  keys.choice(
          "training.precision", training.precision,
          {{"fp32", "everything in 32 bits"},
           {"bf16",
            "weights and activations in bfloat16, all sums, gradients, optimizer state and master "
            "weights in 32 bits"},
           {"fp64", "for checking, slow"}},
          "Numbers that are computed with.")
      .known_elsewhere_as({"dtype", "torch_dtype", "mixed_precision"});
  keys.integer("training.validation_every", training.validation_every,
               "Steps between validations; 0: only at the end, if there is data for it.")
      .at_least(0)
      .at_most(kMaxSteps)
      .unit("steps")
      .known_elsewhere_as({"eval_every", "eval_interval", "eval_steps", "val_every"});
}

void declare_skips(CommonJob::Training& training, Declarations& keys) {
  keys.integer("training.max_skipped_steps", training.max_skipped_steps,
               "Steps whose gradients are not finite are skipped; the run stops after "
               "this many in a row.")
      .at_least(1)
      .at_most(kMaxSteps)
      .unit("steps");
}

void declare_memory_limit(CommonJob::Memory& memory, Declarations& keys) {
  keys.section("memory", "What the run may take of the machine.");
  keys.size("memory.limit", memory.limit, "Most memory of one rank's device.")
      .at_least(1)
      .automatic("what the device has, divided by the ranks that share it")
      .known_elsewhere_as({"max_memory", "memory_limit"});
}

void declare_ranks(CommonJob::Parallel& parallel, Declarations& keys) {
  keys.real(
          "parallel.timeout_seconds", parallel.timeout_seconds,
          "How long a rank waits for the others before it ends the run; longer than a rank may be "
          "busy alone, such as rank 0 with saving.")
      .above(0)
      .unit("seconds")
      .known_elsewhere_as({"nccl_timeout", "ddp_timeout", "distributed_timeout_minutes",
                           "comm_timeout", "init_timeout_seconds", "train_timeout_seconds"});
  keys.integer(
          "parallel.zero_stage", parallel.zero_stage,
          "What a rank keeps of its own part of the parameters alone: 0: nothing; 1: optimizer "
          "state; 2: gradients, too; 3: weights, too.")
      .at_least(0)
      .at_most(3)
      .known_elsewhere_as({"zero", "stage", "zero_optimization", "fsdp", "sharding_strategy",
                           "distributed_optimizer", "use_distributed_optimizer"});
  keys.boolean(
          "parallel.overlap", parallel.overlap,
          "Whether GPUs sum gradients while the backward goes on; from ZeRO stage 2 on the "
          "gradients of two blocks are then held at a time instead of one's. On a processor sums "
          "are not taken beside other work.")
      .known_elsewhere_as({"overlap_comm", "overlap_grad_reduce", "backward_prefetch"});
}

void declare_records(CommonJob& job, const std::string& beginning, Declarations& keys) {
  keys.section("checkpoint", "Saving and going on.");
  keys.integer("checkpoint.every", job.checkpoint.every,
               "Steps between checkpoints; 0: only at the end.")
      .at_least(0)
      .at_most(kMaxSteps)
      .unit("steps")
      .known_elsewhere_as({"save_every", "save_interval", "save_steps"});
  keys.integer("checkpoint.keep_last", job.checkpoint.keep_last,
               "Checkpoints that are kept, the newest; 0: all.")
      .at_least(0)
      .at_most(kMaxSteps)
      .known_elsewhere_as({"save_total_limit", "max_to_keep", "keep"});
  keys.path("checkpoint.resume", job.checkpoint.resume,
            "What a run without checkpoints of its own begins with; a path is a checkpoint's "
            "directory. One that has some goes on from the newest.",
            {{"auto", beginning}, {"never", "likewise; a run that has checkpoints is refused"}})
      .at_least(1)
      .known_elsewhere_as({"resume_from", "resume_from_checkpoint", "load"});
  keys.section("logging", "What a run shows.");
  keys.integer("logging.every", job.logging.every, "Steps between lines of progress.")
      .at_least(1)
      .at_most(kMaxSteps)
      .unit("steps")
      .known_elsewhere_as({"log_every", "log_interval", "logging_steps"});
  keys.boolean("logging.tensorboard", job.logging.tensorboard,
               "Whether TensorBoard event files are written into the run directory.");
  keys.real("logging.peak_tflops", job.logging.peak_tflops,
            "Peak of one rank's device, for model FLOPs utilisation.")
      .above(0)
      .unit("TFLOP/s")
      .automatic(
          "of a GPU, its data sheet's; of a processor, the rate of a large matrix "
          "multiplication, measured at the start");
}

void check_schedule(const CommonJob& job) {
  const CommonJob::Schedule& schedule = job.schedule;
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
  if (schedule.name == "constant" && schedule.min_ratio != CommonJob::Schedule{}.min_ratio) {
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

}  // namespace longspan::train
