#include "plan/packing.h"

#include <algorithm>
#include <functional>
#include <numeric>
#include <queue>
#include <utility>

namespace longspan::plan {
namespace {

/// Bins of one kind by load: the least loaded with room takes a sequence. `load` is what is to be
/// evened out.
template <typename Load>
std::optional<Packing> balance(const Problem& problem, int kind, const Load& load) {
  using Place = std::pair<double, std::size_t>;  // ties: the first bin
  const auto count = static_cast<std::size_t>(problem.costs().ranks / problem.kind(kind).degree);
  std::vector<Bin> bins(count, Bin::of(problem, kind));
  std::priority_queue<Place, std::vector<Place>, std::greater<>> least;
  for (std::size_t bin = 0; bin < count; ++bin) least.emplace(load(bins[bin]), bin);
  std::vector<Place> full;
  for (int item = 0; item < problem.size(); ++item) {
    while (!least.empty() && !bins[least.top().second].has_room(problem, item)) {
      full.push_back(least.top());
      least.pop();
    }
    if (least.empty()) return std::nullopt;
    const std::size_t chosen = least.top().second;
    least.pop();
    bins[chosen].add(problem, item);
    least.emplace(load(bins[chosen]), chosen);
    for (const Place& place : full) least.push(place);  // room for a shorter one, perhaps
    full.clear();
  }
  Packing packing{std::move(bins), 0};
  packing.seconds = slowest(packing.bins);
  return packing;
}

}  // namespace

Problem::Problem(const std::vector<std::int64_t>& lengths, std::vector<std::int32_t> sequences,
                 const CostModel& costs)
    : costs_(&costs), sequences_(std::move(sequences)) {
  tokens_.reserve(sequences_.size());
  for (const std::int32_t sequence : sequences_) {
    tokens_.push_back(lengths[static_cast<std::size_t>(sequence)]);
  }
  total_tokens_ = std::accumulate(tokens_.begin(), tokens_.end(), std::int64_t{0});
  for (const GroupKind& kind : costs.kinds) {
    std::vector<double>& seconds = seconds_.emplace_back();
    seconds.reserve(tokens_.size());
    for (const std::int64_t tokens : tokens_) seconds.push_back(kind.seconds(tokens));
  }
}

double slowest(const std::vector<Bin>& bins) {
  double seconds = 0;
  for (const Bin& bin : bins) {
    if (!bin.items.empty()) seconds = std::max(seconds, bin.seconds);
  }
  return seconds;
}

std::optional<Packing> pack_one_kind(const Problem& problem, int kind) {
  if (problem.size() > 0 && problem.tokens(0) > problem.kind(kind).max_tokens) return std::nullopt;
  auto packing = balance(problem, kind, [](const Bin& bin) { return bin.seconds; });
  if (packing) return packing;
  // Memory is tight: even tokens leave more room for the last ones than even times.
  packing = balance(problem, kind, [](const Bin& bin) { return static_cast<double>(bin.tokens); });
  if (packing) return packing;
  return balance(problem, kind, [](const Bin& bin) { return -static_cast<double>(bin.tokens); });
}

std::optional<Packing> pack_best_kind(const Problem& problem) {
  std::optional<Packing> best;
  for (int kind = 0; kind < problem.kinds(); ++kind) {
    auto packing = pack_one_kind(problem, kind);
    if (packing && (!best || packing->seconds < best->seconds)) best = std::move(packing);
  }
  return best;
}

MicroBatch place(const Problem& problem, const Packing& packing) {
  std::vector<const Bin*> bins;
  for (const Bin& bin : packing.bins) {
    if (!bin.items.empty()) bins.push_back(&bin);
  }
  // Powers of two, the largest first, are aligned one behind another.
  std::stable_sort(bins.begin(), bins.end(), [&](const Bin* left, const Bin* right) {
    return problem.kind(left->kind).degree > problem.kind(right->kind).degree;
  });
  MicroBatch micro_batch;
  int rank = 0;
  for (const Bin* bin : bins) {
    Group group{rank, problem.kind(bin->kind).degree, bin->kind, {}};
    for (const int item : bin->items) group.sequences.push_back(problem.sequence(item));
    rank += group.degree;
    micro_batch.groups.push_back(std::move(group));
  }
  micro_batch.seconds = problem.costs().micro_batch_seconds + packing.seconds;
  return micro_batch;
}

}  // namespace longspan::plan
