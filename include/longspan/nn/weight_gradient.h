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

/// Adds up dW = dy^T x of matrices W [outputs, inputs] that read the same x and lie side by side.
///
/// Of those that VeLoRA compresses, what is added up is H = scale * dy^T z, z [tokens, groups] the
/// products of x's groups of neighbours with a direction v of norm 1 (see Directions), which all of
/// them share; the gradient is H[o, g] v, that is scale * dW P, P the projection of each group on
/// v. So H, of groups / inputs the size, is all that is multiplied, reduced and kept, and the same
/// whatever portions of tokens it is added up in. dx is exact.
class WeightGradient {
 public:
  struct Part {
    std::string module;
    backend::Index outputs = 0;
  };

  /// Parameters `first` and on of the set, which outlives this. `velora` may be null. Throws
  /// InternalError where its groups do not divide the inputs, or where the matrix to be compressed
  /// is stored [inputs, outputs], as `inputs_first` says of all.
  WeightGradient(ParameterSet& parameters, int first, const std::vector<Part>& parts,
                 backend::Index inputs, bool inputs_first, const VeloraOptions* velora);

  /// dy [tokens, outputs of all parts], x [tokens, inputs], of the pass's dtype.
  void add(const backend::Tensor& dy, const backend::Tensor& x, Pass& pass) const;

 private:
  /// Parts beside each other that are alike: columns [begin, end) of dy.
  struct Run {
    int first = 0;
    int count = 0;
    backend::Index begin = 0;
    backend::Index end = 0;
    bool is_compressed = false;
  };
  backend::Tensor projected(const backend::Tensor& x, Pass& pass) const;

  ParameterSet* parameters_;
  bool inputs_first_;
  std::vector<Run> runs_;
  int direction_ = -1;  ///< -1: nothing is compressed
  backend::Index groups_ = 0;
  double scale_ = 1.0;
};

}  // namespace longspan::nn
