#include "tests/backend/cuda/cuda_fixture.h"
#include "tests/backend/nf4_fixture.h"

namespace longspan::backend::cuda::testing {
namespace {

using backend::testing::Nf4;

void compare(DType dtype, Index size, shim::Order order) {
  Array x(dtype, {size});
  x.random(1, 0.02);
  for (Index i = 64; i < std::min<Index>(size, 128); ++i) x.set(i, 0.0);
  Device device(order);
  Nf4 expected(size);
  Nf4 found(size);
  expected.quantize(processor(), x);
  found.quantize(device, x);
  CHECK(found.codes == expected.codes);
  CHECK(found.sizes == expected.sizes);
  CHECK(found.size_codes == expected.size_codes);
  CHECK(found.scales == expected.scales);
  Array out(dtype, {size});
  Array expected_out(dtype, {size});
  found.dequantize(device, out);
  expected.dequantize(processor(), expected_out);
  CHECK(out.same_bits(expected_out));
}

TEST_CASE("cuda: nf4 has the cpu's bits") {
  const DType dtype = GENERATE(DType::kFloat32, DType::kBFloat16, DType::kFloat64);
  for (const shim::Order order : kOrders) {
    for (const Index size : {0, 1, 2, 63, 64, 129, 20001}) compare(dtype, size, order);
  }
}

TEST_CASE("cuda: nf4 goes through more blocks than it launches") {
  // 2048 groups of 8 warps take the blocks of what is decoded.
  compare(DType::kFloat32, Index{64} * 8 * 2048 + 77, shim::Order::kAscending);
}

}  // namespace
}  // namespace longspan::backend::cuda::testing
