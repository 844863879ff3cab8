#pragma once

#include <cstdint>
#include <vector>

#include "longspan/nn/mini_sequence.h"
#include "longspan/nn/parameter.h"
#include "longspan/nn/pass.h"

namespace longspan::nn {

/// Language-model head and cross-entropy in mini-sequences: the logits of a range of rows are made,
/// turned into their gradient in place, used and dropped, so [tokens, vocab] never exists. As the
/// loss's scale is known beforehand, the gradients are formed on the way forward and nothing is
/// computed twice.
///
/// Only rows whose label counts are worked on: a range takes as many of them as its budget allows,
/// gathered from however many tokens they are spread over. What is allocated depends on the number
/// of tokens alone.
class LmHeadLoss {
 public:
  /// The head's weight is parameter `number` of the set, [vocab, hidden]: one of its own, or the
  /// embedding's (tied). `parameters` must outlive the layer. `soft_cap` of the logits: see
  /// backend::CrossEntropyOptions.
  LmHeadLoss(ParameterSet& parameters, int number, MiniSequence mini_sequence,
             double soft_cap = 0.0)
      : parameters_(&parameters),
        number_(number),
        mini_sequence_(mini_sequence),
        soft_cap_(static_cast<float>(soft_cap)) {}

  /// Sum of the negative log-likelihoods (natural log) of `labels` (host, one a row of x; each
  /// below vocab or kIgnoredLabel) given x [tokens, hidden]. Throws InternalError for another
  /// number of labels.
  double forward(const backend::Tensor& x, const std::vector<std::int32_t>& labels,
                 Pass& pass) const;
  /// The same, and each row's own in `nll` (host), 0 where the label does not count.
  double forward(const backend::Tensor& x, const std::vector<std::int32_t>& labels,
                 std::vector<double>& nll, Pass& pass) const;
  /// The same sum, with the gradients of `scale` times it: dx (may be x) is written, the weight's
  /// gradient added to.
  double forward_backward(const backend::Tensor& dx, const backend::Tensor& x,
                          const std::vector<std::int32_t>& labels, double scale, Pass& pass) const;

  /// out [rows, vocab] = x W^T, not capped, in the dtype of statistics: for generation.
  void logits(const backend::Tensor& out, const backend::Tensor& x, Pass& pass) const;

 private:
  struct Selection;
  struct Buffers;
  struct Range;
  Buffers make_buffers(const Selection& selection, backend::Index tokens, bool with_gradient,
                       Pass& pass) const;
  double run(const backend::Tensor& dx, const backend::Tensor& x,
             const std::vector<std::int32_t>& labels, double scale, Pass& pass,
             std::vector<double>* row_nll) const;
  void run_range(const backend::Tensor& dx, const backend::Tensor& x, const Range& range,
                 double scale, const Buffers& buffers, Pass& pass) const;

  ParameterSet* parameters_;
  int number_;
  MiniSequence mini_sequence_;
  float soft_cap_;
};

}  // namespace longspan::nn
