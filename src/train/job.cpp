#include "longspan/train/job.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstddef>

#include "longspan/base/declarations.h"
#include "train/adapter_keys.h"
#include "train/common_keys.h"
#include "train/gradient_keys.h"
#include "train/key_limits.h"
#include "train/model_keys.h"
#include "train/optimizer_keys.h"

namespace longspan::train {
namespace {

using base::Declarations;

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

void declare_training(Job::Training& training, Declarations& keys) {
  declare_steps(training, keys);
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
  declare_precision(training, keys);
  keys.integer("training.validation_tokens", training.validation_tokens,
               "Rows of a validation are read until they have so many tokens; 0: all there are.")
      .at_least(0)
      .at_most(kMaxTokens)
      .unit("tokens")
      .known_elsewhere_as({"eval_tokens", "eval_iters"});
  declare_skips(training, keys);
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
  declare_memory_limit(job.memory, keys);
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
  declare_ranks(job.parallel, keys);
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
  declare_records(job, "new weights, or those of model.from", declarations);
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

bool CommonJob::Memory::offloads_saved_inputs() const { return has_word(saved_inputs, "host"); }
bool CommonJob::Memory::codes_saved_inputs() const { return has_word(saved_inputs, "int8"); }
bool CommonJob::Memory::recomputes_attention() const {
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
