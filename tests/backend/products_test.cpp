#include "tests/backend/kernel_fixture.h"

namespace longspan::backend::testing {
namespace {

struct Case {
  Index tokens, width, padding;
};

Case awkward_size() {
  return GENERATE(Case{0, 8, 0}, Case{5, 0, 0}, Case{1, 1, 0}, Case{7, 64, 0}, Case{5, 7, 3},
                  Case{3, 1000, 1}, Case{1100, 33, 0});
}

Array random_rows(DType dtype, const Case& size, std::uint64_t salt) {
  Array rows(dtype, {size.tokens, size.width}, size.padding);
  return rows.random(salt);
}

TEST_CASE("add_product: a column's factor times y, and x, rounded once") {
  const DType dtype = every_float();
  const Case size = awkward_size();
  const bool has_x = GENERATE(true, false);
  const Array x = random_rows(dtype, size, 1);
  const Array y = random_rows(dtype, size, 2);
  Array gate(dtype, {size.width});
  gate.random(3);
  Array out = random_rows(dtype, size, 4);
  processor().add_product(out, has_x ? x.tensor() : Tensor(), y, gate);
  std::vector<double> expected;
  for (Index i = 0; i < out.elements(); ++i) {
    expected.push_back((has_x ? x.get(i) : 0.0) + gate.get(i % size.width) * y.get(i));
  }
  require_close(out, expected, 8.0 * unit_roundoff(dtype));
  CHECK(out.gaps_untouched());
}

TEST_CASE("add_product: out may be x or y") {
  const DType dtype = every_float();
  const Case size{9, 37, 2};
  const Array x = random_rows(dtype, size, 1);
  const Array y = random_rows(dtype, size, 2);
  Array gate(dtype, {size.width});
  gate.random(3);
  Array expected = random_rows(dtype, size, 4);
  processor().add_product(expected, x, y, gate);
  Array as_x = x;
  processor().add_product(as_x, as_x, y, gate);
  CHECK(as_x.same_bits(expected));
  Array as_y = y;
  processor().add_product(as_y, x, as_y, gate);
  CHECK(as_y.same_bits(expected));
}

TEST_CASE("multiply: each product rounded once") {
  const DType dtype = every_float();
  const Case size = awkward_size();
  const Array a = random_rows(dtype, size, 1);
  const Array b = random_rows(dtype, size, 2);
  Array out = random_rows(dtype, size, 3);
  processor().multiply(out, a, b);
  Array expected(dtype, {size.tokens, size.width});
  for (Index i = 0; i < out.elements(); ++i) expected.set(i, a.get(i) * b.get(i));
  CHECK(out.same_bits(expected));
  CHECK(out.gaps_untouched());
}

TEST_CASE("products: what does not fit is refused") {
  const Array rows(DType::kFloat32, {4, 6});
  const Array gate(DType::kFloat32, {6});
  CHECK_THROWS_WITH(processor().add_product(rows, Tensor(), rows, Array(DType::kFloat32, {4})),
                    "add_product: gate is float32 [4]; expected float32 [6]");
  CHECK_THROWS_AS(processor().add_product(rows, gate, rows, gate), base::InternalError);
  CHECK_THROWS_AS(processor().multiply(rows, rows, gate), base::InternalError);
}

}  // namespace
}  // namespace longspan::backend::testing
