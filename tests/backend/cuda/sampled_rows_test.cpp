#include "tests/backend/cuda/cuda_fixture.h"

namespace longspan::backend::cuda::testing {
namespace {

struct Case {
  Index tokens, width, padding;
};

Case awkward_size() {
  return GENERATE(Case{0, 8, 0}, Case{5, 0, 0}, Case{1, 1, 0}, Case{7, 64, 0}, Case{5, 7, 3},
                  Case{3, 1000, 1}, Case{300, 37, 0}, Case{17, 2056, 8});
}

TEST_CASE("cuda row_norms are the cpu's") {
  Device device(every_order());
  const DType dtype = every_float();
  const Case size = awkward_size();
  Array x(dtype, {size.tokens, size.width}, size.padding);
  x.random(1);
  for (Index i = 0; i < std::min(size.width, x.elements()); ++i) x.set(i, x.get(i) * 1e-30);
  const Array norms(wide(dtype), {size.tokens});
  const Array expected(wide(dtype), {size.tokens});
  device.row_norms(norms, x);
  processor().row_norms(expected, x);
  for (Index t = 0; t < size.tokens; ++t) {
    CHECK(norms.get(t) == Approx(expected.get(t)).epsilon(1e-5).margin(0));
  }
}

TEST_CASE("cuda row_norms show what is not a number, also among zeros") {
  Array x(DType::kFloat32, {2, 50});
  x.fill(0.0);
  x.set(49, std::nan(""));
  x.set(50, INFINITY);
  const Array norms(DType::kFloat32, {2});
  Device().row_norms(norms, x);
  CHECK_FALSE(std::isfinite(norms.get(0)));
  CHECK_FALSE(std::isfinite(norms.get(1)));
}

TEST_CASE("cuda scale_rows is the cpu's, bit for bit") {
  Device device(every_order());
  const DType dtype = every_float();
  const Case size = awkward_size();
  Array out(dtype, {size.tokens, size.width}, size.padding);
  out.random(1);
  Array expected = out;
  Array factors(wide(dtype), {size.tokens});
  factors.random(2);
  device.scale_rows(out, factors);
  processor().scale_rows(expected, factors);
  CHECK(out.same_bits(expected));
  CHECK(out.gaps_untouched());
}

TEST_CASE("cuda operations on sampled rows refuse what breaks their contracts") {
  const Array x(DType::kFloat32, {4, 6});
  CHECK_THROWS_AS(Device().row_norms(Array(DType::kFloat32, {3}), x), base::InternalError);
  CHECK_THROWS_AS(Device().scale_rows(x, Array(DType::kFloat32, {3})), base::InternalError);
}

}  // namespace
}  // namespace longspan::backend::cuda::testing
