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

Array make_gate_up(DType dtype, const Case& size) {
  Array gate_up(dtype, {size.tokens, 2 * size.inner}, size.padding);
  return gate_up.random(1, 3.0);
}

double exact_sigmoid(double x) { return 1.0 / (1.0 + std::exp(-x)); }

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

TEST_CASE("exponential goes to 0, to infinity and keeps NaN") {
  CHECK(cpu::exponential(-88.0F) == 0.0F);
  CHECK(cpu::exponential(-1e30F) == 0.0F);
  CHECK(cpu::exponential(-INFINITY) == 0.0F);
  CHECK(cpu::exponential(88.8F) == INFINITY);
  CHECK(cpu::exponential(1e30F) == INFINITY);
  CHECK(cpu::exponential(INFINITY) == INFINITY);
  CHECK(std::isnan(cpu::exponential(NAN)));
}

TEST_CASE("swiglu_forward agrees with double") {
  const DType dtype = every_float();
  const Case size = awkward_size();
  const Array gate_up = make_gate_up(dtype, size);
  Array out(dtype, {size.tokens, size.inner}, size.padding);
  processor().swiglu_forward(out, gate_up);
  std::vector<double> expected;
  for (Index t = 0; t < size.tokens; ++t) {
    for (Index i = 0; i < size.inner; ++i) {
      const double gate = gate_up.get(t * 2 * size.inner + i);
      expected.push_back(gate * exact_sigmoid(gate) *
                         gate_up.get(t * 2 * size.inner + size.inner + i));
    }
  }
  require_close(out, expected, unit_roundoff(dtype) + 8.0 * unit_roundoff(wide(dtype)));
}

TEST_CASE("swiglu stays finite for gates of any size") {
  const DType dtype = every_float();
  Array gate_up(dtype, {1, 8});
  const std::vector<double> gates = {-1e30, -200.0, 200.0, 1e30};
  for (Index i = 0; i < 4; ++i) gate_up.set(i, gates[static_cast<std::size_t>(i)]);
  for (Index i = 4; i < 8; ++i) gate_up.set(i, 1.0);
  Array out(dtype, {1, 4});
  processor().swiglu_forward(out, gate_up);
  const double huge = gate_up.get(3);
  require_close(out, {0.0, 0.0, gate_up.get(2), huge}, unit_roundoff(dtype));
  Array gradient(dtype, {1, 8});
  Array dout(dtype, {1, 4});
  dout.fill(1.0);
  processor().swiglu_backward(gradient, Tensor(), dout, gate_up);
  require_close(gradient, {0.0, 0.0, 1.0, 1.0, 0.0, 0.0, gate_up.get(2), huge},
                unit_roundoff(dtype));
}

TEST_CASE("swiglu_backward agrees with double, in place too, and repeats the product's bits") {
  const DType dtype = every_float();
  const Case size = awkward_size();
  Array gate_up = make_gate_up(dtype, size);
  Array dout(dtype, {size.tokens, size.inner}, size.padding);
  dout.random(2);
  std::vector<double> expected(static_cast<std::size_t>(gate_up.elements()));
  for (Index i = 0; i < dout.elements(); ++i) {
    const Index at = i / size.inner * 2 * size.inner + i % size.inner;
    const double gate = gate_up.get(at);
    const double s = exact_sigmoid(gate);
    expected[static_cast<std::size_t>(at)] =
        dout.get(i) * gate_up.get(at + size.inner) * (s + gate * s * (1.0 - s));
    expected[static_cast<std::size_t>(at + size.inner)] = dout.get(i) * gate * s;
  }
  Array forward(dtype, {size.tokens, size.inner});
  processor().swiglu_forward(forward, gate_up);

  Array gradient(dtype, {size.tokens, 2 * size.inner}, size.padding);
  processor().swiglu_backward(gradient, Tensor(), dout, gate_up);
  // 1 - sigmoid loses what the sigmoid had rounded: an absolute error, times |gate| of up to 15.
  require_close(gradient, expected, unit_roundoff(dtype) + 128.0 * unit_roundoff(wide(dtype)));

  Array out(dtype, {size.tokens, size.inner}, size.padding);
  processor().swiglu_backward(gate_up, out, dout, gate_up);
  CHECK(out.same_bits(forward));
  CHECK(gate_up.same_bits(gradient));
  CHECK(gate_up.gaps_untouched());
  CHECK(out.gaps_untouched());
}

TEST_CASE("swiglu_backward agrees with finite differences") {
  Array gate_up = make_gate_up(DType::kFloat64, {4, 3, 1});
  Array dout(DType::kFloat64, {4, 3});
  dout.random(2);
  Array gradient(DType::kFloat64, {4, 6});
  processor().swiglu_backward(gradient, Tensor(), dout, gate_up);
  Array out(DType::kFloat64, {4, 3});
  const auto slope = finite_difference(gate_up, [&] {
    processor().swiglu_forward(out, gate_up);
    return dot(out, dout);
  });
  require_close(gradient, slope, kDifferenceTolerance);
}

TEST_CASE("swiglu refuses tensors that break its contract") {
  const Array gate_up(DType::kFloat32, {3, 8});
  CHECK_THROWS_AS(processor().swiglu_forward(Array(DType::kFloat32, {3, 8}), gate_up),
                  base::InternalError);
  CHECK_THROWS_AS(processor().swiglu_forward(Array(DType::kBFloat16, {3, 4}), gate_up),
                  base::InternalError);
  CHECK_THROWS_AS(
      processor().swiglu_forward(Array(DType::kFloat32, {3, 3}), Array(DType::kFloat32, {3, 7})),
      base::InternalError);
  const Array dout(DType::kFloat32, {3, 4});
  CHECK_THROWS_AS(processor().swiglu_backward(dout, Tensor(), dout, gate_up), base::InternalError);
  CHECK_THROWS_AS(processor().swiglu_backward(gate_up, gate_up, dout, gate_up),
                  base::InternalError);
}

}  // namespace
}  // namespace longspan::backend::testing
