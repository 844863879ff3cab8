#include "tests/backend/cuda/cuda_fixture.h"

namespace longspan::backend::cuda::testing {
namespace {

struct Case {
  Index tokens, width, padding;
};

/// Whole packs and not, rows that share a block, several blocks, gaps that keep and break
/// alignment.
Case awkward_size() {
  return GENERATE(Case{0, 8, 0}, Case{5, 0, 0}, Case{1, 1, 0}, Case{7, 64, 0}, Case{5, 7, 3},
                  Case{3, 1000, 1}, Case{300, 37, 0}, Case{2, 20000, 8}, Case{33, 16, 16});
}

Array random_rows(DType dtype, const Case& size, std::uint64_t salt, double deviation = 1.0) {
  Array rows(dtype, {size.tokens, size.width}, size.padding);
  return rows.random(salt, deviation);
}

TEST_CASE("cuda gelu_forward is the cpu's, in place too") {
  Device device(every_order());
  const DType dtype = every_float();
  const Case size = awkward_size();
  const Array x = random_rows(dtype, size, 1, 3.0);
  Array out(dtype, {size.tokens, size.width}, size.padding);
  Array expected(dtype, {size.tokens, size.width});
  device.gelu_forward(out, x);
  processor().gelu_forward(expected, x);
  require_near(out, expected, same_arithmetic(dtype), 0.0);
  device.gelu_forward(x, x);
  CHECK(x.same_bits(out));
  CHECK(x.gaps_untouched());
}

TEST_CASE("cuda gelu is exact at 0 and far from it, and keeps NaN") {
  Device device;
  const DType dtype = every_float();
  const std::vector<double> values = {0.0,  -0.0, 1e4,   -1e4,  64.0, -64.0,
                                      1e30, 3e38, -1e30, -3e38, NAN};
  const auto count = static_cast<Index>(values.size());
  Array x(dtype, {1, count});
  for (Index i = 0; i < count; ++i) x.set(i, values[static_cast<std::size_t>(i)]);
  Array out(dtype, {1, count});
  Array slope(dtype, {1, count});
  Array dout(dtype, {1, count});
  device.gelu_backward(slope, out, dout.fill(1.0), x);
  for (Index i = 0; i + 1 < count; ++i) {
    INFO(x.get(i));
    CHECK(out.get(i) == std::max(0.0, x.get(i)));
    CHECK(slope.get(i) == (x.get(i) == 0.0 ? 0.5 : x.get(i) > 0.0 ? 1.0 : 0.0));
  }
  CHECK((std::isnan(out.get(count - 1)) && std::isnan(slope.get(count - 1))));
}

TEST_CASE("cuda gelu_backward is the cpu's, in place too, and repeats the forward's bits") {
  Device device(every_order());
  const DType dtype = every_float();
  const Case size = awkward_size();
  const Array x = random_rows(dtype, size, 1, 3.0);
  const Array dout = random_rows(dtype, size, 2);
  Array expected(dtype, {size.tokens, size.width});
  processor().gelu_backward(expected, Tensor(), dout, x);
  Array forward(dtype, {size.tokens, size.width});
  device.gelu_forward(forward, x);

  Array dx(dtype, {size.tokens, size.width}, size.padding);
  device.gelu_backward(dx, Tensor(), dout, x);
  // Where the slope is 0 it is a difference of parts of size dout (at most 5).
  require_near(dx, expected, same_arithmetic(dtype), 200.0 * unit_roundoff(wide(dtype)));

  // The gradient replaces x, and the forward's result the gradient that came in.
  device.gelu_backward(x, dout, dout, x);
  CHECK(x.same_bits(dx));
  CHECK(dout.same_bits(forward));
  CHECK((x.gaps_untouched() && dout.gaps_untouched()));
}

TEST_CASE("cuda gelu serves tensors that start anywhere") {
  Device device(every_order());
  const DType dtype = every_float();
  const Shape shape{3, 130};
  const Array x = random_rows(dtype, {3, 130, 0}, 1, 3.0);
  const Array dout = random_rows(dtype, {3, 130, 0}, 2);
  const Unaligned there(dtype, shape);
  const Unaligned out(dtype, shape);
  processor().copy(there, x);
  Array expected(dtype, shape);
  device.gelu_forward(expected, x);
  device.gelu_forward(out, there);
  CHECK(out.aligned().same_bits(expected));
  const Unaligned again(dtype, shape);
  Array dx(dtype, shape);
  device.gelu_backward(dx, Tensor(), dout, x);
  device.gelu_backward(out, again, dout, there);
  CHECK(out.aligned().same_bits(dx));
  CHECK(again.aligned().same_bits(expected));
}

TEST_CASE("cuda gelu launches nothing for nothing and refuses what breaks its contract") {
  Device device;
  const Array none(DType::kFloat32, {0, 8});
  const std::int64_t before = shim::launches();
  device.gelu_forward(none, none);
  device.gelu_backward(none, none, none, none);
  CHECK(shim::launches() == before);
  const Array x(DType::kFloat32, {3, 8});
  const Array narrow(DType::kFloat32, {3, 4});
  CHECK_THROWS_AS(device.gelu_forward(narrow, x), base::InternalError);
  CHECK_THROWS_AS(device.gelu_forward(Array(DType::kBFloat16, {3, 8}), x), base::InternalError);
  CHECK_THROWS_AS(device.gelu_backward(narrow, Tensor(), x, x), base::InternalError);
  CHECK_THROWS_AS(device.gelu_backward(x, narrow, x, x), base::InternalError);
  CHECK_THROWS_AS(device.gelu_backward(x, Tensor(), narrow, x), base::InternalError);
}

}  // namespace
}  // namespace longspan::backend::cuda::testing
