#include "longspan/nn/modulation.h"

namespace longspan::nn {

using backend::Index;
using backend::Tensor;

namespace {

Tensor vector_of(const Tensor& all, std::size_t clip, int which, int half) {
  const Index row = static_cast<Index>(clip) * Modulation::kVectors + which +
                    static_cast<Index>(half) * Modulation::kHalf;
  return all.rows(row, row + 1).reshape({all.size(1)});
}

/// The means, or the rstd, of some rows.
Tensor statistic(const Tensor& statistics, Index which, const shard::Range& rows) {
  return statistics.rows(which, which + 1).reshape({statistics.size(1)}).rows(rows.begin, rows.end);
}

/// Calls visit(clip, its rows) for those that have some.
template <typename Visit>
void for_each_clip(const ClipRows& rows, const Visit& visit) {
  for (std::size_t clip = 0; clip < rows.size(); ++clip) {
    if (rows[clip].size() > 0) visit(clip, rows[clip]);
  }
}

Tensor rows_of(const Tensor& all, const shard::Range& rows) {
  return all.defined() ? all.rows(rows.begin, rows.end) : Tensor();
}

}  // namespace

Modulation::Modulation(ParameterSet& parameters, const std::string& name, Index hidden,
                       double epsilon)
    : parameters_(&parameters),
      table_(parameters.declare(name, {kVectors, hidden}, ParameterKind::kBias)),
      hidden_(hidden),
      epsilon_(static_cast<float>(epsilon)) {}

Modulation::Vectors Modulation::of(const Tensor& condition, const ClipRows& rows,
                                   Pass& pass) const {
  const auto clips = static_cast<Index>(rows.size());
  Vectors vectors{pass.saved({clips * kVectors, hidden_}), {}, &rows};
  const Tensor ones = pass.workspace({hidden_});
  pass.backend().fill(ones, 1.0);
  const Tensor told = condition.reshape({clips * kVectors, hidden_});
  for (Index clip = 0; clip < clips; ++clip) {
    const Index begin = clip * kVectors;
    pass.backend().add(vectors.values.rows(begin, begin + kVectors),
                       told.rows(begin, begin + kVectors), parameters_->weight(table_));
    for (const int half : {0, 1}) {
      const Tensor scale = vector_of(vectors.values, static_cast<std::size_t>(clip), kScale, half);
      pass.backend().add(scale, scale, ones);
    }
  }
  if (parameters_->trains()) {
    vectors.gradients = pass.saved_statistics({clips * kVectors, hidden_});
    pass.backend().zero(vectors.gradients);
  }
  return vectors;
}

void Modulation::backward(const Tensor& dcondition, const Vectors& vectors, Pass& pass) const {
  const Tensor all = vectors.gradients.reshape(dcondition.shape());
  pass.backend().accumulate(dcondition, all);
  pass.backend().bias_backward(parameters_->gradient(table_).reshape({kVectors * hidden_}), all);
}

void Modulation::norm(const Tensor& out, const Tensor& statistics, const Tensor& x,
                      const Vectors& vectors, int half, Pass& pass) const {
  for_each_clip(*vectors.rows, [&](std::size_t clip, const shard::Range& rows) {
    pass.backend().layer_norm_forward(rows_of(out, rows), statistic(statistics, 0, rows),
                                      statistic(statistics, 1, rows), rows_of(x, rows),
                                      vector_of(vectors.values, clip, kScale, half),
                                      vector_of(vectors.values, clip, kShift, half), epsilon_);
  });
}

void Modulation::norm_backward(const Tensor& dx, const Tensor& dy, const Tensor& residual,
                               const Tensor& statistics, const Tensor& x, const Vectors& vectors,
                               int half, Pass& pass) const {
  for_each_clip(*vectors.rows, [&](std::size_t clip, const shard::Range& rows) {
    pass.backend().layer_norm_backward(
        rows_of(dx, rows), vector_of(vectors.gradients, clip, kScale, half),
        vector_of(vectors.gradients, clip, kShift, half), rows_of(dy, rows),
        rows_of(residual, rows), statistic(statistics, 0, rows), statistic(statistics, 1, rows),
        rows_of(x, rows), vector_of(vectors.values, clip, kScale, half));
  });
}

void Modulation::add(const Tensor& out, const Tensor& x, const Tensor& y, const Vectors& vectors,
                     int half, Pass& pass) const {
  for_each_clip(*vectors.rows, [&](std::size_t clip, const shard::Range& rows) {
    pass.backend().add_product(rows_of(out, rows), rows_of(x, rows), rows_of(y, rows),
                               vector_of(vectors.values, clip, kGate, half));
  });
}

void Modulation::add_backward(const Tensor& dy, const Tensor& dout, const Tensor& y,
                              const Vectors& vectors, int half, Pass& pass) const {
  for_each_clip(*vectors.rows, [&](std::size_t clip, const shard::Range& rows) {
    // First the products that the gate's gradient sums, where dy goes afterwards.
    const Tensor own = rows_of(dy, rows);
    pass.backend().multiply(own, rows_of(dout, rows), rows_of(y, rows));
    pass.backend().bias_backward(vector_of(vectors.gradients, clip, kGate, half), own);
    pass.backend().add_product(own, Tensor(), rows_of(dout, rows),
                               vector_of(vectors.values, clip, kGate, half));
  });
}

}  // namespace longspan::nn
