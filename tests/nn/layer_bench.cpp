#include "tests/nn/layer_bench.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>

namespace longspan::nn::test {

using backend::Index;
using backend::MemoryTag;
using backend::Shape;
using backend::Tensor;
using base::DType;

LayerBench::LayerBench() : backend_(backend::make_cpu_backend(std::size_t{64} << 20U)) {}

Tensor LayerBench::random(const Shape& shape) {
  const Tensor tensor = empty(shape);
  const base::RandomStream stream(7, base::Purpose::kTest, 0, ++stream_);
  backend_->random_normal(tensor, stream, 1.0, 0);
  return tensor;
}

Tensor LayerBench::empty(const Shape& shape) const {
  return backend_->allocate(shape, DType::kFloat64, MemoryTag::kWorkspace);
}

Tensor LayerBench::ids(const std::vector<std::int32_t>& values) const {
  const Tensor tensor =
      backend_->allocate({static_cast<Index>(values.size())}, DType::kInt32, MemoryTag::kWorkspace);
  backend_->copy_from_host(tensor, values.data(), tensor.bytes());
  return tensor;
}

std::vector<double> LayerBench::values(const Tensor& tensor) {
  const double* data = tensor.data<double>();
  return {data, data + tensor.elements()};
}

void LayerBench::assign(const Tensor& tensor, const std::vector<double>& values) {
  std::copy(values.begin(), values.end(), tensor.data<double>());
}

void LayerBench::fill(ParameterSet& parameters, const Placement& placement) {
  parameters.allocate(*backend_, DType::kFloat64, placement);
  int number = 0;
  for (const Parameter& parameter : parameters.parameters()) {
    const bool is_norm = parameter.kind == ParameterKind::kNorm;
    std::vector<double> values = LayerBench::values(random(parameter.shape));
    for (double& value : values) value = (is_norm ? 1.0 : 0.0) + 0.5 * value;
    assign(parameters.weight(number++), values);
  }
}

namespace {

/// cu_seqlens, and the positions within each document.
struct Documents {
  Documents(const std::vector<std::int32_t>& lengths, std::int32_t first_position) {
    for (const std::int32_t length : lengths) {
      cu_seqlens.push_back(cu_seqlens.back() + length);
      for (std::int32_t i = 0; i < length; ++i) positions.push_back(first_position + i);
    }
  }

  backend::CuSeqlens cu_seqlens{0};
  std::vector<std::int32_t> positions;
};

}  // namespace

Pass LayerBench::pass(const std::vector<std::int32_t>& lengths, Index head_dim, Pass::Keep keep,
                      std::int32_t first_position) const {
  const Documents documents(lengths, first_position);
  Pass pass(*backend_, DType::kFloat64, documents.cu_seqlens, ids(documents.positions), keep);
  set_rope_table(pass, head_dim);
  return pass;
}

Pass LayerBench::pass(const std::vector<std::int32_t>& lengths, Index head_dim,
                      const SequenceShard& shard) const {
  const Documents documents(lengths, 0);
  std::vector<std::int32_t> positions;
  for (const shard::Range& range : shard.layout.ranges(shard.rank())) {
    positions.insert(positions.end(), documents.positions.begin() + range.begin,
                     documents.positions.begin() + range.end);
  }
  Pass pass(*backend_, DType::kFloat64, documents.cu_seqlens, ids(positions), Pass::Keep::kSlots,
            shard);
  set_rope_table(pass, head_dim);
  return pass;
}

void LayerBench::set_rope_table(Pass& pass, Index head_dim) const {
  std::vector<double> frequencies;
  for (Index i = 0; i < head_dim; i += 2) {
    frequencies.push_back(std::pow(100.0, -static_cast<double>(i) / static_cast<double>(head_dim)));
  }
  const Tensor table = empty({pass.tokens(), head_dim});
  backend_->rope_table(table, pass.positions(), frequencies, 1.0);
  pass.set_rope_tables({table});
}

AttentionProjections plain_attention() {
  AttentionProjections projections;
  projections.qkv = {"q_proj", "k_proj", "v_proj"};
  projections.output = "o_proj";
  return projections;
}

AttentionProjections joined_attention() {
  const LinearOptions options{.has_bias = true, .inputs_first = true};
  return {.qkv = {"c_attn"},
          .output = "c_proj",
          .qkv_options = options,
          .output_options = options,
          .is_rotary = false};
}

AttentionProjections normed_attention() {
  AttentionProjections projections = plain_attention();
  projections.query_norm = "q_norm";
  projections.key_norm = "k_norm";
  projections.output_norm = "o_norm";
  projections.norm_options = {.epsilon = 0.25F, .weight_offset = 0.5F};
  return projections;
}

MlpProjections gated_mlp() {
  MlpProjections projections;
  projections.up = {"gate_proj", "up_proj"};
  projections.down = "down_proj";
  return projections;
}

MlpProjections biased_mlp() {
  const LinearOptions options{.has_bias = true, .inputs_first = true};
  return {.up = {"c_fc"}, .down = "c_proj", .up_options = options, .down_options = options};
}

MlpProjections normed_mlp() {
  MlpProjections projections = gated_mlp();
  projections.output_norm = "down_norm";
  projections.norm_options = {.epsilon = 0.25F, .weight_offset = 0.5F};
  return projections;
}

double dot(const Tensor& a, const Tensor& b) {
  double total = 0.0;
  for (Index i = 0; i < a.elements(); ++i) total += a.data<double>()[i] * b.data<double>()[i];
  return total;
}

void check_gradient(const std::string& what, const Tensor& point,
                    const std::vector<double>& gradient, const std::function<double()>& loss) {
  // Truncation is of the order of the step's square, cancellation of 1e-16 / step: both near 1e-10
  // for values of order 1.
  constexpr double kStep = 1e-5;
  constexpr double kTolerance = 1e-7;
  double largest = 0.0;
  for (const double value : gradient) largest = std::max(largest, std::abs(value));
  REQUIRE(gradient.size() == static_cast<std::size_t>(point.elements()));
  REQUIRE(largest > 0.0);
  double* data = point.data<double>();
  for (std::size_t i = 0; i < gradient.size(); ++i) {
    const double before = data[i];
    data[i] = before + kStep;
    const double above = loss();
    data[i] = before - kStep;
    const double below = loss();
    data[i] = before;
    const double difference = (above - below) / (2.0 * kStep);
    INFO(what << ", element " << i);
    CHECK(std::abs(gradient[i] - difference) <= kTolerance * (1.0 + largest));
  }
}

void check_parameter_gradients(const ParameterSet& parameters,
                               const std::function<double()>& loss) {
  int number = 0;
  for (const Parameter& parameter : parameters.parameters()) {
    check_gradient(parameter.name, parameters.weight(number),
                   LayerBench::values(parameters.gradient(number)), loss);
    ++number;
  }
}

}  // namespace longspan::nn::test
