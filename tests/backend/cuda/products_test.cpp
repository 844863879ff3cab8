#include "tests/backend/cuda/cuda_fixture.h"

namespace longspan::backend::cuda::testing {
namespace {

struct Case {
  Index tokens, width, padding;
};

Case awkward_size() {
  return GENERATE(Case{0, 8, 0}, Case{1, 1, 0}, Case{7, 64, 0}, Case{5, 7, 3}, Case{3, 1000, 1},
                  Case{33, 16, 16}, Case{2, 20000, 8});
}

Array random_rows(DType dtype, const Case& size, std::uint64_t salt) {
  Array rows(dtype, {size.tokens, size.width}, size.padding);
  return rows.random(salt);
}

TEST_CASE("cuda products are the cpu's, bit for bit") {
  Device device(every_order());
  const DType dtype = every_float();
  const Case size = awkward_size();
  const Array x = random_rows(dtype, size, 1);
  const Array y = random_rows(dtype, size, 2);
  Array gate(dtype, {size.width});
  gate.random(3);
  for (const Tensor& sum : {x.tensor(), Tensor()}) {
    Array out = random_rows(dtype, size, 4);
    Array expected = out;
    device.add_product(out, sum, y, gate);
    processor().add_product(expected, sum, y, gate);
    CHECK(out.same_bits(expected));
    CHECK(out.gaps_untouched());
  }
  Array out = random_rows(dtype, size, 4);
  Array expected = out;
  device.multiply(out, x, y);
  processor().multiply(expected, x, y);
  CHECK(out.same_bits(expected));
  CHECK(out.gaps_untouched());
}

}  // namespace
}  // namespace longspan::backend::cuda::testing
