#include <array>
#include <limits>
#include <set>

#include "backend/elementwise/dynamic_map.h"
#include "tests/backend/kernel_fixture.h"

namespace longspan::backend::testing {
namespace {

AdamWOptions make_options(std::int64_t update) {
  AdamWOptions options = adamw_options(update);
  options.epsilon = 1e-8F;
  return options;
}

MapTable table_of(bool is_signed) {
  MapTable table{};
  for (int code = 0; code < kMapCodes; ++code) {
    is_signed ? table.fill<true>(code) : table.fill<false>(code);
  }
  return table;
}

/// 8-bit moments of some elements, with the master that they belong to.
struct State {
  explicit State(Index size)
      : master(DType::kFloat32, {size}),
        codes(2, std::vector<std::uint8_t>(static_cast<std::size_t>(size))),
        scales(2, std::vector<float>(static_cast<std::size_t>((size + 255) / 256))) {
    master.random(1);
  }

  Tensor code_tensor(std::size_t moment) {
    return {nullptr, codes[moment].data(), DType::kUInt8, {master.elements()}};
  }
  Tensor scale_tensor(std::size_t moment) {
    return {nullptr,
            scales[moment].data(),
            DType::kFloat32,
            {static_cast<Index>(scales[moment].size())}};
  }
  void update(const Tensor& gradient, std::int64_t number, const Tensor& weight = Tensor()) {
    processor().adamw_8bit(weight, master, code_tensor(0), scale_tensor(0), code_tensor(1),
                           scale_tensor(1), gradient, make_options(number));
  }
  double moment(std::size_t which, Index i) const {
    const MapTable table = table_of(which == 0);
    const auto at = static_cast<std::size_t>(i);
    return double{table.values[codes[which][at]]} * double{scales[which][at / 256]};
  }

