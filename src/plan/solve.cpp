#include "plan/solve.h"

#include <algorithm>
#include <array>
#include <limits>
#include <utility>

#include "plan/construct.h"
#include "plan/patterns.h"
#include "plan/polish.h"
#include "plan/prices.h"
#include "plan/search.h"

namespace longspan::plan {
namespace {

constexpr double kNoLimit = std::numeric_limits<double>::infinity();
constexpr int kMostProbes = 10;
/// The tree of more sequences is too large, and too deep, to search.
constexpr int kMostSearched = 256;
/// Of a group of the linear program, how much makes it worth a whole one.
constexpr std::array kWhole = {0.6, 0.999, 2.0};

/// Closes in on the fastest packing from both sides: for a time between what is proven impossible
/// and the packing that there is, it looks for a proof or a packing.
class Refiner {
 public:
  Refiner(const Problem& problem, double enough_gap, std::int64_t node_limit, Solution& solution)
      : problem_(problem),
        enough_gap_(enough_gap),
        node_limit_(node_limit),
        solution_(solution),
        program_(problem) {}

  void run() {
    for (int number = 0; number < kMostProbes && solution_.gap() > enough_gap_; ++number) {
      const auto seconds = next_time(number);
      if (!seconds) return;
      probe(*seconds);
    }
  }

 private:
  /// Times of which neither is known; outside of them something is.
  struct Unknown {
    double low;
    double high;
  };

  std::optional<double> next_time(int number) const {
    const double low = solution_.bound;
    const double high = solution_.packing.seconds;
    if (number == 0) return high * (1 - kWithin * enough_gap_);
    if (!unknown_) return low + (high - low) / 2;
    const double least = enough_gap_ * high / 4;
    const bool is_bound_open = unknown_->low - low > least;
    const bool is_packing_open = high - unknown_->high > least;
    if (!is_bound_open && !is_packing_open) return std::nullopt;
    const bool is_for_bound = is_bound_open && (number % 2 == 0 || !is_packing_open);
    return is_for_bound ? low + (unknown_->low - low) / 2
                        : unknown_->high + (high - unknown_->high) / 2;
  }

  void probe(double seconds) {
    const PatternProgram::Answer answer = program_.prove(seconds);
    if (answer.is_impossible) {
      solution_.bound = std::max(solution_.bound, seconds);
      return;
    }
    for (const double whole : kWhole) {
      if (improve(construct(problem_, seconds, program_, answer, whole))) return;
    }
    if (problem_.size() <= kMostSearched) {
      SearchResult found = search(problem_, answer.prices, node_limit_, seconds);
      const double best = found.packing ? found.packing->seconds : seconds;
      if (found.is_complete) {
        solution_.bound = std::max(solution_.bound, best * (1 - kRounding));
      }
      if (improve(std::move(found.packing)) || found.is_complete) return;
    }
    if (!unknown_) unknown_ = Unknown{seconds, seconds};
    unknown_->low = std::min(unknown_->low, seconds);
    unknown_->high = std::max(unknown_->high, seconds);
  }

  bool improve(std::optional<Packing> packing) {
    if (!packing) return false;
    polish(problem_, *packing);
    if (packing->seconds >= solution_.packing.seconds) return false;
    solution_.packing = std::move(*packing);
    return true;
  }

  /// The first proof that is looked for is one of a gap that is just enough.
  static constexpr double kWithin = 0.9;
  static constexpr double kRounding = 2e-9;

  const Problem& problem_;
  double enough_gap_;
  std::int64_t node_limit_;
  Solution& solution_;
  PatternProgram program_;
  std::optional<Unknown> unknown_;
};

}  // namespace

std::optional<Solution> solve_roughly(const Problem& problem,
                                      const std::vector<Configuration>& configurations) {
  std::optional<Packing> packing = pack_best_kind(problem);
  for (std::size_t number = 0; !packing && number < configurations.size(); ++number) {
    packing = fill(problem, configurations[number], kNoLimit);
  }
  const double bound = aggregate_bound(problem);
  if (!packing) packing = construct(problem, kNoLimit, aggregate_prices(problem, 2 * bound));
  if (!packing) return std::nullopt;
  try_configurations(problem, configurations, *packing);
  polish(problem, *packing);
  return Solution{std::move(*packing), bound};
}

void refine(const Problem& problem, double enough_gap, std::int64_t node_limit,
            Solution& solution) {
  Refiner(problem, enough_gap, node_limit, solution).run();
}

}  // namespace longspan::plan
