#include "longspan/optim/adamw.h"

namespace longspan::optim {

AdamW::AdamW(const AdamConfig& config, nn::ParameterSet& parameters, backend::Backend& backend,
             backend::Backend* host, std::optional<std::uint64_t> rounding_seed)
    : Optimizer(config, parameters, backend, host),
      rounding_seed_(rounding_seed),
      moment1_(parameters, home(), rounding_seed ? base::DType::kBFloat16 : wide_dtype(),
               OwnState::kLikeGradients),
      moment2_(parameters, home(), moment1_.dtype(), OwnState::kLikeGradients) {}

void AdamW::update(const Piece& piece, const backend::AdamWOptions& options) {
  const nn::OwnRange& range = *piece.range;
  if (piece.direction.defined()) {
    home().adamw_compressed(piece.weight, piece.master, moment1_.of(range, piece.begin, piece.end),
                            moment2_.of(range, piece.begin, piece.end), piece.gradient,
                            piece.direction, options);
    return;
  }
  backend::AdamWOptions with = options;
  if (rounding_seed_) {
    with.rounding.emplace(*rounding_seed_, base::Purpose::kMomentRounding,
                          static_cast<std::uint64_t>(updates()),
                          static_cast<std::uint64_t>(range.number));
    with.first_element = static_cast<std::uint64_t>(range.elements.begin + piece.begin);
  }
  home().adamw(piece.weight, piece.master, moment1_.of(range, piece.begin, piece.end),
               moment2_.of(range, piece.begin, piece.end), piece.gradient, with);
}

void AdamW::append_states(std::vector<StateTensor>& states) const {
  moment1_.append_to(states, "moment1.");
  moment2_.append_to(states, "moment2.");
}

}  // namespace longspan::optim
