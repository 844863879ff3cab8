#include "train/sampling.h"

#include <algorithm>
#include <cmath>
#include <cstddef>

#include "longspan/base/error.h"

namespace longspan::train {
namespace {

using data::TokenId;

struct Candidate {
  TokenId id = 0;
  double weight = 0;
};

/// Tokens that may come, the likeliest first. Those that the nucleus cannot hold are left out
/// before they are sorted: all of a weight below (1 - top_p) / vocab of the total make up less than
/// what the nucleus leaves over.
std::vector<Candidate> candidates_of(const std::vector<float>& logits, float largest,
                                     const SamplingOptions& options, double& total) {
  std::vector<Candidate> all(logits.size());
  total = 0;
  for (std::size_t i = 0; i < logits.size(); ++i) {
    const double above = static_cast<double>(logits[i]) - static_cast<double>(largest);
    all[i] = {static_cast<TokenId>(i), std::exp(above / options.temperature)};
    total += all[i].weight;
  }
  const double least = (1 - options.top_p) * total / static_cast<double>(logits.size());
  std::erase_if(all, [least](const Candidate& one) { return one.weight < least; });
  std::stable_sort(all.begin(), all.end(),
                   [](const Candidate& a, const Candidate& b) { return a.weight > b.weight; });
  return all;
}

}  // namespace

TokenId sample_token(const std::vector<float>& logits, const SamplingOptions& options,
                     double draw) {
  if (!std::all_of(logits.begin(), logits.end(), [](float z) { return std::isfinite(z); })) {
    throw base::InputError(
        "the model gives logits that are not finite: its weights are damaged, or its numbers "
        "beyond "
        "its type; try --dtype fp32");
  }
  const auto best = std::max_element(logits.begin(), logits.end());
  if (options.temperature == 0) return static_cast<TokenId>(best - logits.begin());
  double total = 0;
  std::vector<Candidate> candidates = candidates_of(logits, *best, options, total);
  if (options.top_k > 0 && candidates.size() > static_cast<std::size_t>(options.top_k)) {
    candidates.resize(static_cast<std::size_t>(options.top_k));
    total = 0;
    for (const Candidate& one : candidates) total += one.weight;
  }
  double kept = 0;
  std::size_t count = 0;
  while (count < candidates.size() && (count == 0 || kept < options.top_p * total)) {
    kept += candidates[count++].weight;
  }
  double target = draw * kept;
  for (std::size_t i = 0; i + 1 < count; ++i) {
    target -= candidates[i].weight;
    if (target < 0) return candidates[i].id;
  }
  return candidates[count - 1].id;
}

void penalise_repetition(std::vector<float>& logits, const std::vector<TokenId>& ids,
                         double penalty) {
  if (penalty == 1.0) return;
  std::vector<TokenId> seen = ids;
  std::sort(seen.begin(), seen.end());
  seen.erase(std::unique(seen.begin(), seen.end()), seen.end());
  const auto factor = static_cast<float>(penalty);
  for (const TokenId id : seen) {
    if (static_cast<std::size_t>(id) >= logits.size()) continue;
    float& logit = logits[static_cast<std::size_t>(id)];
    logit = logit > 0 ? logit / factor : logit * factor;
  }
}

}  // namespace longspan::train
