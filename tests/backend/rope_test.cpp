#include "tests/backend/rope_fixture.h"

namespace longspan::backend::testing {
namespace {

struct Case {
  Index tokens, heads, head_dim, padding;
};

Case awkward_size() {
  return GENERATE(Case{0, 2, 4, 0}, Case{1, 1, 2, 0}, Case{7, 3, 14, 5}, Case{64, 4, 64, 0},
                  Case{130, 2, 64, 128});
}

Array make_table(DType dtype, Index tokens, Index head_dim) {
  Array table(dtype, {tokens, head_dim});
  processor().rope_table(table, make_positions(tokens), frequencies(head_dim), 1.0);
  return table;
}

TEST_CASE("rope_table holds cosines, then sines, of angles formed in double") {
  const DType dtype = GENERATE(DType::kFloat32, DType::kFloat64);
  const Case size = awkward_size();
  const Array positions = make_positions(size.tokens);
  const auto inverse = frequencies(size.head_dim);
  std::vector<double> expected;
  for (Index t = 0; t < size.tokens; ++t) {
    for (const double f : inverse) expected.push_back(std::cos(positions.get(t) * f));
    for (const double f : inverse) expected.push_back(std::sin(positions.get(t) * f));
  }
  // The angles are exact to 2^-53 of up to 1e5.
  require_close(make_table(dtype, size.tokens, size.head_dim), expected,
                unit_roundoff(dtype) + 1e-11);
}

TEST_CASE("rope_table is scaled as told") {
  const DType dtype = GENERATE(DType::kFloat32, DType::kFloat64);
  std::vector<double> expected = make_table(DType::kFloat64, 5, 6).values();
  for (double& value : expected) value *= 1.25;
  Array table(dtype, {5, 6});
  processor().rope_table(table, make_positions(5), frequencies(6), 1.25);
  require_close(table, expected, 2.0 * unit_roundoff(dtype));
}

TEST_CASE("rope turns each pair by its angle") {
  const DType dtype = every_float();
  const Case size = awkward_size();
  const Array table = make_table(wide(dtype), size.tokens, size.head_dim);
  Array x(dtype, {size.tokens, size.heads, size.head_dim}, size.padding);
  x.random(1);
  const Index half = size.head_dim / 2;
  std::vector<double> expected = x.values();
  for (Index i = 0; i < x.elements(); ++i) {
    const Index j = i % size.head_dim;
    const Index angle = i / (size.heads * size.head_dim) * size.head_dim + j % half;
    const double partner = j < half ? -x.get(i + half) : x.get(i - half);
    expected[static_cast<std::size_t>(i)] =
        x.get(i) * table.get(angle) + partner * table.get(angle + half);
  }
  Array out(dtype, {size.tokens, size.heads, size.head_dim}, size.padding == 0 ? 3 : 0);
  processor().rope(out, x, table, false);
  CHECK(out.gaps_untouched());
  processor().rope(x, x, table, false);
  CHECK(out.same_bits(x));
  require_close(x, expected, unit_roundoff(dtype) + 4.0 * unit_roundoff(wide(dtype)));
}

TEST_CASE("the inverse rotation undoes and is the adjoint of the rotation") {
  const Case size = awkward_size();
  const Array table = make_table(DType::kFloat64, size.tokens, size.head_dim);
  Array x(DType::kFloat64, {size.tokens, size.heads, size.head_dim}, size.padding);
  Array g(DType::kFloat64, {size.tokens, size.heads, size.head_dim}, size.padding);
  x.random(1);
  g.random(2);
  Array turned = x;
  processor().rope(turned, turned, table, false);
  Array turned_back = g;
  processor().rope(turned_back, turned_back, table, true);
  CHECK(dot(turned, g) == Approx(dot(x, turned_back)).epsilon(1e-12).margin(1e-12));
  processor().rope(turned, turned, table, true);
  require_close(turned, x.values(), 1e-14);
}

TEST_CASE("rope on a column view touches nothing else") {
  Array whole(DType::kFloat32, {5, 24});
  whole.random(1);
  const Array before = whole;
  const Tensor keys = whole.tensor().columns(8, 16).reshape({5, 2, 4});
  processor().rope(keys, keys, make_table(DType::kFloat32, 5, 4), false);
  bool changed = false;
  for (Index i = 0; i < whole.elements(); ++i) {
    const bool inside = i % 24 >= 8 && i % 24 < 16;
    if (!inside) REQUIRE(whole.get(i) == before.get(i));
    changed = changed || whole.get(i) != before.get(i);
  }
  CHECK(changed);
}

TEST_CASE("rope refuses tensors that break its contract") {
  const Array x(DType::kBFloat16, {3, 2, 4});
  CHECK_THROWS_AS(processor().rope(x, x, Array(DType::kBFloat16, {3, 4}), false),
                  base::InternalError);
  CHECK_THROWS_AS(processor().rope(x, x, Array(DType::kFloat32, {2, 4}), false),
                  base::InternalError);
  const Array odd(DType::kFloat32, {3, 2, 3});
  CHECK_THROWS_AS(processor().rope(odd, odd, Array(DType::kFloat32, {3, 3}), false),
                  base::InternalError);
  const Array flat(DType::kFloat32, {3, 8});
  CHECK_THROWS_AS(processor().rope(flat, flat, flat, false), base::InternalError);
  CHECK_THROWS_WITH(processor().rope(Array(DType::kBFloat16, {3, 4, 2}), x,
                                     Array(DType::kFloat32, {3, 4}), false),
                    "rope: out is bfloat16 [3, 4, 2]; expected bfloat16 [3, 2, 4]");
  const Array positions = make_positions(3);
  CHECK_THROWS_AS(
      processor().rope_table(Array(DType::kBFloat16, {3, 4}), positions, frequencies(4), 1.0),
      base::InternalError);
  CHECK_THROWS_AS(
      processor().rope_table(Array(DType::kFloat32, {3, 4}), positions, frequencies(6), 1.0),
      base::InternalError);
}

}  // namespace
}  // namespace longspan::backend::testing
