#include "longspan/nn/directions.h"

#include <bit>
#include <cmath>
#include <cstdint>

#include "longspan/backend/host_values.h"
#include "longspan/base/error.h"

namespace longspan::nn {

using backend::Index;
using backend::MemoryTag;
using backend::Tensor;

namespace {

/// Bits that differ where the numbers do, as far as a double can count.
double digest(const std::vector<double>& numbers) {
  constexpr std::uint64_t kPrime = 1099511628211ULL;  // FNV-1a
  std::uint64_t hash = 14695981039346656037ULL;
  for (const double number : numbers) {
    hash = (hash ^ std::bit_cast<std::uint64_t>(number)) * kPrime;
  }
  return static_cast<double>((hash ^ (hash >> 32U)) & 0xffffffffU);
}

}  // namespace

int Directions::declare(Index length, Index inputs) {
  if (values_.defined() || length < 1 || inputs % length != 0) {
    throw base::InternalError("a direction must be declared first, of a part of its inputs");
  }
  of_.push_back({length, inputs, elements_, inputs_});
  elements_ += length;
  inputs_ += inputs;
  return count() - 1;
}

void Directions::allocate(backend::Backend& backend, base::DType dtype) {
  backend_ = &backend;
  if (of_.empty()) return;
  values_ = backend.allocate({elements_}, dtype, MemoryTag::kWeights);
  backend.zero(values_);
  sums_ = backend.allocate({inputs_}, dtype, MemoryTag::kWeights);
}

Tensor Directions::of(int number) const {
  const One& one = at(number);
  return values_.rows(one.begin, one.begin + one.length);
}

void Directions::find() {
  is_finding_ = true;
  backend_->zero(sums_);
}

void Directions::add(int number, const Tensor& x) const {
  const One& one = at(number);
  backend_->bias_backward(sums_.rows(one.sums_begin, one.sums_begin + one.inputs), x);
}

void Directions::settle(comm::Communicator& ranks) {
  const std::vector<double> sums = backend::host_values(*backend_, sums_);
  std::vector<double> folded(static_cast<std::size_t>(elements_));
  for (const One& one : of_) {
    for (Index i = 0; i < one.inputs; ++i) {
      folded[static_cast<std::size_t>(one.begin + i % one.length)] +=
          sums[static_cast<std::size_t>(one.sums_begin + i)];
    }
  }
  ranks.all_reduce_sum(folded);
  for (const One& one : of_) {
    double* const v = folded.data() + one.begin;
    double squares = 0;
    for (Index i = 0; i < one.length; ++i) squares += v[i] * v[i];
    const double norm = std::sqrt(squares);
    if (!std::isfinite(norm)) {
      throw base::InputError(
          "what layers read in the first step is not finite, so that velora finds no directions");
    }
    const double equal = 1.0 / std::sqrt(static_cast<double>(one.length));
    for (Index i = 0; i < one.length; ++i) v[i] = norm > 0 ? v[i] / norm : equal;
  }
  const Tensor exact =
      backend_->allocate({elements_}, base::DType::kFloat64, MemoryTag::kWorkspace);
  backend_->copy_from_host(exact, folded.data(), exact.bytes());
  backend_->copy(values_, exact);
  is_finding_ = false;
  are_there_ = true;
  check(ranks);
}

void Directions::check(comm::Communicator& ranks) const {
  if (of_.empty()) return;
  const double own = digest(backend::host_values(*backend_, values_));
  std::vector<double> all{own};
  ranks.all_reduce_sum(all);
  if (all.front() == own * ranks.size()) return;
  throw base::InternalError("ranks have different directions of compressed gradients");
}

}  // namespace longspan::nn
