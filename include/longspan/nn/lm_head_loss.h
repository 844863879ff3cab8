#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "longspan/nn/parameter.h"
#include "longspan/nn/pass.h"

namespace longspan::nn {

/// Language-model head and cross-entropy over ranges of rows: a range's logits are made, turned
/// into their gradient in place, used and dropped, so [tokens, vocab] never exists. As the loss's
/// scale is known beforehand, the gradients are formed on the way forward and nothing is computed
/// twice. Ranges without a label that counts cost nothing.
class LmHeadLoss {
 public:
  /// A range's logits and their gradient take about this many bytes.
  static constexpr std::size_t kDefaultRangeBytes = std::size_t{256} << 20U;
  /// But a range has at least this many rows: each range reads and writes the whole gradient of the
  /// weight, which costs little only while the range's matmuls are large beside it.
  static constexpr backend::Index kMinimumRows = 512;

  /// The head's weight is parameter `number` of the set, [vocab, hidden]: one of its own, or the
  /// embedding's (tied). `parameters` must outlive the layer.
  LmHeadLoss(ParameterSet& parameters, int number, std::size_t range_bytes = kDefaultRangeBytes)
      : parameters_(&parameters), number_(number), range_bytes_(range_bytes) {}

  /// Sum of the negative log-likelihoods (natural log) of `labels` (host, one a row of x; each
  /// below vocab or kIgnoredLabel) given x [tokens, hidden].
  double forward(const backend::Tensor& x, const std::vector<std::int32_t>& labels,
                 Pass& pass) const;
  /// The same sum, with the gradients of `scale` times it: dx (may be x) is written, the weight's
  /// gradient added to.
  double forward_backward(const backend::Tensor& dx, const backend::Tensor& x,
                          const std::vector<std::int32_t>& labels, double scale, Pass& pass) const;

  /// out [rows, vocab] = x W^T, in the dtype of statistics: for generation.
  void logits(const backend::Tensor& out, const backend::Tensor& x, Pass& pass) const;

 private:
  struct Buffers;
  backend::Index range_rows(backend::Index tokens, std::size_t bytes_per_row) const;
  Buffers make_buffers(const std::vector<std::int32_t>& labels, bool with_gradient,
                       Pass& pass) const;
  double run(const backend::Tensor& dx, const backend::Tensor& x,
             const std::vector<std::int32_t>& labels, double scale, Pass& pass) const;
  void run_range(const backend::Tensor& dx, const backend::Tensor& x, backend::Index begin,
                 backend::Index end, double scale, const Buffers& buffers, Pass& pass) const;

  ParameterSet* parameters_;
  int number_;
  std::size_t range_bytes_;
};

}  // namespace longspan::nn
