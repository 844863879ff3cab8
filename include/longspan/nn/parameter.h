#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "longspan/backend/backend.h"

namespace longspan::nn {

/// What a parameter is, for weight decay and for its first value.
enum class ParameterKind : std::uint8_t { kMatrix, kNorm, kEmbedding };

/// One named tensor as checkpoints know it (Hugging Face's names and shapes). `weight` and
/// `gradient` are views into the set's flat storage, valid after ParameterSet::allocate.
struct Parameter {
  std::string name;
  backend::Shape shape;
  ParameterKind kind = ParameterKind::kMatrix;
  backend::Index offset = 0;  ///< first element in the flat storage
  backend::Tensor weight;     ///< the dtype of activations
  backend::Tensor gradient;   ///< float32 (float64)
};

/// All parameters of a model in one flat axis: `weights` and `gradients` are rank-1 tensors of
/// `elements()`; every parameter is a range of them. Parameters declared one after another with
/// `join` lie without a gap, so that e.g. q, k and v make one matrix; others start at a multiple
/// of 64 elements. What lies in a gap stays 0. Optimizers, reductions and partitions work on
/// ranges of the flat axis; layers and checkpoints on the named views.
class ParameterSet {
 public:
  static constexpr backend::Index kAlignment = 64;

  /// Declares a parameter; returns its number. Only before `allocate`.
  int declare(std::string name, backend::Shape shape, ParameterKind kind, bool join = false);
  /// Makes the storage: weights in `dtype`, gradients in float32 (float64 for float64), both
  /// zeroed.
  void allocate(backend::Backend& backend, base::DType dtype);

  backend::Index elements() const { return elements_; }
  const std::vector<Parameter>& parameters() const { return parameters_; }
  const Parameter& at(int number) const { return parameters_[static_cast<std::size_t>(number)]; }
  const backend::Tensor& weights() const { return weights_; }
  const backend::Tensor& gradients() const { return gradients_; }

  /// Parameters first..first+count-1 (joined, equal row lengths) as one matrix: its weight view
  /// or its gradient view.
  backend::Tensor joined_weight(int first, int count) const;
  backend::Tensor joined_gradient(int first, int count) const;

  /// Starts the gradients of a step at 0. The large ones are only marked: what is added to them
  /// first overwrites them (see `claim_gradient`), which saves writing and reading every byte.
  void start_gradients(backend::Backend& backend);
  /// Called by a layer before it adds to the gradient of parameters first..first+count-1, which it
  /// always adds to together: true when it must overwrite instead.
  bool claim_gradient(int first, int count);
  /// Makes the gradients 0 that nothing was added to since `start_gradients`. Before they are read.
  void settle_gradients(backend::Backend& backend);

  /// Writes first values: matrices and embeddings normal(0, deviation), norms 1. Depends on the
  /// seed, the parameter's number and the element alone.
  void initialise(backend::Backend& backend, std::uint64_t seed, double deviation);

 private:
  backend::Tensor joined(const backend::Tensor& flat, int first, int count) const;

  std::vector<Parameter> parameters_;
  std::vector<bool> unset_;  ///< by parameter: its gradient's contents are void
  backend::Index elements_ = 0;
  backend::Tensor weights_;
  backend::Tensor gradients_;
};

}  // namespace longspan::nn
