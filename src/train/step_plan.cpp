#include "train/step_plan.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <limits>
#include <numeric>
#include <utility>

#include "longspan/base/error.h"

namespace longspan::train {
namespace {

/// Sequences one after another.
std::shared_ptr<const data::MicroBatch> packed(const std::vector<std::int32_t>& sequences,
                                               const ReadSequence& read) {
  if (sequences.size() == 1) return read(static_cast<std::size_t>(sequences.front()));
  auto all = std::make_shared<data::MicroBatch>(*empty_micro_batch());
  const auto append = [](auto& to, const auto& from) {
    to.insert(to.end(), from.begin(), from.end());
  };
  for (const std::int32_t sequence : sequences) {
    const auto one = read(static_cast<std::size_t>(sequence));
    const auto before = static_cast<std::int32_t>(all->tokens.size());
    append(all->tokens, one->tokens);
    append(all->labels, one->labels);
    append(all->positions, one->positions);
    append(all->numbers, one->numbers);
    std::transform(one->cu_seqlens.begin() + 1, one->cu_seqlens.end(),
                   std::back_inserter(all->cu_seqlens),
                   [before](std::int32_t end) { return before + end; });
    all->targets += one->targets;
  }
  return all;
}

std::shared_ptr<const model::MemoryPolicy> policy_of(const plan::Group& group,
                                                     const KindPolicies& policies) {
  if (policies.empty()) return nullptr;
  const auto kind = static_cast<std::size_t>(group.kind);
  if (group.kind < 0 || kind >= policies.size()) {
    throw base::InternalError(
        fmt::format("a group is of kind {}, but {} kinds are known", group.kind, policies.size()));
  }
  return policies[kind];
}

}  // namespace

KindPolicies policies_of(const Job& job, const std::vector<std::string>& levels) {
  KindPolicies policies;
  for (const std::string& level : levels) {
    if (level.empty()) {
      policies.push_back(nullptr);
      continue;
    }
    policies.push_back(std::make_shared<const model::MemoryPolicy>(memory_policy(job, level)));
  }
  return policies;
}

std::shared_ptr<const data::MicroBatch> empty_micro_batch() {
  auto batch = std::make_shared<data::MicroBatch>();
  batch->cu_seqlens = {0};
  return batch;
}

plan::StepPlan fixed_plan(std::int64_t rows, int ranks, int degree) {
  const std::int64_t groups = ranks / degree;
  plan::StepPlan plan;
  for (std::int64_t row = 0; row < rows; ++row) {
    if (row % groups == 0) plan.micro_batches.emplace_back();
    plan::Group group;
    group.first_rank = static_cast<int>(row % groups) * degree;
    group.degree = degree;
    group.sequences = {static_cast<std::int32_t>(row)};
    plan.micro_batches.back().groups.push_back(std::move(group));
  }
  return plan;
}

plan::StepPlan plan_of_all_sizes(const std::vector<std::int64_t>& lengths, int ranks) {
  const std::vector<int> sizes = shard::aligned_sizes(ranks);
  plan::StepPlan plan;
  plan.micro_batches.resize(sizes.size() > 1 ? 2 : 1);
  const auto add_group = [](plan::MicroBatch& micro_batch, int first_rank, int degree) {
    micro_batch.groups.emplace_back();
    micro_batch.groups.back().first_rank = first_rank;
    micro_batch.groups.back().degree = degree;
  };
  for (int first = 0; first < ranks; first += sizes.back()) {
    add_group(plan.micro_batches.front(), first, sizes.back());
  }
  // Halves, quarters, ...: each begins where the larger ones before it end.
  int first = 0;
  for (std::size_t size = sizes.size() - 1; size-- > 0; first += sizes[size]) {
    add_group(plan.micro_batches.back(), first, sizes[size]);
  }
  std::vector<std::int32_t> order(lengths.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](std::int32_t a, std::int32_t b) {
    return lengths[static_cast<std::size_t>(a)] > lengths[static_cast<std::size_t>(b)];
  });
  std::vector<plan::Group*> groups;
  for (plan::MicroBatch& micro_batch : plan.micro_batches) {
    for (plan::Group& group : micro_batch.groups) groups.push_back(&group);
  }
  for (std::size_t at = 0; at < order.size(); ++at) {
    groups[at % groups.size()]->sequences.push_back(order[at]);
  }
  for (plan::MicroBatch& micro_batch : plan.micro_batches) {
    std::erase_if(micro_batch.groups, [](const auto& group) { return group.sequences.empty(); });
  }
  std::erase_if(plan.micro_batches, [](const auto& one) { return one.groups.empty(); });
  return plan;
}

RankPass pass_of(const plan::MicroBatch& micro_batch, const shard::Meshes& meshes,
                 const ReadSequence& read, const KindPolicies& policies) {
  const int rank = meshes.world().rank();
  for (const plan::Group& group : micro_batch.groups) {
    if (rank < group.first_rank || rank >= group.first_rank + group.degree) continue;
    return {packed(group.sequences, read), meshes.of_size(group.degree),
            policy_of(group, policies)};
  }
  return {empty_micro_batch(), nullptr};
}

ReadSequence numbered(ReadSequence read, const std::vector<std::int64_t>& lengths) {
  std::vector<std::int64_t> begins{0};
  for (const std::int64_t length : lengths) begins.push_back(begins.back() + length);
  if (begins.back() > std::numeric_limits<std::int32_t>::max()) {
    throw base::InputError(
        fmt::format("a step has {} tokens, more than can be numbered for adapter.dropout and "
                    "memory.saved_inputs.rounding \"stochastic\"; lower training.tokens_per_step",
                    begins.back()));
  }
  return [read = std::move(read), begins = std::move(begins)](std::size_t sequence) {
    auto batch = std::make_shared<data::MicroBatch>(*read(sequence));
    batch->numbers.resize(batch->tokens.size());
    std::iota(batch->numbers.begin(), batch->numbers.end(),
              static_cast<std::int32_t>(begins.at(sequence)));
    return std::shared_ptr<const data::MicroBatch>(std::move(batch));
  };
}

std::vector<RankPass> passes_of(const plan::StepPlan& plan, const shard::Meshes& meshes,
                                const ReadSequence& read, const KindPolicies& policies) {
  std::vector<RankPass> passes;
  for (const plan::MicroBatch& micro_batch : plan.micro_batches) {
    passes.push_back(pass_of(micro_batch, meshes, read, policies));
  }
  return passes;
}

}  // namespace longspan::train
