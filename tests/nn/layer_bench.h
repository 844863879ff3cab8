#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "longspan/backend/backend.h"
#include "longspan/nn/attention.h"
#include "longspan/nn/mlp.h"
#include "longspan/nn/parameter.h"
#include "longspan/nn/pass.h"

namespace longspan::nn::test {

/// What the tests of layers share: a float64 cpu backend, random tensors, and central differences.
class LayerBench {
 public:
  LayerBench();

  backend::Backend& backend() const { return *backend_; }

  /// Standard normal values; every call gives others.
  backend::Tensor random(const backend::Shape& shape);
  /// Uninitialised float64.
  backend::Tensor empty(const backend::Shape& shape) const;
  backend::Tensor ids(const std::vector<std::int32_t>& values) const;
  static std::vector<double> values(const backend::Tensor& tensor);
  static void assign(const backend::Tensor& tensor, const std::vector<double>& values);

  /// Allocates in float64 and fills all weights with normal values of deviation 0.5 around 0
  /// (norms: around 1).
  void fill(ParameterSet& parameters, const Placement& placement = {});
  /// A float64 pass over documents of these lengths, with a rope table of `head_dim`.
  Pass pass(const std::vector<std::int32_t>& lengths, backend::Index head_dim = 2,
            Pass::Keep keep = Pass::Keep::kSlots, std::int32_t first_position = 0) const;
  /// The same of a row that ranks share, of which this rank holds a part.
  Pass pass(const std::vector<std::int32_t>& lengths, backend::Index head_dim,
            const SequenceShard& shard) const;

 private:
  void set_rope_table(Pass& pass, backend::Index head_dim) const;

  std::unique_ptr<backend::Backend> backend_;
  std::uint64_t stream_ = 0;
};

/// Llama's: q, k and v of names of their own, rotated, without biases; and GPT-2's: one matrix
/// stored inputs first, with biases, not rotated.
AttentionProjections plain_attention();
AttentionProjections joined_attention();
/// Gemma's: norms of the heads of q and k, and of the output, with a weight_offset.
AttentionProjections normed_attention();
/// The same of their MLPs.
MlpProjections gated_mlp();
MlpProjections biased_mlp();
MlpProjections normed_mlp();

/// sum of a * b.
double dot(const backend::Tensor& a, const backend::Tensor& b);

/// Checks `gradient` (as dense values) against central differences of `loss` in every element of
/// `point`.
void check_gradient(const std::string& what, const backend::Tensor& point,
                    const std::vector<double>& gradient, const std::function<double()>& loss);

/// The same for every parameter of a set.
void check_parameter_gradients(const ParameterSet& parameters, const std::function<double()>& loss);

}  // namespace longspan::nn::test
