#include "longspan/base/random.h"

#include <catch2/catch.hpp>
#include <cmath>
#include <set>

using namespace longspan::base;

TEST_CASE("Philox gives the published values", "[random]") {
  // Known answers of the Random123 distribution for philox4x32 with ten rounds.
  CHECK(philox4x32({{0, 0, 0, 0}}, {{0, 0}}) ==
        PhiloxBlock{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8});
  CHECK(
      philox4x32({{0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff}}, {{0xffffffff, 0xffffffff}}) ==
      PhiloxBlock{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd});
  CHECK(
      philox4x32({{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}}, {{0xa4093822, 0x299f31d0}}) ==
      PhiloxBlock{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1});
}

TEST_CASE("streams differ in each part of their key", "[random]") {
  std::set<std::uint64_t> seen;
  for (const std::uint64_t seed : {0, 1}) {
    for (const Purpose purpose : {Purpose::kInitialWeight, Purpose::kDocumentOrder}) {
      for (const std::uint64_t step : {0, 1}) {
        for (const std::uint64_t layer : {0, 1}) {
          for (const std::uint64_t element : {0ULL, 1ULL, 1ULL << 40U}) {
            seen.insert(RandomStream(seed, purpose, step, layer).bits(element));
          }
        }
      }
    }
  }
  CHECK(seen.size() == 2 * 2 * 2 * 2 * 3);
}

TEST_CASE("uniform and normal numbers have their moments", "[random]") {
  const RandomStream stream(7, Purpose::kTest, 0, 0);
  constexpr int kCount = 200000;
  double uniform_sum = 0;
  double sum = 0;
  double squares = 0;
  for (int i = 0; i < kCount; ++i) {
    const double u = stream.uniform(static_cast<std::uint64_t>(i));
    REQUIRE(u >= 0.0);
    REQUIRE(u < 1.0);
    uniform_sum += u;
    const double x = stream.normal(static_cast<std::uint64_t>(i));
    sum += x;
    squares += x * x;
  }
  // Five standard errors.
  CHECK(uniform_sum / kCount == Approx(0.5).margin(5 * std::sqrt(1.0 / 12 / kCount)));
  CHECK(sum / kCount == Approx(0.0).margin(5 / std::sqrt(kCount)));
  CHECK(squares / kCount == Approx(1.0).margin(5 * std::sqrt(2.0 / kCount)));
}
