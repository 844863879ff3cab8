#pragma once

#include <string>

#include "train/loss_curves.h"

namespace longspan::train {

/// An SVG picture of the curves, complete in itself.
std::string render_loss_plot(const LossCurves& curves, const std::string& title);

}  // namespace longspan::train
