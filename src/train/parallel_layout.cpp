#include "train/parallel_layout.h"

#include <fmt/format.h>

#include <charconv>
#include <optional>

#include "longspan/base/error.h"
#include "longspan/shard/mesh.h"

namespace longspan::train {
namespace {

using base::InputError;
using shard::SequenceDegrees;

/// A whole number of at least 1 at the beginning of `text`, which it is taken off.
std::optional<int> take_number(std::string_view& text) {
  int number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || number < 1 || number > kMostSequenceRanks) return std::nullopt;
  text.remove_prefix(static_cast<std::size_t>(end - text.data()));
  return number;
}

/// What parallel.sequence says: nothing ("auto"), a degree, or both factors.
struct Wish {
  std::optional<int> degree;
  std::optional<SequenceDegrees> factors;
};

Wish wish_of(const Job& job) {
  Wish wish;
  std::string_view text = job.parallel.sequence;
  if (text == "auto") return wish;
  wish.degree = take_number(text);
  if (wish.degree && text.starts_with('x')) {
    text.remove_prefix(1);
    const auto ring = take_number(text);
    wish.factors = SequenceDegrees{*wish.degree, ring.value_or(1)};
    wish.degree = ring ? std::optional(wish.factors->ranks()) : std::nullopt;
  }
  if (!wish.degree || !text.empty()) {
    throw InputError(fmt::format(
        "parallel.sequence is \"{}\"; legal: \"auto\", a number of ranks such as 4, or the Ulysses "
        "and ring ranks whose product it is such as \"8x2\"; at most {} each",
        job.parallel.sequence, kMostSequenceRanks));
  }
  return wish;
}

/// As many Ulysses ranks as there are heads for, and a ring of them.
SequenceDegrees factors_of(int degree, std::int64_t heads) {
  int ulysses = degree;
  while (degree % ulysses != 0 || ulysses > heads) --ulysses;
  return {ulysses, degree / ulysses};
}

/// What is made again of a block's input is a rank's tokens, not all tokens of its heads.
void check_recomputation(const Job& job, const SequenceDegrees& sequence) {
  if (sequence.ulysses == 1 || !job.memory.recomputes_attention()) return;
  const model::MemoryPolicy policy = memory_policy(job);
  for (std::int64_t layer = 0; layer < job.model.num_hidden_layers; ++layer) {
    if (!policy.slots(layer)[model::Slot::kAttentionQkv].recomputes()) continue;
    throw InputError(fmt::format(
        "memory.saved_inputs.attention_qkv is \"{}\", but {} Ulysses ranks exchange heads, and "
        "what they have then is not made again without another exchange; legal without "
        "\"recompute\", or with a ring alone, such as parallel.sequence \"1x{}\"",
        job.memory.saved_inputs[model::Slot::kAttentionQkv], sequence.ulysses, sequence.ranks()));
  }
}

}  // namespace

std::vector<SequenceDegrees> aligned_degrees(const Job& job, int ranks) {
  std::vector<SequenceDegrees> degrees;
  for (const int size : shard::aligned_sizes(ranks)) {
    degrees.push_back(factors_of(size, job.model.num_attention_heads));
  }
  return degrees;
}

std::string layout_text(const Job& job, const ParallelLayout& layout) {
  if (job.parallel.plans_steps()) {
    return fmt::format(
        "groups of 1 to {} rank(s) as each step's documents want them ({}), ZeRO "
        "stage {}",
        layout.sequence.ranks(), job.parallel.planner, job.parallel.zero_stage);
  }
  return fmt::format("{} data group(s) of {} Ulysses x {} ring rank(s), ZeRO stage {}", layout.data,
                     layout.sequence.ulysses, layout.sequence.ring, job.parallel.zero_stage);
}

std::vector<std::int64_t> place_traits(const Job& job, const SequenceDegrees& degrees, int place) {
  const shard::TokenLayout tokens(job.training.micro_batch_tokens, degrees);
  const auto heads = shard::Cover::even(job.model.num_attention_heads, degrees.ulysses);
  const auto kv_heads = shard::Cover::of_kv_heads(heads, job.model.num_key_value_heads);
  const int part = place / degrees.ulysses;
  const int share = place % degrees.ulysses;
  // Around a ring every part passes by, but a place does not send on what its next one owns.
  return {tokens.size(place), heads.size(share), kv_heads.size(share), tokens.parts().size(part),
          tokens.parts().size((part + 1) % degrees.ring)};
}

void check_sequence(const Job& job) { wish_of(job); }

int fewest_ranks(std::int64_t rows, int ranks) {
  int degree = 1;
  while (ranks % degree != 0 || ranks / degree > rows) ++degree;
  return degree;
}

ParallelLayout parallel_layout(const Job& job, int ranks) {
  const Wish wish = wish_of(job);
  if (job.parallel.plans_steps()) {
    const SequenceDegrees largest = aligned_degrees(job, ranks).back();
    check_recomputation(job, largest);
    return {largest, ranks / largest.ranks()};
  }
  const std::int64_t rows = ParallelLayout::rows(job);
  const std::int64_t data = job.parallel.data;
  if (data > 0 && (ranks % data != 0 || (wish.degree && data * *wish.degree != ranks))) {
    throw InputError(fmt::format(
        "parallel.data is {} and parallel.sequence \"{}\", but {} rank(s) were launched; launch "
        "{}{}",
        data, job.parallel.sequence, ranks, wish.degree ? "" : "a multiple of ",
        data * wish.degree.value_or(1)));
  }
  if (wish.degree && ranks % *wish.degree != 0) {
    throw InputError(
        fmt::format("parallel.sequence is \"{}\", but {} rank(s) were launched; launch a multiple "
                    "of {}",
                    job.parallel.sequence, ranks, *wish.degree));
  }
  const int degree = wish.degree ? *wish.degree
                     : data > 0  ? static_cast<int>(ranks / data)
                                 : fewest_ranks(rows, ranks);
  ParallelLayout layout;
  layout.sequence =
      wish.factors ? *wish.factors : factors_of(degree, job.model.num_attention_heads);
  layout.data = ranks / degree;
  if (rows < layout.data) {
    throw InputError(fmt::format(
        "training.tokens_per_step / training.micro_batch_tokens gives {} row(s) a step for {} "
        "groups of {} rank(s); raise the first, lower the second, or raise parallel.sequence, so "
        "that more ranks share a row",
        rows, layout.data, degree));
  }
  check_recomputation(job, layout.sequence);
  return layout;
}

}  // namespace longspan::train
