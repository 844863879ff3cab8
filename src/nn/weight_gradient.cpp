#include "longspan/nn/weight_gradient.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "longspan/base/error.h"
#include "longspan/nn/mini_sequence.h"

namespace longspan::nn {

using backend::Index;
using backend::Tensor;

bool ModuleNames::contain(const std::string& module) const {
  return std::any_of(names.begin(), names.end(), [&](const std::string& name) {
    return name == kAllLinear || module == name || module.ends_with("." + name);
  });
}

WeightGradient::WeightGradient(ParameterSet& parameters, int first, const std::vector<Part>& parts,
                               Index inputs, bool inputs_first, const VeloraOptions* velora,
                               const SamplingOptions* sampling)
    : parameters_(&parameters), inputs_(inputs), inputs_first_(inputs_first) {
  int number = first;
  Index begin = 0;
  for (const Part& part : parts) {
    Run run = run_of(part.module, velora, sampling);
    if (run.is_compressed) compress(number, part.module, *velora);
    if (runs_.empty() || !runs_.back().is_like(run)) {
      run.first = number;
      run.begin = begin;
      if (run.sampled >= 0) run.sampled = parameters.row_sampling().declare(sampling->ratio);
      runs_.push_back(run);
    }
    ++runs_.back().count;
    begin += part.outputs;
    runs_.back().end = begin;
    ++number;
  }
  samples_ =
      std::any_of(runs_.begin(), runs_.end(), [](const Run& run) { return run.sampled >= 0; });
  if (!samples_) return;
  ratio_ = sampling->ratio;
  range_bytes_ = sampling->range_bytes;
}

/// One of this module alone, whose group, if it is of one, has no number yet.
WeightGradient::Run WeightGradient::run_of(const std::string& module, const VeloraOptions* velora,
                                           const SamplingOptions* sampling) const {
  Run run;
  run.is_compressed = velora != nullptr && velora->modules.contain(module);
  run.sampled = sampling != nullptr && sampling->modules.contain(module) ? 0 : -1;
  if (run.is_compressed && run.sampled >= 0) {
    throw base::InternalError("the gradient of " + module + " is both compressed and sampled");
  }
  return run;
}

void WeightGradient::compress(int number, const std::string& module, const VeloraOptions& velora) {
  if (inputs_first_ || velora.groups < 1 || inputs_ % velora.groups != 0) {
    throw base::InternalError("the gradient of " + module + " cannot be compressed");
  }
  if (direction_ < 0) {
    direction_ = parameters_->directions().declare(inputs_ / velora.groups, inputs_);
  }
  groups_ = velora.groups;
  scale_ = velora.scale;
  parameters_->compress(number, direction_);
}

void WeightGradient::add(const Tensor& dy, const Tensor& x, Pass& pass) const {
  const bool finds = direction_ >= 0 && parameters_->directions().is_finding();
  if (finds) parameters_->directions().add(direction_, x);
  const Tensor z = direction_ >= 0 && !finds ? projected(x, pass) : Tensor();
  const Tensor x_norms = samples_ ? pass.workspace_statistics({x.size(0)}) : Tensor();
  if (samples_) pass.backend().row_norms(x_norms, x);
  for (const Run& run : runs_) {
    if (run.is_compressed && finds) continue;
    const Tensor of_run = runs_.size() == 1 ? dy : dy.columns(run.begin, run.end);
    if (run.sampled >= 0) {
      add_sampled(run, of_run, x, x_norms, pass);
      continue;
    }
    const bool accumulate = !parameters_->claim_gradient(run.first, run.count);
    multiply(parameters_->joined_gradient(run.first, run.count), of_run, run.is_compressed ? z : x,
             accumulate, pass);
  }
}

void WeightGradient::multiply(const Tensor& gradient, const Tensor& dy, const Tensor& x,
                              bool accumulate, Pass& pass) const {
  pass.backend().matmul(gradient, inputs_first_ ? x : dy, inputs_first_ ? dy : x,
                        {.transpose_a = true, .accumulate = accumulate});
}

Tensor WeightGradient::projected(const Tensor& x, Pass& pass) const {
  const Tensor z = pass.workspace({x.size(0), groups_});
  pass.backend().project(z, x, parameters_->directions().of(direction_), scale_);
  return z;
}

/// A quarter of what is expected: few products, of which the last wastes half on an average.
Index WeightGradient::rows_at_a_time(Index tokens, Index outputs, base::DType dtype) const {
  const auto row = static_cast<std::size_t>(inputs_ + outputs) * base::size_of(dtype);
  const auto quarter = static_cast<Index>(std::ceil(ratio_ * static_cast<double>(tokens) / 4.0));
  return std::min(quarter, MiniSequence::budget(range_bytes_).split(tokens, row).longest());
}

void WeightGradient::add_sampled(const Run& run, const Tensor& dy, const Tensor& x,
                                 const Tensor& x_norms, Pass& pass) const {
  if (pass.draws() == nullptr) {
    throw base::InternalError("gradients are made of sampled tokens in a pass that has no draws");
  }
  backend::Backend& backend = pass.backend();
  const Index tokens = x.size(0);
  const Index most = rows_at_a_time(tokens, dy.size(1), pass.dtype());
  const Index places = most == 0 ? 0 : (tokens + most - 1) / most * most;
  const Tensor dy_norms = pass.workspace_statistics({tokens});
  const Tensor weights = pass.workspace_statistics({places});
  const Tensor rows =
      backend.allocate({places}, base::DType::kInt32, backend::MemoryTag::kWorkspace);
  const Tensor x_rows = pass.workspace({most, inputs_});
  const Tensor dy_rows = pass.workspace({most, dy.size(1)});

  const Draws& draws = *pass.draws();
  const Index first = pass.first_token();
  backend.row_norms(dy_norms, dy);
  RowSampling& sampling = parameters_->row_sampling();
  const backend::DrawnRows drawn =
      backend.draw_rows(rows, weights, x_norms, dy_norms, draws.numbers.rows(first, first + tokens),
                        sampling.draw(run.sampled, draws.seed, draws.step));
  sampling.add(run.sampled, drawn);

  bool accumulate = !parameters_->claim_gradient(run.first, run.count);
  const Tensor gradient = parameters_->joined_gradient(run.first, run.count);
  Index begin = 0;
  do {  // once, too, where nothing was drawn
    const Index end = begin + most;
    backend.gather_rows(x_rows, rows.rows(begin, end), x);
    backend.gather_rows(dy_rows, rows.rows(begin, end), dy);
    backend.scale_rows(dy_rows, weights.rows(begin, end));
    multiply(gradient, dy_rows, x_rows, std::exchange(accumulate, true), pass);
    begin = end;
  } while (begin < drawn.count);
}

}  // namespace longspan::nn
