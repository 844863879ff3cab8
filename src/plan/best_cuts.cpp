#include "plan/best_cuts.h"

#include <algorithm>
#include <cstddef>
#include <limits>

#include "plan/packing.h"

namespace longspan::plan {
namespace {

/// Places lie between all of so many of the longest sequences, then a sixteenth further each time.
constexpr std::size_t kDense = 40;
constexpr std::size_t kSparser = 16;

/// 0, places between sequences, and their number.
std::vector<std::size_t> places_of(std::size_t count) {
  std::vector<std::size_t> places;
  for (std::size_t place = 0; place < count;
       place += place < kDense ? 1 : std::max<std::size_t>(1, place / kSparser)) {
    places.push_back(place);
  }
  places.push_back(count);
  return places;
}

Chunk part(const Chunk& sorted, std::size_t begin, std::size_t end) {
  return {sorted.begin() + static_cast<std::ptrdiff_t>(begin),
          sorted.begin() + static_cast<std::ptrdiff_t>(end)};
}

/// The fastest way to a place: its time, and the place before.
struct Way {
  double seconds = std::numeric_limits<double>::infinity();
  std::size_t from = 0;
};

}  // namespace

std::vector<Chunk> best_cuts(const Chunk& sorted, const std::vector<std::int64_t>& lengths,
                             const CostModel& costs) {
  if (sorted.size() > kMostCut) return {};
  const std::vector<std::size_t> places = places_of(sorted.size());
  const double most = cluster_tokens(costs);
  std::vector<Way> ways(places.size());
  ways.front().seconds = 0;
  for (std::size_t end = 1; end < places.size(); ++end) {
    double tokens = 0;
    for (std::size_t begin = end; begin-- > 0;) {
      for (std::size_t item = places[begin]; item < places[begin + 1]; ++item) {
        tokens += static_cast<double>(lengths[static_cast<std::size_t>(sorted[item])]);
      }
      if (tokens > most) break;
      if (ways[begin].seconds >= ways[end].seconds) continue;
      const Problem problem(lengths, part(sorted, places[begin], places[end]), costs);
      const auto packing = pack_best_kind(problem);
      if (!packing) continue;
      const double seconds = ways[begin].seconds + packing->seconds + costs.micro_batch_seconds;
      if (seconds < ways[end].seconds) ways[end] = {seconds, begin};
    }
  }
  if (ways.back().seconds == std::numeric_limits<double>::infinity()) return {};
  std::vector<Chunk> chunks;
  for (std::size_t end = places.size() - 1; end > 0; end = ways[end].from) {
    chunks.push_back(part(sorted, places[ways[end].from], places[end]));
  }
  std::reverse(chunks.begin(), chunks.end());
  return chunks;
}

}  // namespace longspan::plan
