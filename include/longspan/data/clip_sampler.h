#pragma once

#include <cstdint>
#include <vector>

namespace longspan::data {

/// Which clips make the global batch of a step: a pure function of the options and the step, the
/// same on every rank and for every number of ranks. An epoch visits every clip once, in an order
/// of its own; epochs follow each other without a gap, also within a step. Not thread-safe.
class ClipSampler {
 public:
  /// Over clips 0 to `clips` - 1. Throws InternalError where there is none, or none in a step.
  ClipSampler(std::int64_t clips, std::int64_t clips_per_step, std::uint64_t seed);

  /// `step` counts from 0.
  std::vector<std::int64_t> clips(std::int64_t step);

 private:
  struct Order {
    std::int64_t epoch = -1;
    std::vector<std::int64_t> clips;
  };

  std::int64_t clips_;
  std::int64_t clips_per_step_;
  std::uint64_t seed_;
  Order order_;  ///< of the epoch asked for last
};

}  // namespace longspan::data
