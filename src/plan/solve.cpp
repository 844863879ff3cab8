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
/// Between the bound and the packing, where a packing is tried for.
constexpr std::array kTries = {0.05, 0.15, 0.3, 0.5, 0.75, 0.92};
constexpr int kMostProofs = 6;

class Refiner {
 public:
  Refiner(const Problem& problem, double enough_gap, std::int64_t node_limit, Solution& solution)
      : problem_(problem),
        enough_gap_(enough_gap),
        node_limit_(node_limit),
        solution_(solution),
        program_(problem) {}

  void run() {
    if (is_done()) return;
    raise_bound();
    if (is_done()) return;
    if (lower_packing()) raise_bound();
    if (is_done()) return;
    search_tree();
  }

 private:
  bool is_done() const { return solution_.gap() <= enough_gap_; }

  /// A proof for a time just within the gap that is enough, or else the largest that is found.
  void raise_bound() {
    double high = solution_.packing.seconds * (1 - 0.9 * enough_gap_);
    double tried = high;
    for (int proof = 0; proof < kMostProofs && tried > solution_.bound; ++proof) {
      PatternProgram::Answer answer = program_.prove(tried);
      if (answer.is_impossible) {
        solution_.bound = tried;
        if (proof == 0) return;
      } else {
        prices_ = std::move(answer.prices);
        high = tried;
      }
      if (high - solution_.bound < 0.25 * enough_gap_ * high) return;
      tried = solution_.bound + (high - solution_.bound) / 2;
    }
  }

  /// Whether a faster packing was found.
  bool lower_packing() {
    if (prices_.items.empty()) return false;
    const double low = solution_.bound;
    const double high = solution_.packing.seconds;
    for (const double part : kTries) {
      auto packing = construct(problem_, low + part * (high - low), prices_);
      if (!packing) continue;
      polish(problem_, *packing);
      if (packing->seconds >= high) continue;
      solution_.packing = std::move(*packing);
      return true;
    }
    return false;
  }

  void search_tree() {
    const double seconds = solution_.packing.seconds;
    const Prices prices = program_.prove(seconds).prices;
    const SearchResult found = search(problem_, prices, node_limit_, solution_.packing);
    if (found.is_complete) solution_.bound = solution_.packing.seconds * (1 - 1e-9);
    if (!found.is_better || found.is_complete) return;
    polish(problem_, solution_.packing);
  }

  const Problem& problem_;
  double enough_gap_;
  std::int64_t node_limit_;
  Solution& solution_;
  PatternProgram program_;
  Prices prices_;
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
