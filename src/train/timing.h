#pragma once

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <utility>
#include <vector>

#include "longspan/backend/backend.h"

namespace longspan::train {

/// The middle one, or of an even number the larger of the two. There must be one.
inline double median(std::vector<double> values) {
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

/// Median over `repeats` of the seconds that run() takes on the device, after one run to warm up.
/// On a device with queues each is of several runs, so that what starting and waiting cost is not
/// the device's.
template <typename Run>
double median_seconds(int repeats, backend::Backend& backend, const Run& run) {
  const int times = backend.streams() != nullptr ? 10 : 1;
  run();
  std::vector<double> seconds;
  for (int i = 0; i < repeats; ++i) {
    backend.synchronize();
    const auto start = std::chrono::steady_clock::now();
    for (int j = 0; j < times; ++j) run();
    backend.synchronize();
    const std::chrono::duration<double> all = std::chrono::steady_clock::now() - start;
    seconds.push_back(all.count() / times);
  }
  return median(std::move(seconds));
}

}  // namespace longspan::train
