#include "longspan/nn/lm_head_loss.h"

#include <algorithm>
#include <string>

#include "longspan/base/error.h"

namespace longspan::nn {

using backend::Index;
using backend::MemoryTag;
using backend::Tensor;

namespace {

constexpr Index kRowMultiple = 16;  // full tiles for the matmuls

bool counts(std::int32_t label) { return label != backend::kIgnoredLabel; }

}  // namespace

Index LmHeadLoss::range_rows(Index tokens, std::size_t bytes_per_row) const {
  const Index most = std::max(static_cast<Index>(range_bytes_ / bytes_per_row), kMinimumRows);
  // Ranges of equal size: a short one at the end would be slow.
  const Index ranges = (tokens + most - 1) / most;
  const Index even = (tokens + ranges - 1) / ranges;
  return (even + kRowMultiple - 1) / kRowMultiple * kRowMultiple;
}

double LmHeadLoss::forward(const Tensor& x, const std::vector<std::int32_t>& labels,
                           Pass& pass) const {
  return run({}, x, labels, 0.0, pass);
}

double LmHeadLoss::forward_backward(const Tensor& dx, const Tensor& x,
                                    const std::vector<std::int32_t>& labels, double scale,
                                    Pass& pass) const {
  return run(dx, x, labels, scale, pass);
}

void LmHeadLoss::logits(const Tensor& out, const Tensor& x, Pass& pass) const {
  pass.backend().matmul(out, x, parameters_->at(number_).weight, {.transpose_b = true});
}

/// What the ranges of one call share.
struct LmHeadLoss::Buffers {
  Tensor labels;   // int32 [tokens]
  Tensor nll;      // [tokens]
  Tensor logits;   // [rows of a range, vocab]
  Tensor dlogits;  // likewise, in the dtype of activations; undefined for the loss alone
  Index range_rows = 0;
};

LmHeadLoss::Buffers LmHeadLoss::make_buffers(const std::vector<std::int32_t>& labels,
                                             bool with_gradient, Pass& pass) const {
  backend::Backend& backend = pass.backend();
  const auto tokens = static_cast<Index>(labels.size());
  const Index vocab = parameters_->at(number_).shape[0];
  const base::DType statistic = pass.statistic_dtype();
  const bool in_place = statistic == pass.dtype();
  const std::size_t bytes_per_logit =
      base::size_of(statistic) + (with_gradient && !in_place ? base::size_of(pass.dtype()) : 0);

  Buffers buffers;
  buffers.range_rows = range_rows(tokens, static_cast<std::size_t>(vocab) * bytes_per_logit);
  const Index rows = std::min(buffers.range_rows, tokens);
  buffers.labels = backend.allocate({tokens}, base::DType::kInt32, MemoryTag::kWorkspace);
  backend.copy_from_host(buffers.labels, labels.data(), buffers.labels.bytes());
  buffers.nll = backend.allocate({tokens}, statistic, MemoryTag::kWorkspace);
  backend.zero(buffers.nll);
  buffers.logits = backend.allocate({rows, vocab}, statistic, MemoryTag::kWorkspace);
  if (with_gradient) buffers.dlogits = in_place ? buffers.logits : pass.workspace({rows, vocab});
  return buffers;
}

double LmHeadLoss::run(const Tensor& dx, const Tensor& x, const std::vector<std::int32_t>& labels,
                       double scale, Pass& pass) const {
  const Index tokens = x.size(0);
  if (static_cast<Index>(labels.size()) != tokens) {
    throw base::InternalError("the loss was given " + std::to_string(labels.size()) +
                              " labels for " + std::to_string(tokens) + " tokens");
  }
  if (tokens == 0) return 0.0;
  const bool with_gradient = dx.defined();
  const Buffers buffers = make_buffers(labels, with_gradient, pass);
  for (Index begin = 0; begin < tokens; begin += buffers.range_rows) {
    const Index end = std::min(begin + buffers.range_rows, tokens);
    if (std::any_of(labels.begin() + begin, labels.begin() + end, counts)) {
      run_range(dx, x, begin, end, scale, buffers, pass);
    } else if (with_gradient) {
      pass.backend().zero(dx.rows(begin, end));
    }
  }
  return pass.backend().sum(buffers.nll);
}

void LmHeadLoss::run_range(const Tensor& dx, const Tensor& x, Index begin, Index end, double scale,
                           const Buffers& buffers, Pass& pass) const {
  backend::Backend& backend = pass.backend();
  const Parameter& head = parameters_->at(number_);
  const Tensor rows = x.rows(begin, end);
  const Tensor range_logits = buffers.logits.rows(0, end - begin);
  const Tensor nll = buffers.nll.rows(begin, end);
  const Tensor labels = buffers.labels.rows(begin, end);

  logits(range_logits, rows, pass);
  if (!dx.defined()) {
    backend.cross_entropy(nll, {}, range_logits, labels, scale);
    return;
  }
  const Tensor dlogits = buffers.dlogits.rows(0, end - begin);
  backend.cross_entropy(nll, dlogits, range_logits, labels, scale);
  // The weight's gradient first: dx may overwrite x.
  const bool accumulate = !parameters_->claim_gradient(number_, 1);
  backend.matmul(head.gradient, dlogits, rows, {.transpose_a = true, .accumulate = accumulate});
  backend.matmul(dx.rows(begin, end), dlogits, head.weight, {});
}

}  // namespace longspan::nn
