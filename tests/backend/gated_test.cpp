#include "backend/cpu/vector_math.h"
#include "tests/backend/kernel_fixture.h"

namespace longspan::backend::testing {
namespace {

struct Case {
  Index tokens, inner, padding;
};

Case awkward_size() {
  return GENERATE(Case{0, 8, 0}, Case{1, 1, 0}, Case{7, 64, 0}, Case{5, 7, 3}, Case{3, 1000, 1},
                  Case{300, 37, 0});
}

GateActivation every_activation() {
  return GENERATE(GateActivation::kSilu, GateActivation::kGeluTanh);
}

Array make_gate_up(DType dtype, const Case& size) {
  Array gate_up(dtype, {size.tokens, 2 * size.inner}, size.padding);
  return gate_up.random(1, 3.0);
}

struct Gate {
  double value, slope;
};

/// The gate's function and its derivative.
Gate exact_gate(GateActivation activation, double x) {
  const auto sigmoid = [](double argument) { return 1.0 / (1.0 + std::exp(-argument)); };
  if (activation == GateActivation::kSilu) {
    const double s = sigmoid(x);
    return {x * s, s + x * s * (1.0 - s)};
  }
  // 0.5 (1 + tanh(u)) = sigmoid(2 u)
  const double root = std::sqrt(2.0 / M_PI);
  const double s = sigmoid(2.0 * root * (x + 0.044715 * x * x * x));
  return {x * s, s + x * s * (1.0 - s) * 2.0 * root * (1.0 + 3.0 * 0.044715 * x * x)};
}

TEST_CASE("exponential is within two units in the last place of the exact value") {
  double worst = 0.0;
  for (float x = -86.5F; x < 88.7F; x += 0.00037F) {
    const double exact = std::exp(static_cast<double>(x));
    worst = std::max(worst, std::abs(static_cast<double>(cpu::exponential(x)) - exact) / exact);
  }
  CHECK(worst < 2.0 * 0x1p-23);
  CHECK(cpu::exponential(0.0F) == 1.0F);
  CHECK(cpu::exponential(-0.0F) == 1.0F);
}

TEST_CASE("hyperbolic_tangent is within a few units in the last place of the exact value") {
  double worst = 0.0;
  for (float x = -12.0F; x < 12.0F; x += 0.000173F) {
    const double exact = std::tanh(static_cast<double>(x));
    const double apart = static_cast<double>(cpu::hyperbolic_tangent(x)) - exact;
    worst = std::max(worst, std::abs(apart / exact));
  }
  CHECK(worst < 4.0 * 0x1p-23);
  CHECK(cpu::hyperbolic_tangent(0.0F) == 0.0F);
  CHECK(cpu::hyperbolic_tangent(1e-30F) == 1e-30F);
  CHECK(cpu::hyperbolic_tangent(1e30F) == 1.0F);
  CHECK(cpu::hyperbolic_tangent(-INFINITY) == -1.0F);
  CHECK(std::isnan(cpu::hyperbolic_tangent(NAN)));
}

TEST_CASE("exponential goes to 0, to infinity and keeps NaN") {
  CHECK(cpu::exponential(-88.0F) == 0.0F);
  CHECK(cpu::exponential(-1e30F) == 0.0F);
  CHECK(cpu::exponential(-INFINITY) == 0.0F);
  CHECK(cpu::exponential(88.8F) == INFINITY);
  CHECK(cpu::exponential(1e30F) == INFINITY);
  CHECK(cpu::exponential(INFINITY) == INFINITY);
  CHECK(std::isnan(cpu::exponential(NAN)));
}

TEST_CASE("gated_forward agrees with double") {
  const GateActivation activation = every_activation();
  const DType dtype = every_float();
  const Case size = awkward_size();
  const Array gate_up = make_gate_up(dtype, size);
  Array out(dtype, {size.tokens, size.inner}, size.padding);
  processor().gated_forward(out, gate_up, activation);
  std::vector<double> expected;
  for (Index t = 0; t < size.tokens; ++t) {
    for (Index i = 0; i < size.inner; ++i) {
      const Gate gate = exact_gate(activation, gate_up.get(t * 2 * size.inner + i));
      expected.push_back(gate.value * gate_up.get(t * 2 * size.inner + size.inner + i));
    }
  }
  require_close(out, expected, unit_roundoff(dtype) + 8.0 * unit_roundoff(wide(dtype)));
}

TEST_CASE("gated stays finite for gates of any size") {
  const GateActivation activation = every_activation();
  const DType dtype = every_float();
  Array gate_up(dtype, {1, 8});
  const std::vector<double> gates = {-1e30, -200.0, 200.0, 1e30};
  for (Index i = 0; i < 4; ++i) gate_up.set(i, gates[static_cast<std::size_t>(i)]);
  for (Index i = 4; i < 8; ++i) gate_up.set(i, 1.0);
  Array out(dtype, {1, 4});
  processor().gated_forward(out, gate_up, activation);
  const double huge = gate_up.get(3);
  require_close(out, {0.0, 0.0, gate_up.get(2), huge}, unit_roundoff(dtype));
  Array gradient(dtype, {1, 8});
  Array dout(dtype, {1, 4});
  dout.fill(1.0);
  processor().gated_backward(gradient, Tensor(), dout, gate_up, activation);
  require_close(gradient, {0.0, 0.0, 1.0, 1.0, 0.0, 0.0, gate_up.get(2), huge},
                unit_roundoff(dtype));
}

TEST_CASE("gated_backward agrees with double, in place too, and repeats the product's bits") {
  const GateActivation activation = every_activation();
  const DType dtype = every_float();
  const Case size = awkward_size();
  Array gate_up = make_gate_up(dtype, size);
  Array dout(dtype, {size.tokens, size.inner}, size.padding);
  dout.random(2);
  std::vector<double> expected(static_cast<std::size_t>(gate_up.elements()));
  for (Index i = 0; i < dout.elements(); ++i) {
    const Index at = i / size.inner * 2 * size.inner + i % size.inner;
    const Gate gate = exact_gate(activation, gate_up.get(at));
    expected[static_cast<std::size_t>(at)] =
        dout.get(i) * gate_up.get(at + size.inner) * gate.slope;
    expected[static_cast<std::size_t>(at + size.inner)] = dout.get(i) * gate.value;
  }
  Array forward(dtype, {size.tokens, size.inner});
  processor().gated_forward(forward, gate_up, activation);

  Array gradient(dtype, {size.tokens, 2 * size.inner}, size.padding);
  processor().gated_backward(gradient, Tensor(), dout, gate_up, activation);
  // 1 - sigmoid loses what the sigmoid had rounded: an absolute error, times |gate| of up to 15.
  require_close(gradient, expected, unit_roundoff(dtype) + 128.0 * unit_roundoff(wide(dtype)));

  Array out(dtype, {size.tokens, size.inner}, size.padding);
  processor().gated_backward(gate_up, out, dout, gate_up, activation);
  CHECK(out.same_bits(forward));
  CHECK(gate_up.same_bits(gradient));
  CHECK(gate_up.gaps_untouched());
  CHECK(out.gaps_untouched());
}

TEST_CASE("gated_backward agrees with finite differences") {
  const GateActivation activation = every_activation();
  Array gate_up = make_gate_up(DType::kFloat64, {4, 3, 1});
  Array dout(DType::kFloat64, {4, 3});
  dout.random(2);
  Array gradient(DType::kFloat64, {4, 6});
  processor().gated_backward(gradient, Tensor(), dout, gate_up, activation);
  Array out(DType::kFloat64, {4, 3});
  const auto slope = finite_difference(gate_up, [&] {
    processor().gated_forward(out, gate_up, activation);
    return dot(out, dout);
  });
  require_close(gradient, slope, kDifferenceTolerance);
}

TEST_CASE("gated refuses tensors that break its contract") {
  const GateActivation activation = every_activation();
  const Array gate_up(DType::kFloat32, {3, 8});
  CHECK_THROWS_AS(processor().gated_forward(Array(DType::kFloat32, {3, 8}), gate_up, activation),
                  base::InternalError);
  CHECK_THROWS_AS(processor().gated_forward(Array(DType::kBFloat16, {3, 4}), gate_up, activation),
                  base::InternalError);
  CHECK_THROWS_AS(processor().gated_forward(Array(DType::kFloat32, {3, 3}),
                                            Array(DType::kFloat32, {3, 7}), activation),
                  base::InternalError);
  const Array dout(DType::kFloat32, {3, 4});
  CHECK_THROWS_AS(processor().gated_backward(dout, Tensor(), dout, gate_up, activation),
                  base::InternalError);
  CHECK_THROWS_AS(processor().gated_backward(gate_up, gate_up, dout, gate_up, activation),
                  base::InternalError);
}

}  // namespace
}  // namespace longspan::backend::testing
