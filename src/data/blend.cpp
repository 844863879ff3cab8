#include "longspan/data/blend.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "longspan/base/error.h"

namespace longspan::data {
namespace {

/// Whole numbers that add up to `total` and are as the weights are: by largest remainders, of equal
/// ones the first.
std::vector<std::int64_t> apportion(const std::vector<double>& weights, std::int64_t total) {
  const double largest = *std::max_element(weights.begin(), weights.end());
  double sum = 0;  // of weights in (0, 1], which cannot overflow
  for (const double weight : weights) sum += weight / largest;
  std::vector<std::int64_t> shares;
  std::vector<double> remainders;
  for (const double weight : weights) {
    const double exact = weight / largest / sum * static_cast<double>(total);
    shares.push_back(static_cast<std::int64_t>(exact));
    remainders.push_back(exact - std::floor(exact));
  }
  std::vector<std::size_t> order(weights.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(),
                   [&](std::size_t a, std::size_t b) { return remainders[a] > remainders[b]; });
  std::int64_t left = total - std::accumulate(shares.begin(), shares.end(), std::int64_t{0});
  for (std::size_t next = 0; left > 0; next = (next + 1) % order.size(), --left) {
    ++shares[order[next]];
  }
  return shares;
}

}  // namespace

BlendOrder::BlendOrder(const std::vector<double>& weights)
    : shares_(apportion(weights, kPeriod)), places_(weights.size()) {
  for (std::size_t source = 0; source < weights.size(); ++source) {
    if (shares_[source] > 0) continue;
    throw base::InputError(
        fmt::format("weight {} ({}) is too small beside the others: it would get none of {} rows",
                    source + 1, weights[source], kPeriod));
  }
  std::vector<std::int64_t> used(weights.size());
  for (std::int64_t row = 0; row < kPeriod; ++row) {
    // How far behind, in parts of a period. No source gets more than its share: one that is behind
    // has rows left.
    const auto behind = [&](std::size_t source) {
      return shares_[source] * (row + 1) - used[source] * kPeriod;
    };
    std::size_t chosen = 0;
    for (std::size_t source = 1; source < used.size(); ++source) {
      if (behind(source) > behind(chosen)) chosen = source;
    }
    ++used[chosen];
    sources_.push_back(static_cast<std::uint32_t>(chosen));
    places_[chosen].push_back(static_cast<std::uint32_t>(row));
  }
}

std::size_t BlendOrder::source(std::int64_t row) const {
  return sources_[static_cast<std::size_t>(row % kPeriod)];
}

std::int64_t BlendOrder::rows_before(std::size_t source, std::int64_t row) const {
  const std::vector<std::uint32_t>& places = places_[source];
  const auto within =
      std::lower_bound(places.begin(), places.end(), static_cast<std::uint32_t>(row % kPeriod));
  return row / kPeriod * shares_[source] + (within - places.begin());
}

Blend::Blend(const TokenFile& file, const std::vector<std::vector<std::int64_t>>& documents,
             const std::vector<double>& weights, SamplerOptions options)
    : rows_per_step_(options.rows_per_step),
      order_(weights.empty() ? std::vector<double>{1.0} : weights) {
  if (documents.size() != order_.shares().size()) {
    throw base::InternalError(fmt::format("a blend of {} sources with {} weights", documents.size(),
                                          order_.shares().size()));
  }
  if (documents.size() > 1) options.rows_per_step = 1;
  for (const std::vector<std::int64_t>& source : documents) {
    samplers_.push_back(std::make_unique<Sampler>(file, source, options));
    first_document_.push_back(*std::min_element(source.begin(), source.end()));
  }
  if (!std::is_sorted(first_document_.begin(), first_document_.end())) {
    throw base::InternalError("a blend's sources are not in the order of their documents");
  }
}

Blend::~Blend() = default;

std::vector<std::vector<Span>> Blend::rows(std::int64_t step) {
  if (sources() == 1) return samplers_.front()->rows(step);
  std::vector<std::vector<Span>> rows;
  const std::int64_t first = step * rows_per_step_;
  for (std::int64_t row = first; row < first + rows_per_step_; ++row) {
    const std::size_t source = order_.source(row);
    auto drawn = samplers_[source]->rows(order_.rows_before(source, row));
    rows.push_back(std::move(drawn.front()));
  }
  return rows;
}

MicroBatch Blend::read(const std::vector<Span>& row) const {
  if (row.empty()) return samplers_.front()->read(row);
  const auto next =
      std::upper_bound(first_document_.begin(), first_document_.end(), row.front().document);
  if (next == first_document_.begin()) {
    throw base::InternalError(
        fmt::format("document {} is of none of a blend's sources", row.front().document));
  }
  return samplers_[static_cast<std::size_t>(next - first_document_.begin()) - 1]->read(row);
}

double Blend::share(std::size_t source) const {
  return static_cast<double>(order_.shares()[source]) / static_cast<double>(BlendOrder::kPeriod);
}

double Blend::epochs(std::size_t source, std::int64_t steps) const {
  return static_cast<double>(order_.rows_before(source, steps * rows_per_step_)) /
         static_cast<double>(samplers_[source]->rows_per_epoch());
}

}  // namespace longspan::data
