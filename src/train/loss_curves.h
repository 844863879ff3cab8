#pragma once

#include <cstddef>
#include <filesystem>
#include <vector>

namespace longspan::train {

struct CurvePoint {
  double step = 0;
  double loss = 0;
};
using Curve = std::vector<CurvePoint>;

struct LossCurves {
  Curve training;
  Curve validation;
};

/// The finite losses of a metrics.jsonl, in its order. A line that is not JSON (the last one of a
/// run that was killed) is passed over. Throws InputError when the file cannot be read.
LossCurves read_loss_curves(const std::filesystem::path& metrics);

/// Moving average over up to `half_width` points on each side: as many ahead as behind, so that it
/// does not lag where the loss falls; at the end those behind alone, so that it stays smooth.
Curve smooth(const Curve& curve, std::size_t half_width);

/// At most `limit` (even) points that look the same: the lowest and highest of each of limit / 2
/// stretches, so that no spike is lost.
Curve thin_out(const Curve& curve, std::size_t limit);

}  // namespace longspan::train
