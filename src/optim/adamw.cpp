#include "longspan/optim/adamw.h"

namespace longspan::optim {

AdamW::AdamW(const AdamConfig& config, nn::ParameterSet& parameters, backend::Backend& backend,
             backend::Backend* host)
    : Optimizer(config, parameters, backend, host),
      moment1_(parameters, home(), wide_dtype()),
      moment2_(parameters, home(), wide_dtype()) {}

void AdamW::update(const Piece& piece, const backend::AdamWOptions& options) {
  home().adamw(piece.weight, piece.master, moment1_.of(*piece.range, piece.begin, piece.end),
               moment2_.of(*piece.range, piece.begin, piece.end), piece.gradient, options);
}

void AdamW::append_states(std::vector<StateTensor>& states) const {
  moment1_.append_to(states, "moment1.");
  moment2_.append_to(states, "moment2.");
}

}  // namespace longspan::optim
