#include "longspan/optim/schedule.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace longspan::optim {
namespace {

/// 1 at the first step of a decay of `steps` steps, `ratio` at the last.
double linear(double progress, double ratio) { return 1.0 - (1.0 - ratio) * progress; }

double cosine(double progress, double ratio) {
  return ratio + (1.0 - ratio) * 0.5 * (1.0 + std::cos(std::numbers::pi * progress));
}

}  // namespace

double Schedule::at(std::int64_t step) const {
  if (step < warmup_steps) {
    return peak * static_cast<double>(step + 1) / static_cast<double>(warmup_steps);
  }
  const std::int64_t decay_begin =
      shape == ScheduleShape::kWsd ? total_steps - decay_steps : warmup_steps;
  const std::int64_t last = total_steps - 1;
  if (shape == ScheduleShape::kConstant || step < decay_begin || last == 0) return peak;
  // A decay of one step is at its end at once.
  const double progress = last <= decay_begin
                              ? 1.0
                              : std::min(1.0, static_cast<double>(step - decay_begin) /
                                                  static_cast<double>(last - decay_begin));
  return peak * (shape == ScheduleShape::kCosine ? cosine(progress, minimum_ratio)
                                                 : linear(progress, minimum_ratio));
}

}  // namespace longspan::optim
