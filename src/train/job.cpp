#include "longspan/train/job.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstddef>

#include "longspan/base/declarations.h"
#include "train/adapter_keys.h"
#include "train/gradient_keys.h"
#include "train/key_limits.h"
#include "train/model_keys.h"
#include "train/optimizer_keys.h"

namespace longspan::train {
namespace {

using base::Declarations;

std::vector<base::Key::Word> profile_words() {
  return {{"auto", "this machine's device of the kind that `device` names"},
          {"cpu", "this machine's processor"},
          {"a100-80gb", "NVIDIA A100 80 GB"},
          {"h100-80gb", "NVIDIA H100 80 GB"},
          {"h200", "NVIDIA H200"}};
}

void declare_run(Job::Run& run, Declarations& keys) {
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

void declare_data(Job::Data& data, Declarations& keys) {
  keys.section("data", "Token files, made by `longspan tokenize`, and how they become rows.");
  keys.paths("data.train", data.train, "Token files to train on.")
      .required()
      .at_least(1)
      .known_elsewhere_as({"train_data", "train_files", "dataset", "data_path"});
  keys.reals(
          "data.weights", data.weights,
          "Shares of the rows that are drawn from each file of train, in its order, whatever the "
          "files' sizes; each goes through its documents in epochs of its own.")
      .above(0)
      .may_be_absent("all files are one corpus")
      .known_elsewhere_as({"blend", "mixture", "mix_weights", "data_weights", "probabilities"});
  keys.paths("data.validation", data.validation,
             "Token files to validate on; or give validation_fraction.")
      .known_elsewhere_as({"valid", "eval", "test", "validation_data"});
  keys.real("data.validation_fraction", data.validation_fraction,
            "Part of the training documents held out for validation, by a hash of seed and "
            "document.")
      .at_least(0)
      .below(1)
      .known_elsewhere_as({"val_split", "validation_split"});
  keys.path("data.tokenizer", data.tokenizer,
            "Tokenizer the token files must have been made with, put into checkpoints and used "
            "for bits per byte: a tokenizer.json, a sentencepiece .model file or a directory. "
            "Empty: none.",
            {{"bytes", "one id a byte"}})
      .known_elsewhere_as({"tokenizer_path", "tokenizer_file"});
  keys.choice("data.raw_type", data.raw_type,
              {{"uint16", "2 bytes, as nanoGPT writes them"}, {"uint32", "4 bytes"}},
              "What a token is in a .bin file that holds nothing but tokens.")
      .may_be_absent("such files are refused")
      .known_elsewhere_as({"token_dtype", "data_dtype"});
  keys.integer("data.document_end", data.document_end,
               "Token that ends each document in files that have no list of documents: llm.c's and "
               "those of tokens alone, such as 50256 of GPT-2; -1: each of them is one document.")
      .at_least(-1)
      .at_most(kMaxInt32)
      .known_elsewhere_as({"eot_token", "eod_token", "end_of_text"});
  keys.choice(
      "data.packing", data.packing,
      {{"packed", "whole documents share a row (longer ones are split), without attention across"},
       {"streamed", "all documents as one stream cut into rows, attention across them"}},
      "How documents fill the rows of micro_batch_tokens.");
  keys.boolean("data.shuffle", data.shuffle,
               "Whether each epoch has an order of its own; false: the order of the files.");
}

void declare_schedule(Job::Schedule& schedule, Declarations& keys) {
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

void declare_training(Job::Training& training, Declarations& keys) {
  keys.section("training", "How long, in what portions, how precisely.");
  keys.integer("training.steps", training.steps, "Steps of the optimizer in all.")
      .required()
      .at_least(1)
      .at_most(kMaxSteps)
      .unit("steps")
      .known_elsewhere_as({"max_steps", "num_steps", "train_iters", "max_iters", "iterations"});
  keys.integer("training.tokens_per_step", training.tokens_per_step,
               "Tokens of one step over all ranks: a multiple of micro_batch_tokens.")
      .required()
      .at_least(1)
      .at_most(kMaxTokens)
      .unit("tokens")
      .known_elsewhere_as({"batch_size", "global_batch_size", "train_batch_size", "batch_tokens"});
  keys.integer("training.micro_batch_tokens", training.micro_batch_tokens,
               "Tokens of one row, which a rank runs forward and backward at once.")
      .required()
      .at_least(1)
      .at_most(kMaxInt32)
      .unit("tokens")
      .known_elsewhere_as({"micro_batch_size", "seq_len", "seq_length", "sequence_length",
                           "context_length", "block_size"});
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
  keys.integer("training.validation_tokens", training.validation_tokens,
               "Rows of a validation are read until they have so many tokens; 0: all there are.")
      .at_least(0)
      .at_most(kMaxTokens)
      .unit("tokens")
      .known_elsewhere_as({"eval_tokens", "eval_iters"});
  keys.integer("training.max_skipped_steps", training.max_skipped_steps,
               "Steps whose gradients are not finite are skipped; the run stops after "
               "this many in a row.")
      .at_least(1)
      .at_most(kMaxSteps)
      .unit("steps");
}

std::vector<base::Key::Word> checkpointing_words() {
  std::vector<base::Key::Word> words;
  for (const model::CheckpointingWords& level : model::checkpointing_levels()) {
    words.push_back({level.name, level.keeps});
  }
  words.push_back(
      {"auto", "of these what suits each group of ranks, where parallel.planner plans steps"});
  return words;
}

/// Names under which other programs, and this one before, have what waits on the host.
std::vector<std::string> other_names_of(model::Slot slot) {
  if (slot != model::Slot::kBlockInput) return {};
  return {"checkpoint_offload", "cpu_checkpointing", "activation_offloading",
          "offload_activations"};
}

void declare_saved_inputs(Job::Memory& memory, Declarations& keys) {
  keys.section("memory.saved_inputs",
               "How what a block keeps (memory.activation_checkpointing) waits for its backward.");
  for (const model::SlotWords& slot : model::saved_slots()) {
    std::vector<base::Key::Word> words;
    for (const model::SavePolicyWords& policy : model::save_policies(slot.slot)) {
      words.push_back({policy.name, policy.meaning});
    }
    keys.phrase(fmt::format("memory.saved_inputs.{}", slot.name), memory.saved_inputs[slot.slot],
                std::move(words),
                "parts of the tokens such as \"0.6 host | full\", or either by layers such as "
                "\"0-15: int8, 16-31: 0.6 host | full\"",
                fmt::format("How {} waits.", slot.holds))
        .known_elsewhere_as(other_names_of(slot.slot));
  }
  keys.choice("memory.saved_inputs.rounding", memory.saved_rounding,
              {{"nearest", "to the nearer step"},
               {"stochastic",
                "to one of the two around it at random, so that each number is right in the mean; "
                "the same at every layout of ranks"}},
              "How 8-bit codes are rounded.");
  keys.choice("memory.saved_inputs.policy", memory.saved_policy,
              {{"by_slot", "the keys above"},
               {"auto",
                "as many tokens as a layer's forward hides the copies of, and as there is host "
                "memory for, wait on the host, all but the last two layers'; of others what can be "
                "is made again"}},
              "What says how all of it waits.");
  keys.size("memory.saved_inputs.host_limit", memory.saved_host_limit,
            "Most host memory of one rank that \"auto\" may fill.")
      .at_least(1)
      .automatic(
          "nine tenths of the machine's, divided by its ranks, less what optimizer.offload takes");
}

void declare_machine(Job& job, Declarations& keys) {
  keys.section("memory", "What the run may take of the machine.");
  keys.size("memory.limit", job.memory.limit, "Most memory of one rank's device.")
      .at_least(1)
      .automatic("what the device has, divided by the ranks that share it")
      .known_elsewhere_as({"max_memory", "memory_limit"});
  keys.phrase("memory.activation_checkpointing", job.memory.activation_checkpointing,
              checkpointing_words(),
              "levels by layers such as \"0-15: block, 16-31: block_keep_attention\"",
              "What a block keeps for its backward.")
      .known_elsewhere_as({"gradient_checkpointing", "recompute", "recompute_granularity",
                           "activation_recomputation", "checkpoint_activations"});
  declare_saved_inputs(job.memory, keys);
  keys.section("memory.mini_sequence",
               "In what ranges of tokens token-wise work runs, one after another.");
  keys.phrase(
          "memory.mini_sequence.mlp", job.memory.mini_sequence_mlp,
          {{"auto", "64 MiB where the block is checkpointed, whole elsewhere"}, {"none", "whole"}},
          "a budget such as \"64MiB\", or the number of ranges",
          "Ranges of the MLP. A range keeps nothing: the backward computes it again.")
      .or_count()
      .known_elsewhere_as({"mlp_chunks", "tiled_mlp"});
  keys.phrase("memory.mini_sequence.lm_head", job.memory.mini_sequence_lm_head,
              {{"auto", "256 MiB, and at least 512 tokens"}},
              "a budget such as \"64MiB\", or the number of ranges",
              "Ranges of head and loss; nothing is computed twice.")
      .or_count()
      .known_elsewhere_as({"loss_chunks", "logits_chunk_size", "fused_linear_cross_entropy"});
}

void declare_parallel(Job& job, Declarations& keys) {
  keys.section("parallel", "How the work is divided among ranks.");
  keys.integer("parallel.data", job.parallel.data,
               "Groups of ranks that take the rows of a step in turn.")
      .at_least(1)
      .at_most(kMaxInt32)
      .automatic("the ranks launched, divided by those that share a row")
      .known_elsewhere_as({"dp", "dp_size", "data_parallel", "data_parallel_size"});
  keys.phrase("parallel.sequence", job.parallel.sequence,
              {{"auto", "no more than needed for every group to have a row"}},
              "a number, or Ulysses and ring ranks such as \"8x2\"",
              "Ranks that share the tokens of a row. A number is Ulysses ranks as far as there are "
              "heads, in rings beyond.")
      .or_count()
      .known_elsewhere_as({"sp", "sp_size", "sequence_parallel", "sequence_parallel_size",
                           "context_parallel", "context_parallel_size", "cp", "ulysses",
                           "ulysses_sequence_parallel_size"});
  keys.real(
          "parallel.timeout_seconds", job.parallel.timeout_seconds,
          "How long a rank waits for the others before it ends the run; longer than a rank may be "
          "busy alone, such as rank 0 with saving.")
      .above(0)
      .unit("seconds")
      .known_elsewhere_as({"nccl_timeout", "ddp_timeout", "distributed_timeout_minutes",
                           "comm_timeout", "init_timeout_seconds", "train_timeout_seconds"});
  keys.integer(
          "parallel.zero_stage", job.parallel.zero_stage,
          "What a rank keeps of its own part of the parameters alone: 0: nothing; 1: optimizer "
          "state; 2: gradients, too; 3: weights, too.")
      .at_least(0)
      .at_most(3)
      .known_elsewhere_as({"zero", "stage", "zero_optimization", "fsdp", "sharding_strategy",
                           "distributed_optimizer", "use_distributed_optimizer"});
  keys.boolean(
          "parallel.overlap", job.parallel.overlap,
          "Whether GPUs sum gradients while the backward goes on; from ZeRO stage 2 on the "
          "gradients of two blocks are then held at a time instead of one's. On a processor sums "
          "are not taken beside other work.")
      .known_elsewhere_as({"overlap_comm", "overlap_grad_reduce", "backward_prefetch"});
}

void declare_planner(Job& job, Declarations& keys) {
  keys.choice(
          "parallel.planner", job.parallel.planner,
          {{"fixed", "rows of micro_batch_tokens, in groups that are alike in every step"},
           {"per_micro_batch",
            "documents sorted by length into micro-batches, each of which runs in groups of the "
            "one size that suits it best"},
           {"flexible",
            "likewise, with groups of different sizes side by side, each for the documents "
            "that suit it"}},
          "Who runs what in a step. The latter two plan each step for its documents' lengths, "
          "while the one before it runs; groups are of 1, 2, 4, ... ranks.")
      .known_elsewhere_as({"hybrid_context_parallel", "dynamic_context_parallel"});
  keys.path("parallel.costs", job.parallel.costs,
            "What a planner takes groups of ranks to cost: a file such as `longspan bench "
            "profile-cost` "
            "writes.",
            {{"auto", "what the dry backend says of the device (see run.device_profile)"}})
      .at_least(1);
}

void declare_records(Job& job, Declarations& keys) {
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
            {{"auto", "new weights, or those of model.from"},
             {"never", "likewise; a run that has checkpoints is refused"}})
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

std::string describe(std::string (Declarations::*text)() const) {
  Job job;
  Declarations declarations("Longspan job file",
                            "What to train, on what, how, and where to write it.");
  declare(job, declarations);
  return (declarations.*text)();
}

}  // namespace

void declare(Job& job, Declarations& declarations) {
  declare_run(job.run, declarations);
  declare_model(job.model_from, job.model, declarations);
  declare_adapter(job.adapter, declarations);
  declare_velora(job.velora, declarations);
  declare_sampling(job.column_row_sampling, declarations);
  declare_data(job.data, declarations);
  declare_optimizer(job.optimizer, declarations);
  declare_schedule(job.schedule, declarations);
  declare_training(job.training, declarations);
  declare_machine(job, declarations);
  declare_parallel(job, declarations);
  declare_planner(job, declarations);
  declare_records(job, declarations);
}

model::MemoryPolicy memory_policy(const Job& job) {
  // Where groups choose, what is not a group's is as little as can be.
  const std::string& level = job.memory.activation_checkpointing;
  return memory_policy(job, job.memory.chooses_checkpointing() ? "block" : level);
}

model::MemoryPolicy memory_policy(const Job& job, const std::string& level) {
  auto policy = model::MemoryPolicy::parse(level, job.memory.mini_sequence_mlp,
                                           job.memory.mini_sequence_lm_head,
                                           job.model.num_hidden_layers, "memory");
  policy.set_slots(job.memory.saved_inputs, "memory.saved_inputs",
                   /*may_be_absent=*/job.memory.chooses_checkpointing(),
                   job.memory.saved_rounding == "stochastic" ? nn::SavePolicy::Rounding::kStochastic
                                                             : nn::SavePolicy::Rounding::kNearest);
  return policy;
}

namespace {

bool has_word(const model::SlotTexts& texts, const char* word) {
  return std::any_of(texts.values.begin(), texts.values.end(), [word](const std::string& text) {
    return text.find(word) != std::string::npos;
  });
}

}  // namespace

bool Job::Memory::offloads_saved_inputs() const { return has_word(saved_inputs, "host"); }
bool Job::Memory::codes_saved_inputs() const { return has_word(saved_inputs, "int8"); }
bool Job::Memory::recomputes_attention() const {
  return saved_inputs[model::Slot::kAttentionQkv].find("recompute") != std::string::npos;
}

std::string to_json(const Job& job) {
  Job copy = job;
  if (copy.memory.slots_are_chosen) copy.memory.saved_inputs = model::SlotTexts::all("full");
  Declarations declarations("Longspan job file", "");
  declare(copy, declarations);
  return declarations.to_json();
}

std::string job_schema() { return describe(&Declarations::schema); }
std::string job_help() { return describe(&Declarations::help); }
std::string job_markdown() { return describe(&Declarations::markdown); }

}  // namespace longspan::train
