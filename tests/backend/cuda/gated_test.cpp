#include "tests/backend/cuda/cuda_fixture.h"

namespace longspan::backend::cuda::testing {
namespace {

struct Case {
  Index tokens, inner, padding;
};

/// Whole packs and not, rows that share a block, several blocks, gaps that keep and break
/// alignment.
Case awkward_size() {
  return GENERATE(Case{0, 8, 0}, Case{1, 1, 0}, Case{7, 64, 0}, Case{5, 7, 3}, Case{3, 1000, 1},
                  Case{300, 37, 0}, Case{2, 20000, 8}, Case{33, 16, 16});
}

GateActivation every_activation() {
  return GENERATE(GateActivation::kSilu, GateActivation::kGeluTanh);
}

Array make_gate_up(DType dtype, const Case& size) {
  Array gate_up(dtype, {size.tokens, 2 * size.inner}, size.padding);
  return gate_up.random(1, 3.0);
}

TEST_CASE("cuda gated_forward is the cpu's") {
  const GateActivation activation = every_activation();
  Device device(every_order());
  const DType dtype = every_float();
  const Case size = awkward_size();
  const Array gate_up = make_gate_up(dtype, size);
  Array out(dtype, {size.tokens, size.inner}, size.padding);
  Array expected(dtype, {size.tokens, size.inner});
  device.gated_forward(out, gate_up, activation);
  processor().gated_forward(expected, gate_up, activation);
  require_near(out, expected, same_arithmetic(dtype), 0.0);
}

TEST_CASE("cuda gated stays finite for gates of any size") {
  const GateActivation activation = every_activation();
  Device device;
  const DType dtype = every_float();
  Array gate_up(dtype, {1, 8});
  const std::vector<double> gates = {-1e30, -200.0, 200.0, 1e30};
  for (Index i = 0; i < 4; ++i) gate_up.set(i, gates[static_cast<std::size_t>(i)]);
  for (Index i = 4; i < 8; ++i) gate_up.set(i, 1.0);
  Array out(dtype, {1, 4});
  device.gated_forward(out, gate_up, activation);
  const double huge = gate_up.get(3);
  require_close(out, {0.0, 0.0, gate_up.get(2), huge}, unit_roundoff(dtype));
  Array gradient(dtype, {1, 8});
  Array dout(dtype, {1, 4});
  dout.fill(1.0);
  device.gated_backward(gradient, Tensor(), dout, gate_up, activation);
  require_close(gradient, {0.0, 0.0, 1.0, 1.0, 0.0, 0.0, gate_up.get(2), huge},
                unit_roundoff(dtype));
}

TEST_CASE("cuda gated_backward is the cpu's, in place too, and repeats the product's bits") {
  const GateActivation activation = every_activation();
  Device device(every_order());
  const DType dtype = every_float();
  const Case size = awkward_size();
  Array gate_up = make_gate_up(dtype, size);
  Array dout(dtype, {size.tokens, size.inner}, size.padding);
  dout.random(2);
  Array expected(dtype, {size.tokens, 2 * size.inner});
  processor().gated_backward(expected, Tensor(), dout, gate_up, activation);
  Array product(dtype, {size.tokens, size.inner});
  device.gated_forward(product, gate_up, activation);

  Array gradient(dtype, {size.tokens, 2 * size.inner}, size.padding);
  device.gated_backward(gradient, Tensor(), dout, gate_up, activation);
  // Around gate = -1.28 (GELU: -0.75) the slope is 0, a difference of parts of size dout up (at
  // most 100).
  require_near(gradient, expected, same_arithmetic(dtype), 200.0 * unit_roundoff(wide(dtype)));

  // The gradients replace the inputs, and the product the gradient that came in.
  device.gated_backward(gate_up, dout, dout, gate_up, activation);
  CHECK(gate_up.same_bits(gradient));
  CHECK(dout.same_bits(product));
  CHECK(gate_up.gaps_untouched());
  CHECK(dout.gaps_untouched());
}

TEST_CASE("cuda gated serves tensors that start anywhere") {
  const GateActivation activation = every_activation();
  Device device(every_order());
  const DType dtype = every_float();
  const Array gate_up = make_gate_up(dtype, {3, 130, 0});
  const Unaligned there(dtype, {3, 260});
  const Unaligned out(dtype, {3, 130});
  processor().copy(there, gate_up);
  Array expected(dtype, {3, 130});
  device.gated_forward(expected, gate_up, activation);
  device.gated_forward(out, there, activation);
  CHECK(out.aligned().same_bits(expected));
}

TEST_CASE("cuda gated launches nothing for nothing and refuses what breaks its contract") {
  const GateActivation activation = every_activation();
  Device device;
  const Array none(DType::kFloat32, {0, 4});
  const Array no_gate_up(DType::kFloat32, {0, 8});
  const std::int64_t before = shim::launches();
  device.gated_forward(none, no_gate_up, activation);
  device.gated_backward(no_gate_up, none, none, no_gate_up, activation);
  CHECK(shim::launches() == before);
  const Array gate_up(DType::kFloat32, {3, 8});
  const Array dout(DType::kFloat32, {3, 4});
  CHECK_THROWS_AS(device.gated_forward(gate_up, gate_up, activation), base::InternalError);
  CHECK_THROWS_AS(device.gated_forward(Array(DType::kBFloat16, {3, 4}), gate_up, activation),
                  base::InternalError);
  CHECK_THROWS_AS(device.gated_backward(dout, Tensor(), dout, gate_up, activation),
                  base::InternalError);
  CHECK_THROWS_AS(device.gated_backward(gate_up, gate_up, dout, gate_up, activation),
                  base::InternalError);
}

}  // namespace
}  // namespace longspan::backend::cuda::testing
