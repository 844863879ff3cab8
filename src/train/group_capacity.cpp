// How many tokens a group of ranks has room for.
#include <algorithm>

#include "longspan/base/error.h"
#include "longspan/train/cost_model.h"
#include "train/dry_step.h"
#include "train/group_pass.h"

namespace longspan::train {
namespace {

/// A plan holds its tokens on the host; nothing longer is of use.
constexpr std::int64_t kMostTokens = std::int64_t{1} << 27U;
/// Parts of the room that are given up for what does not grow evenly.
constexpr std::int64_t kSpareParts = 128;

class Room {
 public:
  Room(const Job& job, const PlanSetting& setting, int degree)
      : job_(&job),
        setting_(&setting),
        degree_(degree),
        limit_(limit_of(job, setting)),
        assumed_(assumed_states(job, setting)) {}

  std::int64_t tokens() const {
    if (!rank_fits(0, 1, 1)) return 0;
    std::int64_t fits = 1;
    std::int64_t too_many = 2;
    while (too_many <= kMostTokens && rank_fits(0, too_many, longest())) {
      fits = too_many;
      too_many *= 2;
    }
    too_many = std::min(too_many, kMostTokens + 1);
    while (too_many - fits > std::max<std::int64_t>(1, fits / (2 * kSpareParts))) {
      const std::int64_t middle = fits + (too_many - fits) / 2;
      (rank_fits(0, middle, longest()) ? fits : too_many) = middle;
    }
    std::int64_t safe = fits - fits / kSpareParts;
    while (safe > 0 && !all_fit(safe)) safe -= std::max<std::int64_t>(1, safe / kSpareParts);
    return safe;
  }

 private:
  std::int64_t longest() const { return job_->training.micro_batch_tokens; }

  /// A step of one rank with such rows; a second micro-batch, since the first finds no gradients.
  bool rank_fits(int rank, std::int64_t tokens, std::int64_t longest) const {
    const Job job = with_groups(*job_, setting_->ranks, degree_, tokens);
    DryRank dry(job, *setting_, rank);
    const RankPass pass{full_row(tokens, std::min(longest, tokens)), dry.meshes.of_size(degree_)};
    dry.step.forward_backward({pass, pass});
    dry.step.update(0, 0.0);
    dry.step.evaluate(pass);
    return dry.needed(assumed_) <= limit_;
  }

  /// Every rank: in long documents and, as a GPU's libraries keep tables of documents, in ones of
  /// one token.
  bool all_fit(std::int64_t tokens) const {
    const Job job = with_groups(*job_, setting_->ranks, degree_, tokens);
    DryRank first(job, *setting_, 0);
    for (const AlikeRanks& kind :
         alike_ranks(job, first.layout, setting_->ranks, first.step.model().parameters())) {
      if (!rank_fits(kind.rank, tokens, longest())) return false;
      if (setting_->device.kind != "cpu" && !rank_fits(kind.rank, tokens, 1)) return false;
    }
    return true;
  }

  const Job* job_;
  const PlanSetting* setting_;
  int degree_;
  std::uint64_t limit_;
  std::uint64_t assumed_;
};

}  // namespace

std::int64_t group_capacity(const Job& job, const PlanSetting& setting, int degree) {
  return Room(job, setting, degree).tokens();
}

}  // namespace longspan::train
