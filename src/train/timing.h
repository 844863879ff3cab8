#pragma once

#include <algorithm>
#include <chrono>
#include <vector>

#include "longspan/backend/backend.h"

namespace longspan::train {

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
  std::nth_element(seconds.begin(), seconds.begin() + repeats / 2, seconds.end());
  return seconds[static_cast<std::size_t>(repeats / 2)];
}

}  // namespace longspan::train
