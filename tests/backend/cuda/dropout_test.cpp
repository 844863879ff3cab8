#include "tests/backend/cuda/cuda_fixture.h"

namespace longspan::backend::cuda::testing {
namespace {

TEST_CASE("cuda dropout gives the cpu's bits; out may be x") {
  const DType dtype = every_float();
  const Index columns = GENERATE(1, 3, 8, 33, 64, 2056);
  const Index padding = GENERATE(0, 3, 16);
  const base::RandomStream stream(11, base::Purpose::kDropout, 3, 5);
  Array x(dtype, {37, columns}, padding);
  x.random(1);
  Array numbers(DType::kInt32, {37});
  for (Index i = 0; i < 37; ++i) numbers.set(i, static_cast<double>(0x7FFFFFFF - 7 * i));
  Array expected(dtype, {37, columns}, padding);
  processor().dropout(expected, x, numbers, stream, 0.3);
  for (const shim::Order order : kOrders) {
    Array out(dtype, {37, columns}, padding);
    Device(order).dropout(out, x, numbers, stream, 0.3);
    CHECK(out.same_bits(expected));
    CHECK(out.gaps_untouched());
  }
  Device().dropout(x, x, numbers, stream, 0.3);
  CHECK(x.same_bits(expected));
}

TEST_CASE("cuda dropout launches nothing for nothing and refuses what breaks its contract") {
  const base::RandomStream stream(11, base::Purpose::kDropout, 3, 5);
  const Array nothing(DType::kFloat32, {0, 4});
  const std::int64_t before = shim::launches();
  Device().dropout(nothing, nothing, Array(DType::kInt32, {0}), stream, 0.5);
  CHECK(shim::launches() == before);
  const Array x(DType::kFloat32, {4, 6});
  CHECK_THROWS_AS(Device().dropout(x, x, Array(DType::kInt32, {3}), stream, 0.5),
                  base::InternalError);
}

}  // namespace
}  // namespace longspan::backend::cuda::testing
