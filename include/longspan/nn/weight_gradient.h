#pragma once

#include <string>
#include <vector>

#include "longspan/nn/parameter.h"
#include "longspan/nn/pass.h"

namespace longspan::nn {

/// Modules by their names in the model, or by the ends of these behind a dot ("q_proj"), as PEFT
/// has them; kAllLinear alone: all matrices of blocks.
struct ModuleNames {
  static constexpr const char* kAllLinear = "all-linear";
  std::vector<std::string> names;

  /// Whether the module of this full name ("model.layers.0.self_attn.q_proj") is one.
  bool contain(const std::string& module) const;
};

/// Which matrices have compressed gradients (VeLoRA, Miles et al. 2024): see WeightGradient.
struct VeloraOptions {
  backend::Index groups = 0;  ///< numbers that are left of a row of inputs, which they divide
  double scale = 1.0;         ///< of the gradient
  ModuleNames modules;
};

/// Which matrices have gradients that are made of sampled tokens: see WeightGradient.
struct SamplingOptions {
  double ratio = 1.0;  ///< of the tokens, expected; in (0, 1]
  ModuleNames modules;
  /// Of the rows that are gathered at a time, at most.
  std::size_t range_bytes = std::size_t{64} << 20U;
};

/// Adds up dW = dy^T x of matrices W [outputs, inputs] that read the same x and lie side by side.
///
/// Of those that VeLoRA compresses, what is added up is H = scale * dy^T z, z [tokens, groups] the
/// products of x's groups of neighbours with a direction v of norm 1 (see Directions), which all of
/// them share; the gradient is H[o, g] v, that is scale * dW P, P the projection of each group on
/// v. So H, of groups / inputs the size, is all that is multiplied, reduced and kept, and the same
/// whatever portions of tokens it is added up in. dx is exact.
///
/// Of those that are sampled (column-row sampling, Drineas et al. 2006, of tokens as WTA-CRS, Liu
/// et al. 2023, but each drawn on its own), what is added up is the sum over drawn tokens n of
/// dy_n^T x_n / p_n, p_n = min(1, f |x_n| |dy_n|) the probability that n is drawn and f the group's
/// factor (see RowSampling). Its mean is dW, its variance the sum over n of (1 / p_n - 1)
/// |x_n|^2 |dy_n|^2; the largest tokens, of p = 1, are kept exactly. Matrices side by side that are
/// sampled make one group, with the same draws. These go with seed, step, group and the token's
/// number in its step: they are the same at any layout of ranks, in any portions, and when a step
/// is run again. Rows drawn are gathered for products that always have the same number of them, the
/// last filled with zeros: sizes of products and memory do not go with the draws. dx is exact.
class WeightGradient {
 public:
  struct Part {
    std::string module;
    backend::Index outputs = 0;
  };

  /// Parameters `first` and on of the set, which outlives this. `velora` and `sampling` may be
  /// null. Throws InternalError where a matrix is named by both, where velora's groups do not
  /// divide the inputs, or where the matrix to be compressed is stored [inputs, outputs], as
  /// `inputs_first` says of all.
  WeightGradient(ParameterSet& parameters, int first, const std::vector<Part>& parts,
                 backend::Index inputs, bool inputs_first, const VeloraOptions* velora,
                 const SamplingOptions* sampling);

  /// dy [tokens, outputs of all parts], x [tokens, inputs], of the pass's dtype: the rows of its
  /// tokens from `Pass::first_token` on. Throws InternalError where something is sampled and the
  /// pass has no draws.
  void add(const backend::Tensor& dy, const backend::Tensor& x, Pass& pass) const;

 private:
  /// Parts beside each other that are alike: columns [begin, end) of dy.
  struct Run {
    int first = 0;
    int count = 0;
    backend::Index begin = 0;
    backend::Index end = 0;
    bool is_compressed = false;
    int sampled = -1;  ///< number of its group; -1: all tokens count

    bool is_like(const Run& other) const {
      return is_compressed == other.is_compressed && (sampled < 0) == (other.sampled < 0);
    }
  };
  Run run_of(const std::string& module, const VeloraOptions* velora,
             const SamplingOptions* sampling) const;
  void compress(int number, const std::string& module, const VeloraOptions& velora);
  void multiply(const backend::Tensor& gradient, const backend::Tensor& dy,
                const backend::Tensor& x, bool accumulate, Pass& pass) const;
  backend::Tensor projected(const backend::Tensor& x, Pass& pass) const;
  void add_sampled(const Run& run, const backend::Tensor& dy, const backend::Tensor& x,
                   const backend::Tensor& x_norms, Pass& pass) const;
  backend::Index rows_at_a_time(backend::Index tokens, backend::Index outputs,
                                base::DType dtype) const;

  ParameterSet* parameters_;
  backend::Index inputs_;
  bool inputs_first_;
  std::vector<Run> runs_;
  int direction_ = -1;  ///< -1: nothing is compressed
  backend::Index groups_ = 0;
  double scale_ = 1.0;
  bool samples_ = false;
  double ratio_ = 1.0;
  std::size_t range_bytes_ = 0;
};

}  // namespace longspan::nn
