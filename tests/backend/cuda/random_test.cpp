#include "tests/backend/cuda/cuda_fixture.h"

namespace longspan::backend::cuda::testing {
namespace {

TEST_CASE("cuda: random_normal gives the cpu's numbers") {
  const DType dtype = every_float();
  const Index padding = GENERATE(0, 3);
  const base::RandomStream stream(11, base::Purpose::kInitialWeight, 0, 5);
  const std::uint64_t first = 0xFFFFFFF0U;  // elements go past 32 bits
  Array expected(dtype, {13, 77}, padding);
  processor().random_normal(expected, stream, 0.02, first);
  for (const shim::Order order : kOrders) {
    Array out(dtype, {13, 77}, padding);
    Device(order).random_normal(out, stream, 0.02, first);
    // The logarithm and the cosine may differ in the last place, and so may what is rounded.
    require_close(out, expected.values(), 0.02 * (0x1p-50 + 2.0 * unit_roundoff(dtype)));
  }
}

TEST_CASE("cuda: random_normal of nothing, of one, and of integers") {
  const base::RandomStream stream(11, base::Purpose::kTest, 0, 5);
  const Array nothing(DType::kFloat32, {0, 4});
  const std::int64_t before = shim::launches();
  Device().random_normal(nothing, stream, 1.0, 0);
  CHECK(shim::launches() == before);
  Array one(DType::kFloat64, {1});
  Device().random_normal(one, stream, 1.0, 3);
  CHECK(one.get(0) == Approx(stream.normal(3)).epsilon(1e-15));
  CHECK_THROWS_AS(Device().random_normal(Array(DType::kInt32, {4}), stream, 1.0, 0),
                  base::InternalError);
}

TEST_CASE("cuda: random_uniform gives the cpu's bits") {
  const DType dtype = every_float();
  const base::RandomStream stream(11, base::Purpose::kInitialWeight, 0, 5);
  Array expected(dtype, {13, 77}, 3);
  processor().random_uniform(expected, stream, 0.02, 0xFFFFFFF0U);
  for (const shim::Order order : kOrders) {
    Array out(dtype, {13, 77}, 3);
    Device(order).random_uniform(out, stream, 0.02, 0xFFFFFFF0U);
    CHECK(out.same_bits(expected));
  }
}

}  // namespace
}  // namespace longspan::backend::cuda::testing
