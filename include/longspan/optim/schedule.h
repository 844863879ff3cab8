#pragma once

#include <cstdint>

namespace longspan::optim {

enum class ScheduleShape : std::uint8_t { kConstant, kLinear, kCosine, kWsd };

/// Learning rate by step. Linear warm-up over `warmup_steps` (step s, from 0, gets
/// (s + 1) / warmup_steps of the peak), then the shape, ending at `minimum_ratio` of the peak on
/// the last step. WSD (warm-up, stable, decay; Hu et al. 2024) stays at the peak and goes down
/// linearly over the last `decay_steps`.
struct Schedule {
  ScheduleShape shape = ScheduleShape::kCosine;
  double peak = 0.0;           ///< learning rate
  double minimum_ratio = 0.1;  ///< of the peak, at the last step
  std::int64_t warmup_steps = 0;
  std::int64_t decay_steps = 0;  ///< WSD alone: the last ones
  std::int64_t total_steps = 0;

  /// The learning rate of a step, counted from 0.
  double at(std::int64_t step) const;
};

}  // namespace longspan::optim
