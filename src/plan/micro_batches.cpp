#include "plan/micro_batches.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace longspan::plan {
namespace {

std::int64_t tokens_of(const std::vector<std::int64_t>& lengths, std::int32_t sequence) {
  return lengths[static_cast<std::size_t>(sequence)];
}

/// Runs of at most `limit` tokens, each as long as it can be.
std::vector<Chunk> cut(const Chunk& sorted, const std::vector<std::int64_t>& lengths,
                       std::int64_t limit) {
  std::vector<Chunk> chunks;
  std::int64_t tokens = limit;
  for (const std::int32_t sequence : sorted) {
    tokens += tokens_of(lengths, sequence);
    if (chunks.empty() || tokens > limit) {
      chunks.emplace_back();
      tokens = tokens_of(lengths, sequence);
    }
    chunks.back().push_back(sequence);
  }
  return chunks;
}

}  // namespace

Chunk longest_first(const std::vector<std::int64_t>& lengths) {
  Chunk sorted(lengths.size());
  std::iota(sorted.begin(), sorted.end(), 0);
  std::stable_sort(sorted.begin(), sorted.end(), [&](std::int32_t left, std::int32_t right) {
    return tokens_of(lengths, left) > tokens_of(lengths, right);
  });
  return sorted;
}

std::vector<Chunk> blast(const Chunk& sorted, const std::vector<std::int64_t>& lengths, int count) {
  if (sorted.empty()) return {};
  std::int64_t low = tokens_of(lengths, sorted.front());
  std::int64_t high = 0;
  for (const std::int32_t sequence : sorted) high += tokens_of(lengths, sequence);
  low = std::max(low, high / count);
  while (low < high) {
    const std::int64_t middle = low + (high - low) / 2;
    if (cut(sorted, lengths, middle).size() <= static_cast<std::size_t>(count)) {
      high = middle;
    } else {
      low = middle + 1;
    }
  }
  return cut(sorted, lengths, low);
}

double cluster_tokens(const CostModel& costs) {
  double each = 0;
  for (const GroupKind& kind : costs.kinds) {
    each = std::max(each, static_cast<double>(kind.max_tokens) / kind.degree);
  }
  return each * costs.ranks;
}

int fewest_micro_batches(const std::vector<std::int64_t>& lengths, const CostModel& costs) {
  const auto tokens =
      static_cast<double>(std::accumulate(lengths.begin(), lengths.end(), std::int64_t{0}));
  // A hair less: a batch that fills the memory to the last token needs no more for rounding.
  const double count = std::ceil(tokens / cluster_tokens(costs) - 1e-9);
  const auto most = static_cast<double>(lengths.size());
  return static_cast<int>(std::clamp(count, 1.0, std::max(1.0, most)));
}

}  // namespace longspan::plan
