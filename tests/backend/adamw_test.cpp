#include "tests/backend/kernel_fixture.h"

namespace longspan::backend::testing {
namespace {

/// The state of one parameter range.
struct State {
  State(DType dtype, Index size) : master(dtype, {size}), m(dtype, {size}), v(dtype, {size}) {
    master.random(1);
    m.fill(0.0);
    v.fill(0.0);
  }
  Array master, m, v;
};

/// The update as the paper writes it, in double.
void exact_update(State& state, const Array& gradient, const AdamWOptions& o) {
  for (Index i = 0; i < gradient.elements(); ++i) {
    const double g = double{o.gradient_scale} * gradient.get(i);
    const double m = o.beta1 * state.m.get(i) + (1.0 - o.beta1) * g;
    const double v = o.beta2 * state.v.get(i) + (1.0 - o.beta2) * g * g;
    const auto u = static_cast<double>(o.update);
    const double m_hat = m / (1.0 - std::pow(double{o.beta1}, u));
    const double v_hat = v / (1.0 - std::pow(double{o.beta2}, u));
    double master = state.master.get(i);
    master -= double{o.learning_rate} * o.weight_decay * master;
    master -= double{o.learning_rate} * m_hat / (std::sqrt(v_hat) + o.epsilon);
    state.m.set(i, m);
    state.v.set(i, v);
    state.master.set(i, master);
  }
}

TEST_CASE("adamw follows the paper over several updates") {
  const DType dtype = GENERATE(DType::kFloat32, DType::kFloat64);
  const Index size = GENERATE(0, 1, 7, 64, 1000, 40001);
  State found(dtype, size);
  State expected(DType::kFloat64, size);
  for (Index i = 0; i < size; ++i) expected.master.set(i, found.master.get(i));
  Array gradient(dtype, {size});
  for (std::int64_t update = 1; update <= 3; ++update) {
    gradient.random(10 + static_cast<std::uint64_t>(update));
    const Array before = gradient;
    processor().adamw(Tensor(), found.master, found.m, found.v, gradient, adamw_options(update));
    exact_update(expected, gradient, adamw_options(update));
    CHECK(gradient.same_bits(before));
  }
  // A handful of roundings an update, of numbers near 1.
  require_close(found.m, expected.m.values(), 16.0 * unit_roundoff(dtype));
  require_close(found.v, expected.v.values(), 16.0 * unit_roundoff(dtype));
  require_close(found.master, expected.master.values(), 16.0 * unit_roundoff(dtype));
}

TEST_CASE("adamw writes the rounded master as the weight and changes nothing else by it") {
  const DType dtype = every_float();
  State with(wide(dtype), 1000);
  State without(wide(dtype), 1000);
  Array gradient(wide(dtype), {1000});
  gradient.random(3);
  Array weight(dtype, {1000});
  processor().adamw(weight, with.master, with.m, with.v, gradient, adamw_options(1));
  processor().adamw(Tensor(), without.master, without.m, without.v, gradient, adamw_options(1));
  CHECK(with.master.same_bits(without.master));
  CHECK(with.v.same_bits(without.v));
  Array rounded(dtype, {1000});
  for (Index i = 0; i < 1000; ++i) rounded.set(i, with.master.get(i));
  CHECK(weight.same_bits(rounded));
}

TEST_CASE("decay is decoupled: a zero gradient shrinks the weight by lr * decay alone") {
  State state(DType::kFloat64, 5);
  const std::vector<double> before = state.master.values();
  Array gradient(DType::kFloat64, {5});
  gradient.fill(0.0);
  const AdamWOptions options = adamw_options(1);
  processor().adamw(Tensor(), state.master, state.m, state.v, gradient, options);
  std::vector<double> expected = before;
  for (double& value : expected) {
    value *= 1.0 - double{options.learning_rate} * options.weight_decay;
  }
  require_close(state.master, expected, 1e-15);
}

TEST_CASE("adamw is the same on one thread and on two") {
  State one(DType::kFloat32, 50000);
  State two(DType::kFloat32, 50000);
  Array gradient(DType::kFloat32, {50000});
  gradient.random(3);
  {
    const Threads threads(1);
    processor().adamw(Tensor(), one.master, one.m, one.v, gradient, adamw_options(2));
  }
  const Threads threads(2);
  processor().adamw(Tensor(), two.master, two.m, two.v, gradient, adamw_options(2));
  CHECK(one.master.same_bits(two.master));
}

namespace {

/// Moments in bfloat16, rounded by a stream of their own.
struct RoundedState {
  explicit RoundedState(Index size)
      : master(DType::kFloat32, {size}), m(DType::kBFloat16, {size}), v(DType::kBFloat16, {size}) {
    master.random(1);
    m.fill(0.0);
    v.fill(0.0);
  }
  void update(const Tensor& gradient, std::int64_t number, Index begin, Index end) {
    AdamWOptions options = adamw_options(number);
    options.rounding.emplace(11, base::Purpose::kMomentRounding, static_cast<std::uint64_t>(number),
                             4);
    options.first_element = static_cast<std::uint64_t>(1000 + begin);
    processor().adamw(Tensor(), master.tensor().rows(begin, end), m.tensor().rows(begin, end),
                      v.tensor().rows(begin, end), gradient.rows(begin, end), options);
  }
  Array master, m, v;
};

}  // namespace

TEST_CASE("adamw rounds bfloat16 moments to one of the two around them, by the element alone") {
  const Index size = 3000;
  RoundedState whole(size);
  RoundedState cut(size);
  Array gradient(DType::kFloat32, {size});
  for (int number = 1; number <= 4; ++number) {
    gradient.random(static_cast<std::uint64_t>(number));
    const AdamWOptions o = adamw_options(number);
    const std::vector<double> m = whole.m.values();
    const std::vector<double> v = whole.v.values();
    whole.update(gradient, number, 0, size);
    cut.update(gradient, number, 1777, size);
    cut.update(gradient, number, 0, 3);
    cut.update(gradient, number, 3, 1777);
    Index down = 0;
    for (Index i = 0; i < size; ++i) {
      const auto at = static_cast<std::size_t>(i);
      const double g = gradient.get(i) * o.gradient_scale;
      const double exact_m = o.beta1 * m[at] + (1.0 - o.beta1) * g;
      const double exact_v = o.beta2 * v[at] + (1.0 - o.beta2) * g * g;
      // A step of bfloat16 is at most 2^-7 of the number.
      REQUIRE(std::abs(whole.m.get(i) - exact_m) <= 0x1.01p-7 * std::abs(exact_m));
      REQUIRE(std::abs(whole.v.get(i) - exact_v) <= 0x1.01p-7 * exact_v);
      down += std::abs(whole.m.get(i)) < std::abs(exact_m) ? 1 : 0;
    }
    CHECK(down > size * 4 / 10);
    CHECK(down < size * 6 / 10);
  }
  CHECK(whole.master.same_bits(cut.master));
  CHECK(whole.m.same_bits(cut.m));
  CHECK(whole.v.same_bits(cut.v));
}

TEST_CASE("adamw's rounded moments are right in the mean, where the nearest would stand still") {
  const Index size = 4096;
  RoundedState state(size);
  state.v.fill(1.0);
  Array gradient(DType::kFloat32, {size});
  gradient.fill(0.0);
  AdamWOptions options = adamw_options(1);
  options.beta2 = 0.999F;  // v loses a thousandth: an eighth of bfloat16's last bit below 1
  const int updates = 200;
  for (int number = 1; number <= updates; ++number) {
    options.update = number;
    options.rounding.emplace(11, base::Purpose::kMomentRounding, static_cast<std::uint64_t>(number),
                             4);
    processor().adamw(Tensor(), state.master, state.m, state.v, gradient, options);
  }
  double sum = 0;
  for (const double value : state.v.values()) sum += value;
  CHECK(sum / size == Approx(std::pow(0.999, updates)).epsilon(0.005));
}

TEST_CASE("adamw refuses tensors that break its contract") {
  State state(DType::kFloat32, 4);
  const Array gradient(DType::kFloat32, {4});
  const auto update = [&](const Tensor& weight, const Tensor& master, const Tensor& g) {
    processor().adamw(weight, master, state.m, state.v, g, adamw_options(1));
  };
  CHECK_THROWS_WITH(update(Tensor(), state.master, Array(DType::kBFloat16, {4})),
                    "adamw: gradient is bfloat16 [4]; expected float32 [4]");
  CHECK_THROWS_AS(update(Tensor(), state.master, Array(DType::kFloat32, {5})), base::InternalError);
  CHECK_THROWS_AS(update(Tensor(), Array(DType::kBFloat16, {4}), gradient), base::InternalError);
  CHECK_THROWS_AS(update(Array(DType::kFloat64, {4}), state.master, gradient), base::InternalError);
  CHECK_THROWS_AS(update(Array(DType::kFloat32, {3}), state.master, gradient), base::InternalError);
  CHECK_THROWS_AS(update(Tensor(), Array(DType::kFloat32, {2, 2}), gradient), base::InternalError);
  CHECK_THROWS_AS(
      processor().adamw(Tensor(), state.master, state.m, state.v, gradient, adamw_options(0)),
      base::InternalError);
}

}  // namespace
}  // namespace longspan::backend::testing
