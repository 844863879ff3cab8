#include "tests/backend/cuda/cuda_fixture.h"

namespace longspan::backend::cuda::testing {
namespace {

/// One update of `size` elements on both devices; each tensor begins `offset` (and the gradient
/// `gradient_offset`) elements into its memory.
void compare(DType dtype, Index size, Index offset, Index gradient_offset, bool with_weight,
             shim::Order order) {
  Array master(wide(dtype), {size});
  Array moment1(wide(dtype), {size});
  Array moment2(wide(dtype), {size});
  Array gradient(wide(dtype), {size});
  Array weight(dtype, {size});
  master.random(1);
  moment1.random(2, 0.1);
  moment2.random(3, 0.1);
  for (Index i = 0; i < size; ++i) moment2.set(i, std::abs(moment2.get(i)));
  gradient.random(4);
  weight.fill(5.0);
  const Shifted to(master, offset);
  const Shifted m(moment1, offset);
  const Shifted v(moment2, offset);
  const Shifted g(gradient, gradient_offset);
  const Shifted w(weight, offset);
  const Tensor none;
  Device(order).adamw(with_weight ? w.tensor() : none, to, m, v, g, adamw_options(3));
  processor().adamw(with_weight ? weight.tensor() : none, master, moment1, moment2, gradient,
                    adamw_options(3));
  // A product and a sum may be rounded together on one device and apart on the other: a handful of
  // roundings of numbers near 1.
  const double tolerance = 8.0 * unit_roundoff(wide(dtype));
  require_close(master, to.values(), tolerance);
  require_close(moment1, m.values(), tolerance);
  require_close(moment2, v.values(), tolerance);
  CHECK(g.values() == gradient.values());
  for (const Shifted* one : {&to, &m, &v, &w}) CHECK(one->start_untouched());
  Array rounded(dtype, {size});
  rounded.fill(5.0);
  for (Index i = 0; with_weight && i < size; ++i) {
    rounded.set(i, to.values()[static_cast<std::size_t>(i)]);
  }
  CHECK(w.values() == rounded.values());
}

TEST_CASE("cuda: adamw does what the cpu's does, wherever the tensors begin") {
  const DType dtype = every_float();
  const bool with_weight = GENERATE(true, false);
  for (const shim::Order order : kOrders) {
    for (const Index size : {0, 1, 7, 64, 1021}) compare(dtype, size, 0, 0, with_weight, order);
    compare(dtype, 333, 1, 1, with_weight, order);  // aligned after a few elements
    compare(dtype, 333, 4, 4, with_weight, order);
    compare(dtype, 333, 5, 5, with_weight, order);
    compare(dtype, 333, 1, 2, with_weight, order);  // never all at once
    compare(dtype, 3, 1, 1, with_weight, order);
  }
}

/// The same with bfloat16 moments that are rounded at random.
void compare_rounded(DType dtype, Index size, Index offset, shim::Order order) {
  Array master(DType::kFloat32, {size});
  Array moment1(DType::kBFloat16, {size});
  Array moment2(DType::kBFloat16, {size});
  Array gradient(DType::kFloat32, {size});
  Array weight(dtype, {size});
  master.random(1);
  moment1.random(2, 0.1);
  for (Index i = 0; i < size; ++i) moment2.set(i, 0.01 * static_cast<double>(1 + i % 7));
  gradient.random(4);
  const Shifted to(master, offset);
  const Shifted m(moment1, offset);
  const Shifted v(moment2, offset);
  const Shifted g(gradient, offset);
  const Shifted w(weight, offset);
  AdamWOptions options = adamw_options(3);
  options.rounding.emplace(5, base::Purpose::kMomentRounding, 3, 2);
  options.first_element = 77;
  Device(order).adamw(w.tensor(), to, m, v, g, options);
  processor().adamw(weight, master, moment1, moment2, gradient, options);
  require_close(master, to.values(), 8.0 * unit_roundoff(DType::kFloat32));
  // Of a moment whose last bits are rounded otherwise, one in a few thousand goes the other way.
  Index others = 0;
  for (Index i = 0; i < size; ++i) {
    const auto at = static_cast<std::size_t>(i);
    const bool same = m.values()[at] == moment1.get(i) && v.values()[at] == moment2.get(i);
    others += same ? 0 : 1;
    CHECK(m.values()[at] == Approx(moment1.get(i)).epsilon(0x1p-7));
    CHECK(v.values()[at] == Approx(moment2.get(i)).epsilon(0x1p-7));
  }
  CHECK(others <= 1 + size / 500);
  for (const Shifted* one : {&to, &m, &v, &w}) CHECK(one->start_untouched());
}

TEST_CASE("cuda: adamw rounds moments as the cpu's does") {
  const DType dtype = GENERATE(DType::kFloat32, DType::kBFloat16);
  for (const shim::Order order : kOrders) {
    for (const Index size : {1, 7, 64, 1021}) compare_rounded(dtype, size, 0, order);
    for (const Index offset : {1, 4, 8}) compare_rounded(dtype, 333, offset, order);
  }
}

TEST_CASE("cuda: adamw refuses what the cpu's refuses") {
  const Array four(DType::kFloat32, {4});
  const Array five(DType::kFloat32, {5});
  AdamWOptions options;
  CHECK_THROWS_WITH(Device().adamw(Tensor(), four, four, four, five, options),
                    "adamw: gradient is float32 [5]; expected float32 [4]");
  options.update = 0;
  CHECK_THROWS_AS(Device().adamw(Tensor(), four, four, four, four, options), base::InternalError);
}

}  // namespace
}  // namespace longspan::backend::cuda::testing
