#pragma once

#include <optional>
#include <string>
#include <vector>

#include "longspan/nn/lora.h"
#include "longspan/nn/parameter.h"
#include "longspan/nn/pass.h"
#include "longspan/nn/weight_gradient.h"

namespace longspan::nn {

/// What a model does with matrices besides multiplying; it outlives its layers.
struct MatrixMethods {
  const Adapters* adapters = nullptr;         ///< of which layers declare their own; null: none
  const VeloraOptions* velora = nullptr;      ///< of their gradients; null: these are exact
  const SamplingOptions* sampling = nullptr;  ///< likewise
  bool packs = false;                         ///< keeps them as NF4: of a base that is not trained
};

/// What a linear layer has besides its matrix, and how that is stored and begun.
struct LinearOptions {
  bool has_bias = false;
  bool inputs_first = false;   ///< stored [inputs, outputs] (GPT-2's Conv1D): of one part alone
  double initial_scale = 1.0;  ///< of the matrix's first values: see Parameter
  MatrixMethods methods = {};
};

/// y = x W^T + b, W [outputs, inputs], or y = x W + b, W [inputs, outputs]; b if so told. Several
/// matrices that read the same input may be declared as one (q, k and v; gate and up): their
/// outputs lie side by side. To those that the options say adapters add theirs (`nn::Lora`).
class Linear {
 public:
  struct Part {
    std::string name;
    backend::Index outputs = 0;
  };

  /// Declares the parts' `name`.weight in this order, then each `name`.bias, and adapters in their
  /// own set. `parameters` must outlive the layer.
  Linear(ParameterSet& parameters, const std::vector<Part>& parts, backend::Index inputs,
         const LinearOptions& options = {});

  /// x [tokens, inputs]; out [tokens, outputs()], not x. Keeps nothing.
  void forward(const backend::Tensor& out, const backend::Tensor& x, Pass& pass) const;
  /// dx, x [tokens, inputs]; dy [tokens, outputs()]; all of the pass's dtype. dx may be x, but not
  /// dy. The gradients of matrices and biases are added to, if they train.
  void backward(const backend::Tensor& dx, const backend::Tensor& dy, const backend::Tensor& x,
                Pass& pass) const;
  /// The two halves of `backward`, for a caller that has x only once dx is known.
  void backward_weight(const backend::Tensor& dy, const backend::Tensor& x, Pass& pass) const;
  void backward_input(const backend::Tensor& dx, const backend::Tensor& dy, Pass& pass) const;

  /// Whether `backward_weight` reads x at all.
  bool needs_input() const { return parameters_->trains() || lora_; }
  backend::Index inputs() const { return inputs_; }
  backend::Index outputs() const { return outputs_; }

 private:
  void adapt(const std::vector<Part>& parts);
  void base_backward_weight(const backend::Tensor& dy, const backend::Tensor& x, Pass& pass) const;
  void base_backward_input(const backend::Tensor& dx, const backend::Tensor& dy, Pass& pass) const;

  ParameterSet* parameters_;
  LinearOptions options_;
  backend::Index inputs_;
  backend::Index outputs_ = 0;
  int first_ = 0;       ///< of the matrices
  int first_bias_ = 0;  ///< of the biases, if there are any
  int count_ = 0;       ///< of each
  std::optional<WeightGradient> gradient_;
  std::optional<Lora> lora_;
};

}  // namespace longspan::nn
