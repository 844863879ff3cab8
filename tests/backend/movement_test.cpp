#include "tests/backend/kernel_fixture.h"

namespace longspan::backend::testing {
namespace {

struct Case {
  Index rows, columns, padding;
};

Case awkward_size() {
  return GENERATE(Case{0, 5, 0}, Case{3, 0, 2}, Case{1, 1, 0}, Case{7, 64, 0}, Case{7, 64, 3},
                  Case{1000, 7, 1}, Case{3, 20001, 0}, Case{3, 20001, 5});
}

TEST_CASE("zero and fill write every element and no gap") {
  const DType dtype = every_float();
  const Case size = awkward_size();
  Array out(dtype, {size.rows, size.columns}, size.padding);
  processor().fill(out, 1.0 / 3.0);
  const double third = dtype == DType::kFloat64 ? 1.0 / 3.0
                       : dtype == DType::kFloat32
                           ? double{1.0F / 3.0F}
                           : double{static_cast<float>(BFloat16(1.0F / 3.0F))};
  require_close(out, std::vector<double>(static_cast<std::size_t>(out.elements()), third), 0.0);
  processor().zero(out);
  require_close(out, std::vector<double>(static_cast<std::size_t>(out.elements()), 0.0), 0.0);
}

TEST_CASE("zero serves integers, fill does not") {
  Array ids(DType::kInt32, {9});
  ids.fill(3);
  processor().zero(ids);
  require_close(ids, std::vector<double>(9, 0.0), 0.0);
  CHECK_THROWS_AS(processor().fill(ids, 1.0), base::InternalError);
  CHECK_THROWS_AS(processor().zero(Tensor()), base::InternalError);
}

TEST_CASE("copy converts between every pair of float dtypes, rounding once") {
  const DType from = every_float();
  const DType to = every_float();
  const Case size = awkward_size();
  Array in(from, {size.rows, size.columns}, size.padding);
  in.random(1);
  Array out(to, {size.rows, size.columns}, size.padding == 0 ? 0 : size.padding + 1);
  processor().copy(out, in);
  Array expected(to, {size.rows, size.columns});  // `set` rounds as one conversion does
  for (Index i = 0; i < in.elements(); ++i) expected.set(i, in.get(i));
  require_close(out, expected.values(), 0.0);
}

TEST_CASE("copy rounds to bfloat16 as BFloat16 does, special values included") {
  const std::vector<float> values = {0.0F,        -0.0F,   INFINITY, -INFINITY, 1.00390625F,
                                     1.01171875F, 3.4e38F, 1e-40F,   NAN,       -1.5F};
  Array in(DType::kFloat32, {static_cast<Index>(values.size())});
  Array out(DType::kBFloat16, {static_cast<Index>(values.size())});
  for (std::size_t i = 0; i < values.size(); ++i) in.set(static_cast<Index>(i), values[i]);
  processor().copy(out, in);
  for (std::size_t i = 0; i < values.size(); ++i) {
    CHECK(out.tensor().data<BFloat16>()[i].bits == BFloat16(values[i]).bits);
  }
}

TEST_CASE("copy of one dtype moves integers too") {
  Array in(DType::kInt32, {5, 3}, 2);
  in.random_ids(1, 1000);
  Array out(DType::kInt32, {5, 3});
  processor().copy(out, in);
  require_close(out, in.values(), 0.0);
}

TEST_CASE("copy refuses other shapes and mixed kinds") {
  Array out(DType::kFloat32, {2, 3});
  CHECK_THROWS_AS(processor().copy(out, Array(DType::kFloat32, {3, 2})), base::InternalError);
  CHECK_THROWS_AS(processor().copy(out, Array(DType::kInt32, {2, 3})), base::InternalError);
  CHECK_THROWS_AS(processor().copy(out, Tensor()), base::InternalError);
}

TEST_CASE("copy_all copies every pair, and refuses what is no pair") {
  const auto backend = make_cpu_backend(std::size_t{1} << 20U);
  const DType dtype = every_float();
  Array first(dtype, {7, 9}, 2);
  Array second(dtype, {1, 5, 3});
  first.random(1);
  second.random(2);
  const Array first_out(dtype, {7, 9});
  const Array second_out(dtype, {1, 5, 3}, 4);
  backend->copy_all({first_out, second_out}, {first, second});
  CHECK(first_out.same_bits(first));
  CHECK(second_out.same_bits(second));
  CHECK(second_out.gaps_untouched());
  backend->copy_all({}, {});
  CHECK_THROWS_WITH(backend->copy_all({first_out}, {}), "copy_all: 1 outs for 0 ins");
  CHECK_THROWS_AS(backend->copy_all({first_out, second_out}, {first, first}), base::InternalError);
  const Array ids(DType::kInt32, {2});
  CHECK_THROWS_AS(backend->copy_all({first_out, ids}, {first, ids}), base::InternalError);
}

TEST_CASE("host bytes go in and come out as they are") {
  const DType dtype = every_float();
  const Case size = awkward_size();
  Array source(dtype, {size.rows, size.columns});
  source.random(2);
  const std::size_t bytes = source.tensor().bytes();
  Array device(dtype, {size.rows, size.columns}, size.padding);
  processor().copy_from_host(device, source.tensor().raw(), bytes);
  require_close(device, source.values(), 0.0);
  Array back(dtype, {size.rows, size.columns});
  processor().copy_to_host(back.tensor().raw(), device, bytes);
  CHECK(back.same_bits(source));
  CHECK_THROWS_AS(processor().copy_from_host(device, source.tensor().raw(), bytes + 1),
                  base::InternalError);
  CHECK_THROWS_AS(processor().copy_to_host(back.tensor().raw(), device, bytes + 1),
                  base::InternalError);
}

TEST_CASE("add is the rounded sum, in place too") {
  const DType dtype = every_float();
  const Case size = awkward_size();
  Array a(dtype, {size.rows, size.columns}, size.padding);
  Array b(dtype, {size.rows, size.columns}, size.padding == 0 ? 0 : 2);
  a.random(1);
  b.random(2);
  Array expected(dtype, {size.rows, size.columns});
  for (Index i = 0; i < a.elements(); ++i) expected.set(i, a.get(i) + b.get(i));
  Array out(dtype, {size.rows, size.columns});
  processor().add(out, a, b);
  require_close(out, expected.values(), unit_roundoff(dtype));
  processor().add(a, a, b);
  CHECK(a.same_bits(out));
  CHECK(a.gaps_untouched());
}

TEST_CASE("scale multiplies every element and no gap") {
  const DType dtype = every_float();
  const Case size = awkward_size();
  Array out(dtype, {size.rows, size.columns}, size.padding);
  out.random(1);
  std::vector<double> expected = out.values();
  for (double& value : expected) value *= static_cast<double>(1.7F);
  processor().scale(out, static_cast<double>(1.7F));
  require_close(out, expected, unit_roundoff(dtype));
  CHECK(out.gaps_untouched());
  CHECK_THROWS_AS(processor().scale(Array(DType::kInt32, {3}), 2.0), base::InternalError);
}

TEST_CASE("accumulate adds in float32 and float64 only, bfloat16 too") {
  const DType dtype = GENERATE(DType::kFloat32, DType::kFloat64);
  Array out(dtype, {7, 9}, 1);
  Array in(dtype, {7, 9});
  out.random(1);
  in.random(2);
  std::vector<double> expected = out.values();
  for (std::size_t i = 0; i < expected.size(); ++i) expected[i] += in.get(static_cast<Index>(i));
  processor().accumulate(out, in);
  require_close(out, expected, unit_roundoff(dtype));
  Array half(DType::kBFloat16, {7, 9});
  CHECK_THROWS_AS(processor().accumulate(half, half), base::InternalError);
  half.random(3);
  expected = out.values();
  for (std::size_t i = 0; i < expected.size(); ++i) expected[i] += half.get(static_cast<Index>(i));
  if (dtype == DType::kFloat32) {
    processor().accumulate(out, half);
    require_close(out, expected, unit_roundoff(dtype));
  } else {
    CHECK_THROWS_AS(processor().accumulate(out, half), base::InternalError);
  }
  CHECK_THROWS_WITH(processor().add(out, out, Array(dtype, {9, 7})), Catch::Contains("b is"));
}

}  // namespace
}  // namespace longspan::backend::testing
