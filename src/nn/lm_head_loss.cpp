#include "longspan/nn/lm_head_loss.h"

#include <algorithm>
#include <string>

#include "longspan/backend/host_values.h"
#include "longspan/base/error.h"

namespace longspan::nn {

using backend::Index;
using backend::MemoryTag;
using backend::Tensor;

/// The rows whose label counts, in order.
struct LmHeadLoss::Selection {
  explicit Selection(const std::vector<std::int32_t>& all) {
    for (std::size_t token = 0; token < all.size(); ++token) {
      if (all[token] == backend::kIgnoredLabel) continue;
      tokens.push_back(static_cast<std::int32_t>(token));
      labels.push_back(all[token]);
    }
  }

  Index count() const { return static_cast<Index>(tokens.size()); }

  std::vector<std::int32_t> tokens;
  std::vector<std::int32_t> labels;
};

/// Selected rows [begin, end), and the tokens they are spread over: every token belongs to one
/// range, so that dx is written everywhere.
struct LmHeadLoss::Range {
  Index begin, end;
  Index first_token, end_token;

  Index rows() const { return end - begin; }
  bool has_gaps() const { return rows() < end_token - first_token; }
};

/// What the ranges of one call share.
struct LmHeadLoss::Buffers {
  Index range_rows = 0;
  Tensor labels;    // int32 [selected]
  Tensor gather;    // int32 [selected]: the row's token, counted from its range's first
  Tensor scatter;   // int32 [tokens]: the token's row in its range, or -1
  Tensor nll;       // [selected]
  Tensor gathered;  // [rows of a range, hidden]: selected rows of x, then of dx
  Tensor logits;    // [rows of a range, vocab]
  Tensor dlogits;   // likewise, in the dtype of activations; undefined for the loss alone
};

double LmHeadLoss::forward(const Tensor& x, const std::vector<std::int32_t>& labels,
                           Pass& pass) const {
  return run({}, x, labels, 0.0, pass, nullptr);
}

double LmHeadLoss::forward(const Tensor& x, const std::vector<std::int32_t>& labels,
                           std::vector<double>& nll, Pass& pass) const {
  nll.assign(labels.size(), 0.0);
  return run({}, x, labels, 0.0, pass, &nll);
}

double LmHeadLoss::forward_backward(const Tensor& dx, const Tensor& x,
                                    const std::vector<std::int32_t>& labels, double scale,
                                    Pass& pass) const {
  return run(dx, x, labels, scale, pass, nullptr);
}

void LmHeadLoss::logits(const Tensor& out, const Tensor& x, Pass& pass) const {
  pass.backend().matmul(out, x, parameters_->weight(number_), {.transpose_b = true});
}

LmHeadLoss::Buffers LmHeadLoss::make_buffers(const Selection& selection, Index tokens,
                                             bool with_gradient, Pass& pass) const {
  backend::Backend& backend = pass.backend();
  const Index vocab = parameters_->at(number_).shape[0];
  const Index hidden = parameters_->at(number_).shape[1];
  const base::DType statistic = pass.statistic_dtype();
  const std::size_t activation = base::size_of(pass.dtype());
  const bool in_place = statistic == pass.dtype();
  const std::size_t logit =
      base::size_of(statistic) + (with_gradient && !in_place ? activation : 0);
  const std::size_t row =
      static_cast<std::size_t>(vocab) * logit + static_cast<std::size_t>(hidden) * activation;

  Buffers buffers;
  buffers.range_rows = mini_sequence_.split(tokens, row).longest();
  const auto ints = [&] {
    return backend.allocate({tokens}, base::DType::kInt32, MemoryTag::kWorkspace);
  };
  const Index selected = selection.count();
  buffers.labels = ints().rows(0, selected);
  backend.copy_from_host(buffers.labels, selection.labels.data(), buffers.labels.bytes());
  buffers.gather = ints().rows(0, selected);
  if (with_gradient) buffers.scatter = ints();
  buffers.nll = backend.allocate({tokens}, statistic, MemoryTag::kWorkspace).rows(0, selected);
  buffers.gathered = pass.workspace({buffers.range_rows, hidden});
  buffers.logits = backend.allocate({buffers.range_rows, vocab}, statistic, MemoryTag::kWorkspace);
  if (with_gradient) {
    buffers.dlogits = in_place ? buffers.logits : pass.workspace({buffers.range_rows, vocab});
  }
  return buffers;
}

namespace {

/// Which tokens a range reads and which row each of its tokens is, as gather_rows takes them.
void write_indices(const std::vector<std::int32_t>& tokens, Index begin, Index end,
                   Index first_token, std::vector<std::int32_t>& gather,
                   std::vector<std::int32_t>& scatter) {
  for (Index row = begin; row < end; ++row) {
    const auto at = static_cast<std::size_t>(row);
    gather[at] = tokens[at] - static_cast<std::int32_t>(first_token);
    scatter[static_cast<std::size_t>(tokens[at])] = static_cast<std::int32_t>(row - begin);
  }
}

/// Losses of the selected rows to the places of their tokens.
void download_rows(std::vector<double>& out, const std::vector<std::int32_t>& tokens,
                   const Tensor& nll, backend::Backend& backend) {
  const std::vector<double> host = backend::host_values(backend, nll);
  for (std::size_t row = 0; row < tokens.size(); ++row) {
    out[static_cast<std::size_t>(tokens[row])] = host[row];
  }
}

}  // namespace

double LmHeadLoss::run(const Tensor& dx, const Tensor& x, const std::vector<std::int32_t>& labels,
                       double scale, Pass& pass, std::vector<double>* row_nll) const {
  const Index tokens = x.size(0);
  if (static_cast<Index>(labels.size()) != tokens) {
    throw base::InternalError("the loss was given " + std::to_string(labels.size()) +
                              " labels for " + std::to_string(tokens) + " tokens");
  }
  const Selection selection(labels);
  if (selection.count() == 0) {
    if (dx.defined()) pass.backend().zero(dx);
    return 0.0;
  }
  const Buffers buffers = make_buffers(selection, tokens, dx.defined(), pass);
  const Ranges parts{selection.count(),
                     (selection.count() + buffers.range_rows - 1) / buffers.range_rows};
  std::vector<Range> ranges;
  std::vector<std::int32_t> gather(selection.tokens.size());
  std::vector<std::int32_t> scatter(labels.size(), -1);
  for (Index i = 0; i < parts.count; ++i) {
    const Index first_token = i == 0 ? 0 : ranges.back().end_token;
    const Index end = parts.end(i);
    const Index end_token =
        i + 1 == parts.count ? tokens : selection.tokens[static_cast<std::size_t>(end)];
    ranges.push_back({parts.begin(i), end, first_token, end_token});
    write_indices(selection.tokens, parts.begin(i), end, first_token, gather, scatter);
  }
  pass.backend().copy_from_host(buffers.gather, gather.data(), buffers.gather.bytes());
  if (dx.defined()) {
    pass.backend().copy_from_host(buffers.scatter, scatter.data(), buffers.scatter.bytes());
  }
  for (const Range& range : ranges) run_range(dx, x, range, scale, buffers, pass);
  if (row_nll != nullptr) download_rows(*row_nll, selection.tokens, buffers.nll, pass.backend());
  return pass.backend().sum(buffers.nll);
}

void LmHeadLoss::run_range(const Tensor& dx, const Tensor& x, const Range& range, double scale,
                           const Buffers& buffers, Pass& pass) const {
  backend::Backend& backend = pass.backend();
  Tensor rows = x.rows(range.first_token, range.end_token);
  if (range.has_gaps()) {
    const Tensor gathered = buffers.gathered.rows(0, range.rows());
    backend.gather_rows(gathered, buffers.gather.rows(range.begin, range.end), rows);
    rows = gathered;
  }
  const Tensor range_logits = buffers.logits.rows(0, range.rows());
  const Tensor nll = buffers.nll.rows(range.begin, range.end);
  const Tensor labels = buffers.labels.rows(range.begin, range.end);

  logits(range_logits, rows, pass);
  if (!dx.defined()) {
    backend.cross_entropy(nll, {}, range_logits, labels, {.scale = scale, .soft_cap = soft_cap_});
    return;
  }
  const Tensor dlogits = buffers.dlogits.rows(0, range.rows());
  backend.cross_entropy(nll, dlogits, range_logits, labels,
                        {.scale = scale, .soft_cap = soft_cap_});
  // The weight's gradient first: dx may overwrite x.
  if (parameters_->trains()) {
    const bool accumulate = !parameters_->claim_gradient(number_, 1);
    backend.matmul(parameters_->gradient(number_), dlogits, rows,
                   {.transpose_a = true, .accumulate = accumulate});
  }
  const Tensor weight = parameters_->weight(number_);
  const Tensor range_dx = dx.rows(range.first_token, range.end_token);
  if (range.has_gaps()) {
    backend.matmul(rows, dlogits, weight, {});
    backend.gather_rows(range_dx, buffers.scatter.rows(range.first_token, range.end_token), rows);
  } else {
    backend.matmul(range_dx, dlogits, weight, {});
  }
}

}  // namespace longspan::nn
