#include "longspan/optim/adamw_8bit.h"

namespace longspan::optim {
namespace {

using base::DType;

bool is_large(const nn::Parameter& parameter) {
  return parameter.shape.elements() >= Adamw8Bit::kLeast;
}
bool is_small(const nn::Parameter& parameter) { return !is_large(parameter); }

}  // namespace

Adamw8Bit::Adamw8Bit(const AdamConfig& config, nn::ParameterSet& parameters,
                     backend::Backend& backend, backend::Backend* host)
    : Optimizer(config, parameters, backend, host),
      codes1_(parameters, home(), DType::kUInt8, 1, is_large),
      scales1_(parameters, home(), DType::kFloat32, backend::kMomentBlock, is_large),
      codes2_(parameters, home(), DType::kUInt8, 1, is_large),
      scales2_(parameters, home(), DType::kFloat32, backend::kMomentBlock, is_large),
      small1_(parameters, home(), DType::kFloat32, 1, is_small),
      small2_(parameters, home(), DType::kFloat32, 1, is_small) {}

void Adamw8Bit::update(const Piece& piece, const backend::AdamWOptions& options) {
  const auto of = [&piece](const OwnState& state) {
    return state.of(*piece.range, piece.begin, piece.end);
  };
  if (is_small(parameters().at(piece.range->number))) {
    return home().adamw(piece.weight, piece.master, of(small1_), of(small2_), piece.gradient,
                        options);
  }
  home().adamw_8bit(piece.weight, piece.master, of(codes1_), of(scales1_), of(codes2_),
                    of(scales2_), piece.gradient, options);
}

void Adamw8Bit::append_states(std::vector<StateTensor>& states) const {
  codes1_.append_to(states, "moment1.");
  small1_.append_to(states, "moment1.");
  scales1_.append_to(states, "moment1_scale.");
  codes2_.append_to(states, "moment2.");
  small2_.append_to(states, "moment2.");
  scales2_.append_to(states, "moment2_scale.");
}

}  // namespace longspan::optim
