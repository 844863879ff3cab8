#pragma once

#include <string>
#include <vector>

#include "train/loss_curves.h"

namespace longspan::train {

/// Multiples of 1, 2 or 5 times a power of ten, at least `smallest`, that lie in [low, high]: at
/// most `most` + 1 of them.
std::vector<double> nice_ticks(double low, double high, int most, double smallest);

/// An SVG picture of the curves, complete in itself.
std::string render_loss_plot(const LossCurves& curves, const std::string& title);

}  // namespace longspan::train
