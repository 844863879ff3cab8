#include "plan/configurations.h"

#include <algorithm>
#include <cstdint>
#include <set>
#include <utility>

#include "plan/polish.h"

namespace longspan::plan {
namespace {

constexpr int kMostRanks = 64;
/// Packings that are polished, of those at most this part slower than the best.
constexpr std::size_t kPolished = 12;
constexpr double kWorthPolishing = 1.03;

void enumerate(const CostModel& costs, const std::vector<int>& kinds, std::size_t place, int ranks,
               Configuration& configuration, std::vector<Configuration>& found) {
  const int kind = kinds[place];
  const int degree = costs.kinds[static_cast<std::size_t>(kind)].degree;
  int& count = configuration[static_cast<std::size_t>(kind)];
  count = ranks / degree;
  if (place + 1 == kinds.size()) {
    found.push_back(configuration);
    count = 0;
    return;
  }
  for (; count > 0; --count) {
    enumerate(costs, kinds, place + 1, ranks - count * degree, configuration, found);
  }
  enumerate(costs, kinds, place + 1, ranks, configuration, found);
}

}  // namespace

bool has_few_configurations(const CostModel& costs) {
  std::set<int> degrees;
  for (const GroupKind& kind : costs.kinds) degrees.insert(kind.degree);
  return costs.ranks <= kMostRanks && degrees.size() == costs.kinds.size();
}

std::vector<Configuration> all_configurations(const CostModel& costs) {
  std::vector<int> kinds(costs.kinds.size());
  for (std::size_t kind = 0; kind < kinds.size(); ++kind) kinds[kind] = static_cast<int>(kind);
  std::sort(kinds.begin(), kinds.end(), [&](int left, int right) {
    return costs.kinds[static_cast<std::size_t>(left)].degree >
           costs.kinds[static_cast<std::size_t>(right)].degree;
  });
  std::vector<Configuration> found;
  Configuration configuration(costs.kinds.size());
  enumerate(costs, kinds, 0, costs.ranks, configuration, found);
  return found;
}

std::optional<Packing> fill(const Problem& problem, const Configuration& configuration,
                            double limit) {
  Packing packing;
  for (int kind = 0; kind < problem.kinds(); ++kind) {
    packing.bins.insert(packing.bins.end(),
                        static_cast<std::size_t>(configuration[static_cast<std::size_t>(kind)]),
                        Bin::of(problem, kind));
  }
  for (int item = 0; item < problem.size(); ++item) {
    Bin* first = nullptr;
    double earliest = limit;
    for (Bin& bin : packing.bins) {
      const double seconds = bin.seconds + problem.seconds(bin.kind, item);
      if (seconds < earliest && bin.has_room(problem, item)) {
        first = &bin;
        earliest = seconds;
      }
    }
    if (first == nullptr) return std::nullopt;
    first->add(problem, item);
  }
  packing.seconds = slowest(packing.bins);
  return packing;
}

void try_configurations(const Problem& problem, const std::vector<Configuration>& configurations,
                        Packing& packing) {
  std::vector<std::pair<double, const Configuration*>> good;
  double best = packing.seconds;
  for (const Configuration& configuration : configurations) {
    const auto filled = fill(problem, configuration, best * kWorthPolishing);
    if (!filled) continue;
    good.emplace_back(filled->seconds, &configuration);
    best = std::min(best, filled->seconds);
  }
  std::stable_sort(good.begin(), good.end(),
                   [](const auto& left, const auto& right) { return left.first < right.first; });
  if (good.size() > kPolished) good.resize(kPolished);
  for (const auto& [seconds, configuration] : good) {
    auto filled = fill(problem, *configuration, seconds * kWorthPolishing);
    polish(problem, *filled);
    if (filled->seconds < packing.seconds) packing = std::move(*filled);
  }
}

}  // namespace longspan::plan