  Array master;
  std::vector<std::vector<std::uint8_t>> codes;
  std::vector<std::vector<float>> scales;
};

double half_gap(const MapTable& table, std::uint8_t code) {
  const double below = code > 0 ? table.values[code] - table.values[code - 1] : 0;
  const double above = code < 255 ? table.values[code + 1] - table.values[code] : 0;
  return 0.5 * std::max(below, above);
}

}  // namespace

TEST_CASE("dynamic maps have 256 values that rise, of which one is 0 and the last is 1") {
  for (const bool is_signed : {true, false}) {
    const MapTable table = table_of(is_signed);
    for (int code = 1; code < kMapCodes; ++code) {
      CHECK(table.values[code] > table.values[code - 1]);
      CHECK(table.bounds[code] > table.bounds[code - 1]);
      CHECK(table.values[code] >= table.bounds[code - 1]);
      if (code < 255) CHECK(table.values[code] <= table.bounds[code]);
    }
    CHECK(table.values[is_signed ? 127 : 0] == 0.0F);
    CHECK(table.values[255] == 1.0F);
  }
}

TEST_CASE("dynamic maps have the values that are published") {
  const MapTable with_sign = table_of(true);
  // The least, 0.55e-6, is the middle of the first decade; its ends are (0.1 + 63.5/64 0.9) and so
  // on.
  CHECK(with_sign.values[0] == Approx(-0.99296875));
  CHECK(with_sign.values[1] == Approx(-0.97890625));
  CHECK(with_sign.values[126] == Approx(-5.5e-7));
  CHECK(with_sign.values[128] == Approx(5.5e-7));
  CHECK(with_sign.values[129] == Approx(3.25e-6));
  CHECK(with_sign.values[130] == Approx(7.75e-6));
  CHECK(with_sign.values[131] == Approx(2.125e-5));
  CHECK(with_sign.values[254] == Approx(0.99296875));
  const MapTable without = table_of(false);
  CHECK(without.values[1] == Approx(3.25e-7));
  CHECK(without.values[2] == Approx(7.75e-7));
  CHECK(without.values[3] == Approx(2.125e-6));
  CHECK(without.values[254] == Approx(0.996484375));
}

TEST_CASE("a number's code is that of the nearest value, and only 0 is 0") {
  const bool is_signed = GENERATE(true, false);
  const MapTable table = table_of(is_signed);
  const base::RandomStream stream(3, base::Purpose::kTest, 0, 0);
  for (std::uint64_t i = 0; i < 20000; ++i) {
    const double magnitude = std::pow(10.0, -8.0 * stream.uniform(2 * i));
    const bool is_negative = is_signed && stream.uniform(2 * i + 1) < 0.5;
    const auto x = static_cast<float>(is_negative ? -magnitude : magnitude);
    const std::uint8_t code = table.code_of(x);
    const float found = table.values[code];
    REQUIRE(found != 0.0F);
    REQUIRE(std::signbit(found) == std::signbit(x));
    for (int other = 0; other < kMapCodes; ++other) {
      const float value = table.values[other];
      if (value == 0.0F || std::signbit(value) != std::signbit(x)) continue;
      REQUIRE(std::abs(x - found) <= std::abs(x - value) + 1e-7F * std::abs(x));
    }
  }
  for (int code = 0; code < kMapCodes; ++code) {
    CHECK(table.code_of(table.values[code]) == code);
  }
  CHECK(table.values[table.code_of(0.0F)] == 0.0F);
  CHECK(table.values[table.code_of(-0.0F)] == 0.0F);
  CHECK(table.values[table.code_of(std::numeric_limits<float>::denorm_min())] > 0.0F);
  CHECK(table.code_of(2.0F) == 255);
  if (!is_signed) return;
  CHECK(table.values[table.code_of(-std::numeric_limits<float>::denorm_min())] < 0.0F);
  CHECK(table.code_of(-2.0F) == 0);
}

TEST_CASE(
    "adamw_8bit updates as AdamW from what its moments are, and rounds them within their gaps") {
  const Index size = GENERATE(1, 255, 256, 257, 3000);
  State state(size);
  const std::array<MapTable, 2> tables = {table_of(true), table_of(false)};
  for (int number = 1; number <= 6; ++number) {
    Array gradient(DType::kFloat32, {size});
    gradient.random(static_cast<std::uint64_t>(10 + number));
    // Sizes over many decades within a block.
    for (Index i = 0; i < size; ++i) {
      gradient.set(i, gradient.get(i) * std::pow(10.0, -static_cast<double>(i % 6)));
    }
    const AdamWOptions o = make_options(number);
    std::vector<double> masters;
    std::vector<std::array<double, 2>> moments;
    std::vector<std::array<double, 2>> most(state.scales[0].size());
    for (Index i = 0; i < size; ++i) {
      const double g = gradient.get(i) * o.gradient_scale;
      const double m = o.beta1 * state.moment(0, i) + (1.0 - o.beta1) * g;
      const double v = o.beta2 * state.moment(1, i) + (1.0 - o.beta2) * g * g;
      const double m_hat = m / (1.0 - std::pow(o.beta1, number));
      const double v_hat = v / (1.0 - std::pow(o.beta2, number));
      const double before = state.master.get(i);
      masters.push_back(before - o.learning_rate * (m_hat / (std::sqrt(v_hat) + o.epsilon) +
                                                    o.weight_decay * before));
      moments.push_back({m, v});
      auto& block = most[static_cast<std::size_t>(i / 256)];
      block = {std::max(block[0], std::abs(m)), std::max(block[1], v)};
    }
    state.update(gradient, number);
    require_close(state.master, masters, 1e-5);
    for (std::size_t block = 0; block < most.size(); ++block) {
      for (std::size_t which : {0U, 1U}) {
        CHECK(state.scales[which][block] == Approx(most[block][which]).epsilon(1e-5));
      }
    }
    for (Index i = 0; i < size; ++i) {
      const auto at = static_cast<std::size_t>(i);
      for (std::size_t which : {0U, 1U}) {
        const double exact = moments[at][which];
        const double scale = most[at / 256][which];
        const double gap = half_gap(tables[which], state.codes[which][at]);
        REQUIRE(std::abs(state.moment(which, i) - exact) <= (gap + 1e-5) * scale);
        // Also of what is too small to be told from 0.
        REQUIRE((state.moment(which, i) > 0) == (exact > 0));
        REQUIRE((state.moment(which, i) < 0) == (exact < 0));
      }
    }
  }
}

TEST_CASE("adamw_8bit: blocks know nothing of each other, nor of where a range begins") {
  const Index size = 256 * 5 + 100;
  State whole(size);
  State cut(size);
  Array gradient(DType::kFloat32, {size});
  for (int number = 1; number <= 3; ++number) {
    gradient.random(static_cast<std::uint64_t>(number));
    whole.update(gradient, number);
    for (const auto& [begin, end] : {std::pair<Index, Index>{0, 256}, {256, 1024}, {1024, size}}) {
      processor().adamw_8bit(Tensor(), cut.master.tensor().rows(begin, end),
                             cut.code_tensor(0).rows(begin, end),
                             cut.scale_tensor(0).rows(begin / 256, (end + 255) / 256),
                             cut.code_tensor(1).rows(begin, end),
                             cut.scale_tensor(1).rows(begin / 256, (end + 255) / 256),
                             gradient.tensor().rows(begin, end), make_options(number));
    }
  }
  CHECK(whole.master.same_bits(cut.master));
  CHECK(whole.codes == cut.codes);
  CHECK(whole.scales == cut.scales);
}

TEST_CASE("adamw_8bit: gradients of zeros leave moments of zeros, and no NaN") {
  State state(300);
  const Array before = state.master;
  Array gradient(DType::kFloat32, {300});
  gradient.fill(0.0);
  state.update(gradient, 1);
  CHECK(state.scales[0] == std::vector<float>{0.0F, 0.0F});
  CHECK(state.scales[1] == std::vector<float>{0.0F, 0.0F});
  for (Index i = 0; i < 300; ++i) {
    CHECK(state.moment(0, i) == 0.0);
    CHECK(state.moment(1, i) == 0.0);
    CHECK(state.master.get(i) == Approx((1.0 - 0.01 * 0.1) * before.get(i)));
  }
}

TEST_CASE("adamw_8bit: what is not finite takes nothing else of its block with it") {
  const double bad = GENERATE(std::numeric_limits<double>::quiet_NaN(),
                              std::numeric_limits<double>::infinity(), 1e30);
  State state(256);
  State clean(256);
  Array gradient(DType::kFloat32, {256});
  gradient.random(5);
  state.update(gradient, 1);
  clean.update(gradient, 1);
  const double m_before = state.moment(0, 17);
  const double v_before = state.moment(1, 17);
  gradient.set(17, bad);
  state.update(gradient, 2);
  for (Index i = 0; i < 256; ++i) {
    for (std::size_t which : {0U, 1U}) REQUIRE(std::isfinite(state.moment(which, i)));
    if (i != 17) REQUIRE(std::isfinite(state.master.get(i)));
  }
  if (!std::isfinite(bad)) {
    // Seen where one looks for it: in the weight.
    CHECK(std::isnan(state.master.get(17)));
    CHECK(state.moment(0, 17) == Approx(m_before).epsilon(0.05));
    CHECK(state.moment(1, 17) == Approx(v_before).epsilon(0.05));
    gradient.set(17, 0.0);
    clean.update(gradient, 2);
    for (Index i = 0; i < 256; ++i) {
      if (i == 17) continue;
      CHECK(state.master.get(i) == clean.master.get(i));
    }
  }
}

TEST_CASE("adamw_8bit writes the rounded master as the weight and changes nothing else by it") {
  State with(700);
  State without(700);
  Array gradient(DType::kFloat32, {700});
  gradient.random(9);
  Array weight(DType::kBFloat16, {700});
  with.update(gradient, 1, weight);
  without.update(gradient, 1);
  CHECK(with.master.same_bits(without.master));
  CHECK(with.codes == without.codes);
  Array rounded(DType::kBFloat16, {700});
  for (Index i = 0; i < 700; ++i) rounded.set(i, with.master.get(i));
  CHECK(weight.same_bits(rounded));
}

TEST_CASE("adamw_8bit is the same on one thread and on two") {
  const Index size = 100000;
  State one(size);
  State two(size);
  Array gradient(DType::kFloat32, {size});
  gradient.random(9);
  {
    const Threads threads(1);
    one.update(gradient, 1);
  }
  two.update(gradient, 1);
  CHECK(one.master.same_bits(two.master));
  CHECK(one.codes == two.codes);
  CHECK(one.scales == two.scales);
}

TEST_CASE("adamw_8bit refuses tensors that break its contract") {
  State state(300);
  const Array gradient(DType::kFloat32, {300});
  const auto update = [&](const Tensor& master, const Tensor& codes, const Tensor& scales) {
    processor().adamw_8bit(Tensor(), master, codes, scales, state.code_tensor(1),
                           state.scale_tensor(1), gradient, make_options(1));
  };
  CHECK_THROWS_WITH(update(state.master, state.code_tensor(0), state.scale_tensor(0).rows(0, 1)),
                    "adamw_8bit: scales1 is float32 [1]; expected float32 [2]");
  CHECK_THROWS_WITH(update(state.master, gradient, state.scale_tensor(0)),
                    "adamw_8bit: codes1 is float32 [300]; expected uint8 [300]");
  CHECK_THROWS_AS(
      update(Array(DType::kFloat64, {300}), state.code_tensor(0), state.scale_tensor(0)),
      base::InternalError);
}

}  // namespace longspan::backend::testing
