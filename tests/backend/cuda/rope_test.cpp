#include "tests/backend/cuda/cuda_fixture.h"
#include "tests/backend/rope_fixture.h"

namespace longspan::backend::cuda::testing {
namespace {

struct Case {
  Index tokens, heads, head_dim, padding;
};

/// Halves of a head that are whole packs and not; more heads and packs than a block has threads.
Case awkward_size() {
  return GENERATE(Case{0, 2, 4, 0}, Case{1, 1, 2, 0}, Case{7, 3, 14, 5}, Case{13, 4, 64, 0},
                  Case{13, 2, 128, 64}, Case{5, 33, 20, 0}, Case{2, 40, 256, 0},
                  Case{2, 1, 5000, 0});
}

TEST_CASE("cuda rope_table is the cpu's, also with more frequencies than one launch takes") {
  Device device(every_order());
  const DType dtype = GENERATE(DType::kFloat32, DType::kFloat64);
  const Case size = awkward_size();
  const Array positions = make_positions(size.tokens);
  Array table(dtype, {size.tokens, size.head_dim}, size.padding);
  Array expected(dtype, {size.tokens, size.head_dim});
  device.rope_table(table, positions, frequencies(size.head_dim), 1.25);
  processor().rope_table(expected, positions, frequencies(size.head_dim), 1.25);
  // Both form the angle in double with one product; sine and cosine are within a unit or two.
  require_near(table, expected, 0.0, 4.0 * unit_roundoff(dtype));
}

TEST_CASE("cuda rope is the cpu's, there and back") {
  Device device(every_order());
  const DType dtype = every_float();
  const Case size = awkward_size();
  const bool inverse = GENERATE(false, true);
  Array table(wide(dtype), {size.tokens, size.head_dim}, size.padding);
  processor().rope_table(table, make_positions(size.tokens), frequencies(size.head_dim), 1.0);
  Array x(dtype, {size.tokens, size.heads, size.head_dim}, size.padding);
  x.random(1);
  Array expected = x;
  Array out(dtype, {size.tokens, size.heads, size.head_dim}, size.padding == 0 ? 3 : 8);
  device.rope(out, x, table, inverse);
  CHECK(out.gaps_untouched());
  device.rope(x, x, table, inverse);
  CHECK(out.same_bits(x));
  processor().rope(expected, expected, table, inverse);
  // A difference of two products of at most 5 each: near 0 their roundings remain.
  require_near(x, expected, same_arithmetic(dtype), 16.0 * unit_roundoff(wide(dtype)));
}

TEST_CASE("cuda rope on a column view touches nothing else") {
  Device device(every_order());
  const DType dtype = every_float();
  const Index first = GENERATE(16, 9);  // aligned and not
  Array whole(dtype, {5, 48});
  whole.random(1);
  Array expected = whole;
  Array table(wide(dtype), {5, 16});
  processor().rope_table(table, make_positions(5), frequencies(16), 1.0);
  const auto keys = [&](const Array& array) {
    return array.tensor().columns(first, first + 32).reshape({5, 2, 16});
  };
  device.rope(keys(whole), keys(whole), table, false);
  processor().rope(keys(expected), keys(expected), table, false);
  require_near(whole, expected, same_arithmetic(dtype), 16.0 * unit_roundoff(wide(dtype)));
  for (Index i = 0; i < whole.elements(); ++i) {
    if (i % 48 < first || i % 48 >= first + 32) REQUIRE(whole.get(i) == expected.get(i));
  }
}

TEST_CASE("cuda rope launches nothing for nothing and refuses what breaks its contract") {
  Device device;
  const std::int64_t before = shim::launches();
  device.rope_table(Array(DType::kFloat32, {0, 4}), make_positions(0), frequencies(4), 1.0);
  const Array none(DType::kBFloat16, {0, 2, 4});
  device.rope(none, none, Array(DType::kFloat32, {0, 4}), false);
  CHECK(shim::launches() == before);
  const Array x(DType::kBFloat16, {3, 2, 4});
  CHECK_THROWS_AS(device.rope(x, x, Array(DType::kBFloat16, {3, 4}), false), base::InternalError);
  CHECK_THROWS_AS(device.rope(none, x, Array(DType::kFloat32, {3, 4}), false), base::InternalError);
  const Array odd(DType::kFloat32, {3, 2, 3});
  CHECK_THROWS_AS(device.rope(odd, odd, Array(DType::kFloat32, {3, 3}), false),
                  base::InternalError);
  CHECK_THROWS_AS(
      device.rope_table(Array(DType::kFloat32, {3, 4}), make_positions(3), frequencies(6), 1.0),
      base::InternalError);
  CHECK_THROWS_AS(
      device.rope_table(Array(DType::kBFloat16, {3, 4}), make_positions(3), frequencies(4), 1.0),
      base::InternalError);
}

}  // namespace
}  // namespace longspan::backend::cuda::testing
