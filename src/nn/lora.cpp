#include "longspan/nn/lora.h"

#include <algorithm>
#include <cmath>

#include "longspan/base/error.h"

namespace longspan::nn {

using backend::Index;
using backend::Tensor;

namespace {

/// Of x without what is dropped, at a time.
constexpr std::size_t kDroppedBytes = std::size_t{16} << 20U;

}  // namespace

std::string lora_name(const std::string& module, const char* matrix) {
  return "base_model.model." + module + ".lora_" + matrix + ".weight";
}

Lora::Lora(const Adapters& adapters, const std::vector<Part>& parts, Index inputs)
    : parameters_(adapters.parameters),
      rank_(adapters.options.rank),
      scale_(adapters.options.scale),
      dropout_(adapters.options.dropout),
      inputs_(inputs),
      parts_(parts) {
  if (parts.empty() || rank_ < 1) throw base::InternalError("Lora: no parts, or no rank");
  const double bound = 1.0 / std::sqrt(static_cast<double>(inputs));
  for (const Part& part : parts) {
    const bool continues = &part != &parts.front();
    const int number = parameters_->declare(lora_name(part.module, "A"), {rank_, inputs},
                                            ParameterKind::kMatrix, continues);
    parameters_->begin_uniform(number, bound);
    if (!continues) first_a_ = number;
  }
  std::vector<WeightGradient::Part> as;
  as.reserve(parts.size());
  for (const Part& part : parts) as.push_back({part.module, rank_});
  gradient_a_.emplace(*parameters_, first_a_, as, inputs, /*inputs_first=*/false, adapters.velora,
                      adapters.sampling);
  for (const Part& part : parts) {
    const int number = parameters_->declare(lora_name(part.module, "B"), {part.outputs, rank_},
                                            ParameterKind::kMatrix);
    parameters_->begin_uniform(number, 0.0);
    if (&part == &parts.front()) first_b_ = number;
  }
}

Index Lora::rank_end(std::size_t part) const { return static_cast<Index>(part + 1) * rank_; }

/// Masks are of training alone.
bool Lora::drops(const Pass& pass) const { return dropout_ > 0.0 && pass.draws() != nullptr; }

Ranges Lora::ranges(Index tokens, const Pass& pass) const {
  if (!drops(pass)) return MiniSequence::count(1).split(tokens, 1);
  const auto row = static_cast<std::size_t>(inputs_) * base::size_of(pass.dtype());
  return MiniSequence::budget(kDroppedBytes).split(tokens, row);
}

/// Of the rows of what a layer was given that begin with `first`.
void Lora::drop(const Tensor& out, const Tensor& x, Index first, Pass& pass) const {
  const Draws& draws = *pass.draws();
  const Index begin = pass.first_token() + first;
  const base::RandomStream stream(draws.seed, base::Purpose::kDropout, draws.step,
                                  static_cast<std::uint64_t>(first_a_));
  pass.backend().dropout(out, x, draws.numbers.rows(begin, begin + x.size(0)), stream, dropout_);
}

/// Calls visit(begin, end, drop(x) of these rows) for every range.
template <typename Visit>
void Lora::visit_dropped(const Tensor& x, Pass& pass, const Visit& visit) const {
  const Ranges all = ranges(x.size(0), pass);
  const Tensor buffer = drops(pass) ? pass.workspace({all.longest(), inputs_}) : Tensor();
  for (Index range = 0; range < all.count; ++range) {
    const Index begin = all.begin(range);
    const Index end = all.end(range);
    Tensor rows = x.rows(begin, end);
    if (buffer.defined()) {
      const Tensor dropped = buffer.rows(0, end - begin);
      drop(dropped, rows, begin, pass);
      rows = dropped;
    }
    visit(begin, end, rows);
  }
}

/// scale * drop(x) A^T of all parts.
Tensor Lora::down(const Tensor& dropped, Pass& pass) const {
  const auto count = static_cast<int>(parts_.size());
  const Tensor rows = pass.workspace({dropped.size(0), count * rank_});
  pass.backend().matmul(rows, dropped, parameters_->joined_weight(first_a_, count),
                        {.transpose_b = true});
  if (scale_ != 1.0) pass.backend().scale(rows, scale_);
  return rows;
}

void Lora::forward(const Tensor& out, const Tensor& x, Pass& pass) const {
  visit_dropped(x, pass, [&](Index begin, Index end, const Tensor& dropped) {
    const Tensor rows = down(dropped, pass);
    for (std::size_t i = 0; i < parts_.size(); ++i) {
      const Part& part = parts_[i];
      pass.backend().matmul(out.rows(begin, end).columns(part.first, part.first + part.outputs),
                            rows.columns(rank_end(i) - rank_, rank_end(i)),
                            parameters_->weight(first_b_ + static_cast<int>(i)),
                            {.transpose_b = true, .accumulate = true});
    }
  });
}

Tensor Lora::gradient_of_rows(const Tensor& dy, Pass& pass) const {
  const Tensor gradient = pass.workspace({dy.size(0), static_cast<Index>(parts_.size()) * rank_});
  for (std::size_t i = 0; i < parts_.size(); ++i) {
    const Part& part = parts_[i];
    pass.backend().matmul(gradient.columns(rank_end(i) - rank_, rank_end(i)),
                          dy.columns(part.first, part.first + part.outputs),
                          parameters_->weight(first_b_ + static_cast<int>(i)), {});
  }
  if (scale_ != 1.0) pass.backend().scale(gradient, scale_);
  return gradient;
}

void Lora::backward_weight(const Tensor& rows_gradient, const Tensor& dy, const Tensor& x,
                           Pass& pass) const {
  if (!parameters_->trains()) return;
  visit_dropped(x, pass, [&](Index begin, Index end, const Tensor& dropped) {
    {
      const TokenRange tokens(pass, pass.first_token() + begin);
      gradient_a_->add(rows_gradient.rows(begin, end), dropped, pass);
    }
    const Tensor rows = down(dropped, pass);
    for (std::size_t i = 0; i < parts_.size(); ++i) {
      const Part& part = parts_[i];
      const int b = first_b_ + static_cast<int>(i);
      const bool adds = !parameters_->claim_gradient(b, 1);
      pass.backend().matmul(parameters_->gradient(b),
                            dy.rows(begin, end).columns(part.first, part.first + part.outputs),
                            rows.columns(rank_end(i) - rank_, rank_end(i)),
                            {.transpose_a = true, .accumulate = adds});
    }
  });
}

void Lora::backward_input(const Tensor& dx, const Tensor& rows_gradient, Pass& pass) const {
  const Tensor a = parameters_->joined_weight(first_a_, static_cast<int>(parts_.size()));
  if (!drops(pass)) {
    pass.backend().matmul(dx, rows_gradient, a, {.accumulate = true});
    return;
  }
  const Ranges all = ranges(dx.size(0), pass);
  const Tensor buffer = pass.workspace({all.longest(), inputs_});
  for (Index range = 0; range < all.count; ++range) {
    const Index begin = all.begin(range);
    const Index end = all.end(range);
    const Tensor rows = buffer.rows(0, end - begin);
    pass.backend().matmul(rows, rows_gradient.rows(begin, end), a, {});
    drop(rows, rows, begin, pass);
    pass.backend().add(dx.rows(begin, end), dx.rows(begin, end), rows);
  }
}

}  // namespace longspan::nn
