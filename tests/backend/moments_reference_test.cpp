// The maps of 8-bit moments against those of bitsandbytes: scripts/fixtures/moments_reference.py.
#include <catch2/catch.hpp>
#include <cmath>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <vector>

#include "backend/elementwise/dynamic_map.h"
#include "longspan/base/json.h"
#include "tests/support/test_data.h"

namespace longspan::backend {
namespace {

/// The script's numbers.
std::vector<float> reference_numbers(bool is_signed) {
  std::int64_t state = 12345;
  std::vector<float> numbers;
  for (int i = 0; i < 1024; ++i) {
    state = (1103515245 * state + 12345) % (std::int64_t{1} << 31);
    const double size = std::pow(10.0, -7.0 * static_cast<double>(state) / 0x1p31);
    const bool is_negative = is_signed && state / 4096 % 2 == 1;
    numbers.push_back(static_cast<float>(is_negative ? -size : size));
  }
  return numbers;
}

template <bool kSigned>
void check_map(const nlohmann::json& reference) {
  MapTable table{};
  for (int code = 0; code < kMapCodes; ++code) {
    table.fill<kSigned>(code);
    const auto at = static_cast<std::size_t>(code);
    // Of float32 that PyTorch computed in another order.
    CHECK(table.values[code] == Approx(reference["values"][at].get<double>()).epsilon(2e-7));
  }
  const std::vector<float> numbers = reference_numbers(kSigned);
  constexpr int kZero = DynamicMap<kSigned>::kZero;
  int kept_from_zero = 0;
  for (std::size_t i = 0; i < numbers.size(); ++i) {
    const auto scale = reference["scales"][i / 256].get<float>();
    float most = 0;
    for (std::size_t j = i / 256 * 256; j < i / 256 * 256 + 256; ++j) {
      most = std::max(most, std::abs(numbers[j]));
    }
    REQUIRE(most == scale);
    const int expected = reference["codes"][i].get<int>();
    const int found = table.code_of(scaled(numbers[i], scale));
    if (expected == kZero) {
      // Too small for bitsandbytes; here it is the least there is, with its sign.
      CHECK(found == (numbers[i] > 0 ? kZero + 1 : kZero - 1));
      ++kept_from_zero;
    } else {
      CHECK(found == expected);
    }
  }
  CHECK(kept_from_zero > 0);
  CHECK(kept_from_zero < 100);
}

TEST_CASE("values and codes of dynamic maps are those of bitsandbytes, but for what it makes 0") {
  const nlohmann::json reference =
      base::read_json(test::data_folder() / "backend/data/moments.json");
  check_map<true>(reference["signed"]);
  check_map<false>(reference["unsigned"]);
}

}  // namespace
}  // namespace longspan::backend
