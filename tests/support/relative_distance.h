#pragma once

#include <catch2/catch.hpp>
#include <cmath>
#include <vector>

namespace longspan::test {

/// ||a - b|| / ||b||; 0 where there is nothing to differ.
inline double relative_distance(const std::vector<double>& a, const std::vector<double>& b) {
  REQUIRE(a.size() == b.size());
  double difference = 0.0;
  double norm = 0.0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    difference += (a[i] - b[i]) * (a[i] - b[i]);
    norm += b[i] * b[i];
  }
  return difference == 0.0 ? 0.0 : std::sqrt(difference / norm);
}

}  // namespace longspan::test
