#include "longspan/optim/galore.h"

#include <algorithm>

#include "longspan/base/error.h"

namespace longspan::optim {

using backend::Index;
using backend::MemoryTag;
using backend::Shape;
using backend::Tensor;

namespace {

Tensor flat(const Tensor& tensor) { return tensor.reshape({tensor.elements()}); }

template <typename Real>
void square_numbers(backend::Backend& where, const Tensor& matrix) {
  std::vector<Real> numbers(static_cast<std::size_t>(matrix.elements()));
  where.copy_to_host(numbers.data(), matrix, matrix.bytes());
  for (Real& number : numbers) number *= number;
  where.copy_from_host(matrix, numbers.data(), matrix.bytes());
}

/// Every element becomes its square. Of a small matrix, and rarely: by way of the host.
void square(backend::Backend& where, const Tensor& matrix) {
  matrix.dtype() == base::DType::kFloat64 ? square_numbers<double>(where, matrix)
                                          : square_numbers<float>(where, matrix);
}

}  // namespace

Galore::Galore(const AdamConfig& config, const GaloreConfig& galore, nn::ParameterSet& parameters,
               backend::Backend& backend)
    : Optimizer(config, parameters, backend, nullptr),
      galore_(galore),
      moment1_(parameters, backend, wide_dtype(), 1,
               [this](const nn::Parameter& one) { return !is_projected(one); }),
      moment2_(parameters, backend, wide_dtype(), 1,
               [this](const nn::Parameter& one) { return !is_projected(one); }) {
  if (parameters.partition().ranks() > 1) {
    throw base::InternalError("GaLore projects whole matrices, and ranks share these");
  }
  for (const nn::Parameter& parameter : parameters.parameters()) {
    projected_.push_back(is_projected(parameter) ? make_projected(parameter) : Projected());
  }
}

bool Galore::is_projected(const nn::Parameter& parameter) const {
  return parameter.kind == nn::ParameterKind::kMatrix && parameter.shape.rank() == 2 &&
         std::min(parameter.shape[0], parameter.shape[1]) >= galore_.rank;
}

Galore::Projected Galore::make_projected(const nn::Parameter& parameter) const {
  const Index rows = parameter.shape[0];
  const Index columns = parameter.shape[1];
  const auto make = [&](const Shape& shape) {
    Tensor state = home().allocate(shape, wide_dtype(), MemoryTag::kOptimizer);
    home().zero(state);
    return state;
  };
  Projected matrix;
  matrix.is_left = rows <= columns;
  matrix.projection = make({galore_.rank, std::min(rows, columns)});
  const Shape moments = matrix.is_left ? Shape{galore_.rank, columns} : Shape{rows, galore_.rank};
  matrix.moment1 = make(moments);
  matrix.moment2 = make(moments);
  return matrix;
}

Tensor Galore::scratch(const Shape& shape) const {
  return home().allocate(shape, wide_dtype(), MemoryTag::kWorkspace);
}

/// The projection of this gradient in place of the one before, whose moments it takes over.
void Galore::renew(Projected& matrix, const Tensor& gradient) const {
  const Index side = matrix.projection.size(1);
  Tensor before;
  if (updates() > 1) {
    before = scratch(matrix.projection.shape());
    home().copy(before, matrix.projection);
  }
  {
    const Tensor gram = scratch({side, side});
    home().matmul(gram, gradient, gradient,
                  {.transpose_a = !matrix.is_left, .transpose_b = matrix.is_left});
    home().principal_directions(matrix.projection, gram);
  }
  if (!before.defined()) return;  // moments are zero
  const Tensor turn = scratch({galore_.rank, galore_.rank});
  home().matmul(turn, matrix.projection, before, {.transpose_b = true});
  turn_moments(matrix, turn);
}

void Galore::turn_moments(const Projected& matrix, const Tensor& turn) const {
  const Tensor turned = scratch(matrix.moment1.shape());
  const auto apply = [&](const Tensor& moment) {
    if (matrix.is_left) {
      home().matmul(turned, turn, moment, {});
    } else {
      home().matmul(turned, moment, turn, {.transpose_b = true});
    }
    home().copy(moment, turned);
  };
  apply(matrix.moment1);
  square(home(), turn);
  apply(matrix.moment2);
}

void Galore::update(const Piece& piece, const backend::AdamWOptions& options) {
  const auto number = static_cast<std::size_t>(piece.range->number);
  Projected& matrix = projected_[number];
  if (!matrix.projection.defined()) {
    return home().adamw(piece.weight, piece.master, moment1_.of(*piece.range),
                        moment2_.of(*piece.range), piece.gradient, options);
  }
  const Shape& shape = parameters().at(piece.range->number).shape;
  const Tensor gradient = piece.gradient.reshape(shape);
  if ((updates() - 1) % galore_.interval == 0) renew(matrix, gradient);

  const Tensor projected = scratch(matrix.moment1.shape());
  if (matrix.is_left) {
    home().matmul(projected, matrix.projection, gradient, {});
  } else {
    home().matmul(projected, gradient, matrix.projection, {.transpose_b = true});
  }
  // What AdamW makes of zeros is what it would subtract, with the other sign.
  const Tensor change = scratch(matrix.moment1.shape());
  home().zero(change);
  backend::AdamWOptions adam = options;
  adam.learning_rate = static_cast<float>(options.learning_rate * galore_.scale);
  adam.weight_decay = 0.0F;
  home().adamw(Tensor(), flat(change), flat(matrix.moment1), flat(matrix.moment2), flat(projected),
               adam);

  const Tensor master = piece.master.reshape(shape);
  const double keep = 1.0 - double{options.learning_rate} * double{options.weight_decay};
  if (keep != 1.0) home().scale(master, keep);
  if (matrix.is_left) {
    home().matmul(master, matrix.projection, change, {.transpose_a = true, .accumulate = true});
  } else {
    home().matmul(master, change, matrix.projection, {.accumulate = true});
  }
  if (piece.weight.defined()) home().copy(piece.weight, piece.master);
}

void Galore::append_states(std::vector<StateTensor>& states) const {
  const auto append = [&](const char* prefix, Tensor Projected::*part) {
    for (std::size_t number = 0; number < projected_.size(); ++number) {
      const Tensor& tensor = projected_[number].*part;
      if (!tensor.defined()) continue;
      StateTensor state;
      state.parameter = static_cast<int>(number);
      state.name = prefix + parameters().at(state.parameter).name;
      state.shape = tensor.shape();
      state.held = flat(tensor);
      state.where = &home();
      state.is_split = false;
      states.push_back(std::move(state));
    }
  };
  append("projection.", &Projected::projection);
  append("moment1.", &Projected::moment1);
  moment1_.append_to(states, "moment1.");
  append("moment2.", &Projected::moment2);
  moment2_.append_to(states, "moment2.");
}

}  // namespace longspan::optim
