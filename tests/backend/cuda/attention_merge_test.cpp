#include "tests/backend/cuda/cuda_fixture.h"

namespace longspan::backend::cuda::testing {
namespace {

struct Case {
  Index tokens, heads, head_dim, padding;
};

/// Normal numbers, and -infinity in every fifth place, counted from `first`.
Array make_lse(DType dtype, const Case& size, Index first) {
  Array lse(wide(dtype), {size.heads, size.tokens}, 5);
  lse.random(static_cast<std::uint64_t>(3 + first), 3.0);
  for (Index i = first; i < lse.elements(); i += 5) lse.set(i, -INFINITY);
  return lse;
}

/// Agreement where numbers may be -infinity.
void require_alike(const Array& found, const Array& expected, double tolerance) {
  for (Index i = 0; i < expected.elements(); ++i) {
    if (std::isinf(expected.get(i))) {
      REQUIRE(found.get(i) == expected.get(i));
    } else {
      REQUIRE(std::abs(found.get(i) - expected.get(i)) <=
              tolerance * (1.0 + std::abs(expected.get(i))));
    }
  }
  REQUIRE(found.gaps_untouched());
}

TEST_CASE("cuda: attention_merge does what the cpu's does") {
  const DType dtype = every_float();
  const Case size = GENERATE(Case{0, 3, 8, 0}, Case{1, 1, 1, 0}, Case{17, 3, 7, 1},
                             Case{5, 2, 64, 0}, Case{9, 5, 128, 8}, Case{3, 1, 256, 3});
  const Shape shape{size.tokens, size.heads, size.head_dim};
  Array expected(wide(dtype), shape, size.padding);
  expected.random(1);
  const Array out_before = expected;
  Array expected_lse = make_lse(dtype, size, 0);
  const Array lse_before = expected_lse;
  Array block(dtype, shape, size.padding);
  block.random(2);
  const Array block_lse = make_lse(dtype, size, 2);
  for (Index token = 0; token < size.tokens; ++token) {  // no keys: whatever their output says
    for (Index head = 0; head < size.heads; ++head) {
      if (!std::isinf(block_lse.get(head * size.tokens + token))) continue;
      block.set((token * size.heads + head) * size.head_dim, NAN);
    }
  }
  processor().attention_merge(expected, expected_lse, block, block_lse);
  for (const shim::Order order : kOrders) {
    Array out = out_before;
    Array lse = lse_before;
    Device(order).attention_merge(out, lse, block, block_lse);
    // Two exponentials, a quotient and three products.
    require_alike(out, expected, 16.0 * unit_roundoff(wide(dtype)));
    require_alike(lse, expected_lse, 16.0 * unit_roundoff(wide(dtype)));
  }
}

TEST_CASE("cuda: attention_merge refuses what the cpu's refuses") {
  const Array out(DType::kFloat32, {4, 3, 8});
  const Array lse(DType::kFloat32, {3, 4});
  CHECK_THROWS_AS(Device().attention_merge(out, Array(DType::kFloat32, {4, 3}), out, lse),
                  base::InternalError);
}

}  // namespace
}  // namespace longspan::backend::cuda::testing
