#include "tests/backend/cuda/cuda_fixture.h"

namespace longspan::backend::cuda::testing {
namespace {

struct Case {
  Index rows, columns, padding;
};

/// Whole packs and not, rows that share a block, several blocks, gaps that keep and break
/// alignment.
Case awkward_size() {
  return GENERATE(Case{0, 5, 0}, Case{3, 0, 2}, Case{1, 1, 0}, Case{7, 64, 0}, Case{7, 64, 3},
                  Case{7, 64, 64}, Case{523, 7, 1}, Case{3, 20001, 0}, Case{3, 20001, 5},
                  Case{2, 4096, 16});
}

Array make(DType dtype, const Case& size, std::uint64_t salt) {
  Array array(dtype, {size.rows, size.columns}, size.padding);
  return array.random(salt);
}

TEST_CASE("cuda zero and fill write every element and no gap") {
  const Device device(every_order());
  const DType dtype = every_float();
  const Case size = awkward_size();
  Array out = make(dtype, size, 1);
  Array expected = out;
  fill(device, out, 1.0 / 3.0);
  cpu::fill(expected, 1.0 / 3.0);
  CHECK(out.same_bits(expected));
  CHECK(out.gaps_untouched());
  zero(device, out);
  cpu::zero(expected);
  CHECK(out.same_bits(expected));
  CHECK(out.gaps_untouched());
}

TEST_CASE("cuda zero and copy serve integers of every size") {
  const Device device(every_order());
  for (const DType dtype : {DType::kInt64, DType::kInt32, DType::kUInt16, DType::kUInt8}) {
    std::vector<std::byte> from(37 * base::size_of(dtype), std::byte{0x5B});
    std::vector<std::byte> to(from.size());
    const Tensor out(nullptr, to.data(), dtype, {37});
    copy(device, out, Tensor(nullptr, from.data(), dtype, {37}));
    CHECK(to == from);
    zero(device, out);
    CHECK(to == std::vector<std::byte>(from.size()));
  }
}

TEST_CASE("cuda copy converts between every pair of float dtypes as the cpu does") {
  const Device device(every_order());
  const DType from = every_float();
  const DType to = every_float();
  const Case size = awkward_size();
  const Array in = make(from, size, 1);
  Array out(to, {size.rows, size.columns}, size.padding == 0 ? 0 : size.padding + 1);
  copy(device, out, in);
  Array expected(to, {size.rows, size.columns});
  cpu::copy(expected, in);
  CHECK(out.same_bits(expected));
  CHECK(out.gaps_untouched());
}

TEST_CASE("cuda copy keeps special values") {
  const Device device;
  const std::vector<float> values = {0.0F,        -0.0F,   INFINITY, -INFINITY, 1.00390625F,
                                     1.01171875F, 3.4e38F, 1e-40F,   -1.5F,     NAN};
  const auto count = static_cast<Index>(values.size());
  Array in(DType::kFloat32, {count});
  for (Index i = 0; i < count; ++i) in.set(i, values[static_cast<std::size_t>(i)]);
  Array out(DType::kBFloat16, {count});
  copy(device, out, in);
  for (Index i = 0; i + 1 < count; ++i) {
    CHECK(out.tensor().data<BFloat16>()[i].bits ==
          BFloat16(values[static_cast<std::size_t>(i)]).bits);
  }
  CHECK(std::isnan(out.get(count - 1)));
}

TEST_CASE("cuda add and accumulate are the cpu's, in place too") {
  const Device device(every_order());
  const DType dtype = every_float();
  const Case size = awkward_size();
  Array a = make(dtype, size, 1);
  const Array b = make(dtype, {size.rows, size.columns, size.padding == 0 ? 0 : 8}, 2);
  Array expected(dtype, {size.rows, size.columns});
  cpu::add(expected, a, b);
  Array out(dtype, {size.rows, size.columns});
  add(device, out, a, b);
  CHECK(out.same_bits(expected));
  Array other = b;
  add(device, other, a, other);
  CHECK(other.same_bits(expected));
  if (dtype == DType::kBFloat16) {
    Array sum = make(DType::kFloat32, size, 3);
    Array expected_sum = sum;
    accumulate(device, sum, a);
    cpu::accumulate(expected_sum, a);
    CHECK(sum.same_bits(expected_sum));
    CHECK(sum.gaps_untouched());
  } else {
    accumulate(device, a, b);
    CHECK(a.same_bits(expected));
    CHECK(a.gaps_untouched());
  }
}

TEST_CASE("cuda movement serves tensors that start anywhere") {
  const Device device(every_order());
  const DType dtype = every_float();
  const Unaligned out(dtype, {3, 130});
  const Unaligned a(dtype, {3, 130});
  Array b(dtype, {3, 130});
  b.random(1);
  copy(device, a, b);
  add(device, out, a, b);
  Array expected(dtype, {3, 130});
  cpu::add(expected, b, b);
  CHECK(out.aligned().same_bits(expected));
}

TEST_CASE("cuda movement launches nothing for nothing and refuses what breaks its contract") {
  const Device device;
  const Array none(DType::kFloat32, {0, 5});
  const Array some(DType::kFloat32, {2, 3});
  const std::int64_t before = shim::launches();
  zero(device, none);
  fill(device, none, 1.0);
  copy(device, none, none);
  add(device, none, none, none);
  accumulate(device, none, none);
  CHECK(shim::launches() == before);
  CHECK_THROWS_AS(zero(device, Tensor()), base::InternalError);
  CHECK_THROWS_AS(fill(device, Array(DType::kInt32, {2}), 1.0), base::InternalError);
  CHECK_THROWS_AS(copy(device, some, Array(DType::kFloat32, {3, 2})), base::InternalError);
  CHECK_THROWS_AS(copy(device, some, Array(DType::kInt32, {2, 3})), base::InternalError);
  CHECK_THROWS_WITH(add(device, some, some, none), Catch::Contains("add: b is float32 [0, 5]"));
  CHECK_THROWS_AS(accumulate(device, Array(DType::kFloat64, {2, 3}), some), base::InternalError);
  CHECK(shim::launches() == before);
}

}  // namespace
}  // namespace longspan::backend::cuda::testing
