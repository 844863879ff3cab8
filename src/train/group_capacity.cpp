// How many tokens a group of ranks has room for.
#include <algorithm>
#include <cmath>
#include <vector>

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

/// What a number of tokens takes.
struct Taken {
  std::int64_t tokens = 0;
  double bytes = 0;
};

class Room {
 public:
  Room(const Job& job, const PlanSetting& setting, int degree)
      : job_(&job),
        setting_(&setting),
        degree_(degree),
        most_(
            std::min(job.training.tokens_per_step + job.training.micro_batch_tokens, kMostTokens)),
        limit_(static_cast<double>(limit_of(job, setting))),
        assumed_(assumed_states(job, setting)) {}

  std::int64_t tokens() const {
    const Taken least{1, step_bytes(0, 1, 1)};
    if (least.bytes > limit_) return 0;
    const std::int64_t fits = largest(least);
    // What a step has in all takes no spare room where it fits as it is.
    if (fits == most_ && all_fit(fits)) return fits;
    std::int64_t safe = std::max<std::int64_t>(1, fits - fits / kSpareParts);
    while (safe > 1 && !all_fit(safe)) {
      safe -= std::max<std::int64_t>(1, safe / kSpareParts);
    }
    return safe;
  }

 private:
  /// Of the first rank. Memory grows about evenly, so that two sizes tell where it ends: each guess
  /// lies on the line between the largest that fits and the least that does not, or beyond the two
  /// largest.
  std::int64_t largest(const Taken& least) const {
    Taken below = least;
    Taken fits = least;
    Taken over;  // tokens 0: not known
    std::int64_t guess = std::min(most_, kFirstTokens * degree_);
    while (guess > fits.tokens && (over.tokens == 0 || guess < over.tokens)) {
      const Taken tried{guess, std::max(least.bytes, pass_bytes(guess))};
      if (tried.bytes <= limit_) {
        below = fits;
        fits = tried;
        if (fits.tokens == most_) break;
      } else {
        over = tried;
      }
      guess = over.tokens > 0 ? between(fits, over) : beyond(below, fits);
    }
    return fits.tokens;
  }

  /// A little below where the line crosses the limit: more likely to fit; or `fits`, when what is
  /// left is less than is given up anyway.
  std::int64_t between(const Taken& fits, const Taken& over) const {
    const std::int64_t gap = over.tokens - fits.tokens;
    const std::int64_t unit = std::max<std::int64_t>(1, fits.tokens / (2 * kSpareParts));
    if (gap <= unit) return fits.tokens;
    const double part = (limit_ - fits.bytes) / (over.bytes - fits.bytes);
    const auto crossing = static_cast<std::int64_t>(part * static_cast<double>(gap));
    if (crossing <= unit / 2) return fits.tokens;
    return fits.tokens + std::clamp<std::int64_t>(crossing - unit / 4, 1, gap - 1);
  }

  std::int64_t beyond(const Taken& below, const Taken& fits) const {
    constexpr std::int64_t kMostGrowth = 8;
    const double slope =
        (fits.bytes - below.bytes) / static_cast<double>(fits.tokens - below.tokens);
    const auto at = static_cast<double>(fits.tokens);
    const double crossing = slope > 0 ? at + (limit_ - fits.bytes) / slope : HUGE_VAL;
    const auto guess =
        static_cast<std::int64_t>(std::min(crossing, static_cast<double>(kMostGrowth) * at));
    return std::min(most_, guess);
  }

  RankPass pass(const DryRank& dry, std::int64_t tokens, std::int64_t longest) const {
    return {full_row(tokens, std::min(longest, tokens)), dry.meshes.of_size(degree_)};
  }

  /// A pass of the first rank that is not its first: gradients are there.
  double pass_bytes(std::int64_t tokens) const {
    const Job job = with_groups(*job_, setting_->ranks, degree_, tokens);
    DryRank dry(job, *setting_, 0);
    dry.step.forward_backward({pass(dry, degree_, 1), pass(dry, tokens, longest())});
    return static_cast<double>(dry.needed(assumed_));
  }

  /// A step of two micro-batches, and a validation.
  double step_bytes(int rank, std::int64_t tokens, std::int64_t longest) const {
    const Job job = with_groups(*job_, setting_->ranks, degree_, tokens);
    DryRank dry(job, *setting_, rank);
    const RankPass one = pass(dry, tokens, longest);
    dry.step.forward_backward({one, one});
    dry.step.update(0, 0.0);
    dry.step.evaluate(one);
    return static_cast<double>(dry.needed(assumed_));
  }

  /// Every rank, in long documents and, as a GPU's libraries keep tables of documents, in short
  /// ones; and fewer tokens, too.
  bool all_fit(std::int64_t tokens) const {
    const Job job = with_groups(*job_, setting_->ranks, degree_, tokens);
    std::vector<AlikeRanks> kinds;
    {
      DryRank first(job, *setting_, 0);
      kinds = alike_ranks(job, first.layout, setting_->ranks, first.step.model());
    }
    for (const AlikeRanks& kind : kinds) {
      if (step_bytes(kind.rank, tokens, longest()) > limit_) return false;
    }
    if (setting_->device.kind != "cpu" && step_bytes(0, tokens, kShortDocument) > limit_) {
      return false;
    }
    for (const std::int64_t parts : {32, 8, 3}) {
      const std::int64_t fewer = std::max<std::int64_t>(1, tokens - tokens / parts);
      if (step_bytes(0, fewer, longest()) > limit_) return false;
    }
    return true;
  }

  std::int64_t longest() const { return job_->training.micro_batch_tokens; }

  /// Of a rank, at first: few enough to be quick, enough to outgrow what does not grow.
  static constexpr std::int64_t kFirstTokens = 4096;

  const Job* job_;
  const PlanSetting* setting_;
  int degree_;
  std::int64_t most_;
  double limit_;
  std::uint64_t assumed_;
};

}  // namespace

std::int64_t group_capacity(const Job& job, const PlanSetting& setting, int degree) {
  return Room(job, setting, degree).tokens();
}

}  // namespace longspan::train
