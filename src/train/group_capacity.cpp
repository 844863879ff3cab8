// How many tokens a group of ranks has room for.
#include <algorithm>

#include "longspan/train/cost_model.h"
#include "train/dry_step.h"
#include "train/group_pass.h"

namespace longspan::train {
namespace {

/// A plan holds its tokens on the host.
constexpr std::int64_t kMostTokens = std::int64_t{1} << 27U;
/// Parts of the room that are given up for what does not grow evenly.
constexpr std::int64_t kSpareParts = 128;
/// A GPU's libraries keep tables of documents, little beside these tokens of each.
constexpr std::int64_t kShortDocument = 16;

class Room {
 public:
  Room(const Job& job, const PlanSetting& setting, int degree)
      : job_(&job),
        setting_(&setting),
        degree_(degree),
        most_(
            std::min(job.training.tokens_per_step + job.training.micro_batch_tokens, kMostTokens)),
        limit_(limit_of(job, setting)),
        assumed_(assumed_states(job, setting)) {}

  std::int64_t tokens() const {
    if (!fits(1)) return 0;
    if (all_fit(most_)) return most_;
    auto [fitting, too_many] = bracket(std::min(guess(), most_));
    while (too_many - fitting > std::max<std::int64_t>(1, fitting / (2 * kSpareParts))) {
      const std::int64_t middle = fitting + (too_many - fitting) / 2;
      (fits(middle) ? fitting : too_many) = middle;
    }
    std::int64_t safe = fitting - fitting / kSpareParts;
    while (safe > 1 && !all_fit(safe)) safe -= std::max<std::int64_t>(1, safe / kSpareParts);
    return all_fit(safe) ? safe : 0;
  }

 private:
  struct Bracket {
    std::int64_t fitting;
    std::int64_t too_many;  ///< or one more than the most that is looked at
  };

  /// A step of one rank with such rows. Two micro-batches, as the second begins while gradients of
  /// the first may still be on their way.
  std::uint64_t needed(int rank, std::int64_t tokens, std::int64_t longest) const {
    const Job job = with_groups(*job_, setting_->ranks, degree_, tokens);
    DryRank dry(job, *setting_, rank);
    const RankPass pass{full_row(tokens, std::min(longest, tokens)), dry.meshes.of_size(degree_)};
    dry.step.forward_backward({pass, pass});
    dry.step.update(0, 0.0);
    dry.step.evaluate(pass);
    return dry.needed(assumed_);
  }

  std::int64_t longest() const { return job_->training.micro_batch_tokens; }
  bool fits(std::int64_t tokens) const { return needed(0, tokens, longest()) <= limit_; }

  /// Where the limit would be if memory grew evenly.
  std::int64_t guess() const {
    const std::int64_t few = std::int64_t{1024} * degree_;
    const auto less = static_cast<double>(needed(0, few, longest()));
    const auto more = static_cast<double>(needed(0, 2 * few, longest()));
    const double left = static_cast<double>(limit_) - less;
    if (more <= less || left <= 0) return 1;
    const double tokens = static_cast<double>(few) * (1 + left / (more - less));
    return static_cast<std::int64_t>(std::clamp(tokens, 1.0, static_cast<double>(most_)));
  }

  /// Steps away from the guess, longer each time.
  Bracket bracket(std::int64_t guess) const {
    std::int64_t step = guess / 32 + 1;
    Bracket bracket{guess, guess};
    if (fits(guess)) {
      while (bracket.fitting == bracket.too_many && bracket.fitting < most_) {
        bracket.too_many = std::min(bracket.fitting + step, most_);
        if (fits(bracket.too_many)) bracket.fitting = bracket.too_many;
        step *= 2;
      }
      if (bracket.fitting == most_) bracket.too_many = most_ + 1;
      return bracket;
    }
    while (bracket.fitting == bracket.too_many) {
      bracket.fitting = std::max<std::int64_t>(1, bracket.too_many - step);  // 1 fits
      if (bracket.fitting > 1 && !fits(bracket.fitting)) bracket.too_many = bracket.fitting;
      step *= 2;
    }
    return bracket;
  }

  /// Every rank, in long documents and, on a GPU, in short ones; and fewer tokens, too.
  bool all_fit(std::int64_t tokens) const {
    const Job job = with_groups(*job_, setting_->ranks, degree_, tokens);
    std::vector<AlikeRanks> kinds;
    {
      DryRank first(job, *setting_, 0);
      kinds = alike_ranks(job, first.layout, setting_->ranks, first.step.model().parameters());
    }
    for (const AlikeRanks& kind : kinds) {
      if (needed(kind.rank, tokens, longest()) > limit_) return false;
    }
    if (setting_->device.kind != "cpu" && needed(0, tokens, kShortDocument) > limit_) return false;
    for (const std::int64_t parts : {32, 8, 3}) {
      if (!fits(std::max<std::int64_t>(1, tokens - tokens / parts))) return false;
    }
    return true;
  }

  const Job* job_;
  const PlanSetting* setting_;
  int degree_;
  std::int64_t most_;  ///< that a step has, or that are looked at
  std::uint64_t limit_;
  std::uint64_t assumed_;
};

}  // namespace

std::int64_t group_capacity(const Job& job, const PlanSetting& setting, int degree) {
  return Room(job, setting, degree).tokens();
}

}  // namespace longspan::train
