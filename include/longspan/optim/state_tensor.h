#pragma once

#include <functional>
#include <string>
#include <vector>

#include "longspan/backend/backend.h"
#include "longspan/nn/parameter.h"

namespace longspan::optim {

/// One named tensor of what is trained, as checkpoints hold it: a parameter's weights, or something
/// that an optimizer keeps for it. Every rank names the same ones, in one order and whole, of which
/// it holds a part.
struct StateTensor {
  std::string name;         ///< in checkpoints: "moment1.model.norm.weight"
  int parameter = 0;        ///< number of the one it belongs to
  backend::Shape shape;     ///< of the whole
  backend::Tensor held;     ///< rank 1: what this rank holds of the whole
  backend::Backend* where;  ///< it lies there
  /// Whether the rank holds what belongs to its own elements of the parameter; else it holds all.
  bool is_split = true;
  /// Of a split one: how many of the parameter's elements each of its elements stands for, one
  /// behind another. Own ranges begin at multiples of it (see nn::Placement::cut).
  backend::Index elements_each = 1;

  /// Which of its elements a rank of the parameters' partition holds.
  shard::Range part(const nn::ParameterSet& parameters, int rank) const;
};

/// Memory for a state of this rank's own elements, all of one dtype, zeroed: one element of it for
/// `elements_each` of the parameter's, the last one maybe for fewer; or kLikeGradients, one for
/// each of the gradient's (see nn::ParameterSet).
class OwnState {
 public:
  static constexpr backend::Index kLikeGradients = 0;
  using Concerns = std::function<bool(const nn::Parameter&)>;

  /// Of those parameters that `concerns` (null: of all), in memory of `where`, which outlives it.
  OwnState(const nn::ParameterSet& parameters, backend::Backend& where, base::DType dtype,
           backend::Index elements_each = 1, const Concerns& concerns = nullptr);

  /// What belongs to elements [begin, end) of an own range, counted from its first; begin is a
  /// multiple of what an element of the state stands for. Rank 1.
  backend::Tensor of(const nn::OwnRange& range, backend::Index begin, backend::Index end) const;
  backend::Tensor of(const nn::OwnRange& range) const {
    return of(range, 0, range.elements.size());
  }
  base::DType dtype() const { return storage_.dtype(); }
  /// Adds the tensors, each named `prefix` and its parameter's name.
  void append_to(std::vector<StateTensor>& states, const std::string& prefix) const;

 private:
  backend::Index each(const nn::Parameter& parameter) const;

  const nn::ParameterSet* parameters_;
  backend::Backend* where_;
  backend::Tensor storage_;
  std::vector<backend::Index> begins_;  ///< by parameter: where its part begins; kNone: nowhere
  backend::Index elements_each_;
  Concerns concerns_;
  static constexpr backend::Index kNone = -1;
};

}  // namespace longspan::optim
