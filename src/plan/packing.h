#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "longspan/plan/cost_model.h"
#include "longspan/plan/step_plan.h"

// One micro-batch: sequences that are packed into groups.
namespace longspan::plan {

/// The sequences of one micro-batch, longest first, and what each takes in each kind of group.
class Problem {
 public:
  /// `sequences` are numbers of `lengths`, longest first; both and `costs` must outlive this.
  Problem(const std::vector<std::int64_t>& lengths, std::vector<std::int32_t> sequences,
          const CostModel& costs);

  const CostModel& costs() const { return *costs_; }
  int size() const { return static_cast<int>(sequences_.size()); }
  int kinds() const { return static_cast<int>(costs_->kinds.size()); }
  const GroupKind& kind(int kind) const { return costs_->kinds[static_cast<std::size_t>(kind)]; }
  /// Of the item-th longest sequence: its number in the batch, its tokens, and its time.
  std::int32_t sequence(int item) const { return sequences_[static_cast<std::size_t>(item)]; }
  std::int64_t tokens(int item) const { return tokens_[static_cast<std::size_t>(item)]; }
  double seconds(int kind, int item) const {
    return seconds_[static_cast<std::size_t>(kind)][static_cast<std::size_t>(item)];
  }
  /// Of all sequences.
  std::int64_t total_tokens() const { return total_tokens_; }

 private:
  const CostModel* costs_;
  std::vector<std::int32_t> sequences_;
  std::vector<std::int64_t> tokens_;
  std::vector<std::vector<double>> seconds_;  // of a kind, of an item
  std::int64_t total_tokens_ = 0;
};

/// A group and what it has been given.
struct Bin {
  int kind = 0;
  std::int64_t tokens = 0;
  double seconds = 0;  ///< the fixed ones included
  std::vector<int> items;

  static Bin of(const Problem& problem, int kind) {
    return {kind, 0, problem.kind(kind).fixed_seconds, {}};
  }
  bool has_room(const Problem& problem, int item) const {
    return tokens + problem.tokens(item) <= problem.kind(kind).max_tokens;
  }
  void add(const Problem& problem, int item) {
    tokens += problem.tokens(item);
    seconds += problem.seconds(kind, item);
    items.push_back(item);
  }
};

/// All sequences of a problem in groups that fit beside one another.
struct Packing {
  std::vector<Bin> bins;
  double seconds = 0;  ///< the slowest bin's
};

/// The time of the slowest bin.
double slowest(const std::vector<Bin>& bins);

/// All sequences in groups of one kind, the load as even as "longest first, to the least loaded"
/// makes it. Nothing: no such packing was found.
std::optional<Packing> pack_one_kind(const Problem& problem, int kind);
/// The fastest of those, for any kind.
std::optional<Packing> pack_best_kind(const Problem& problem);

/// A micro-batch of the packing: bins that hold something, on aligned ranks, the largest first.
MicroBatch place(const Problem& problem, const Packing& packing);

}  // namespace longspan::plan
