#include "longspan/nn/row_sampling.h"

#include <cmath>
#include <limits>

#include "longspan/backend/host_values.h"
#include "longspan/base/error.h"

namespace longspan::nn {

using backend::DrawnRows;
using backend::Index;
using backend::MemoryTag;
using backend::Tensor;

int RowSampling::declare(double ratio) {
  if (factors_.defined() || !(ratio > 0 && ratio <= 1)) {
    throw base::InternalError("rows are sampled by a ratio in (0, 1] that is declared first");
  }
  groups_.push_back({ratio, std::numeric_limits<double>::infinity(), {}});
  return count() - 1;
}

void RowSampling::allocate(backend::Backend& backend) {
  backend_ = &backend;
  if (groups_.empty()) return;
  factors_ = backend.allocate({Index{count()}}, base::DType::kFloat64, MemoryTag::kWeights);
}

backend::RowDraw RowSampling::draw(int number, std::uint64_t seed, std::uint64_t step) const {
  const Group& group = groups_[static_cast<std::size_t>(number)];
  return {{seed, base::Purpose::kRowSampling, step, static_cast<std::uint64_t>(number)},
          group.factor,
          group.ratio};
}

void RowSampling::add(int number, const DrawnRows& drawn) {
  DrawnRows& sums = groups_[static_cast<std::size_t>(number)].sums;
  sums.tokens += drawn.tokens;
  sums.sizes += drawn.sizes;
  sums.certain += drawn.certain;
  sums.rest += drawn.rest;
}

double RowSampling::next(double factor, const DrawnRows& sums, double ratio) {
  if (ratio == 1) return std::numeric_limits<double>::infinity();
  if (sums.tokens == 0 || !std::isfinite(sums.sizes)) return factor;
  const double wanted = ratio * sums.tokens;
  const double others = wanted - sums.certain;
  return others > 0 && sums.rest > 0 ? others / sums.rest : wanted / sums.sizes;
}

void RowSampling::settle(comm::Communicator& ranks) {
  if (groups_.empty()) return;
  std::vector<double> all;
  for (const Group& group : groups_) {
    const DrawnRows& sums = group.sums;
    all.insert(all.end(), {sums.tokens, sums.sizes, sums.certain, sums.rest});
  }
  ranks.all_reduce_sum(all);
  auto sum = all.begin();
  for (Group& group : groups_) {
    DrawnRows sums;
    sums.tokens = *sum++;
    sums.sizes = *sum++;
    sums.certain = *sum++;
    sums.rest = *sum++;
    group.factor = next(group.factor, sums, group.ratio);
    group.sums = {};
  }
}

Tensor RowSampling::factors() const {
  std::vector<double> values;
  for (const Group& group : groups_) values.push_back(group.factor);
  if (!values.empty()) backend_->copy_from_host(factors_, values.data(), factors_.bytes());
  return factors_;
}

void RowSampling::take() {
  if (groups_.empty()) return;
  const std::vector<double> values = backend::host_values(*backend_, factors_);
  for (std::size_t number = 0; number < groups_.size(); ++number) {
    groups_[number].factor = values[number];
  }
}

}  // namespace longspan::nn
