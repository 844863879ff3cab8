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
  Device device(every_order());
  const DType dtype = every_float();
  const Case size = awkward_size();
  Array out = make(dtype, size, 1);
  Array expected = out;
  device.fill(out, 1.0 / 3.0);
  processor().fill(expected, 1.0 / 3.0);
  CHECK(out.same_bits(expected));
  CHECK(out.gaps_untouched());
  device.zero(out);
  processor().zero(expected);
  CHECK(out.same_bits(expected));
  CHECK(out.gaps_untouched());
}

TEST_CASE("cuda zero and copy serve integers of every size") {
  Device device(every_order());
  for (const DType dtype : {DType::kInt64, DType::kInt32, DType::kUInt16, DType::kUInt8}) {
    std::vector<std::byte> from(37 * base::size_of(dtype), std::byte{0x5B});
    std::vector<std::byte> to(from.size());
    const Tensor out(nullptr, to.data(), dtype, {37});
    device.copy(out, Tensor(nullptr, from.data(), dtype, {37}));
    CHECK(to == from);
    device.zero(out);
    CHECK(to == std::vector<std::byte>(from.size()));
  }
}

TEST_CASE("cuda copy converts between every pair of float dtypes as the cpu does") {
  Device device(every_order());
  const DType from = every_float();
  const DType to = every_float();
  const Case size = awkward_size();
  const Array in = make(from, size, 1);
  Array out(to, {size.rows, size.columns}, size.padding == 0 ? 0 : size.padding + 1);
  device.copy(out, in);
  Array expected(to, {size.rows, size.columns});
  processor().copy(expected, in);
  CHECK(out.same_bits(expected));
  CHECK(out.gaps_untouched());
}

TEST_CASE("cuda copy keeps special values") {
  Device device;
  const std::vector<float> values = {0.0F,        -0.0F,   INFINITY, -INFINITY, 1.00390625F,
                                     1.01171875F, 3.4e38F, 1e-40F,   -1.5F,     NAN};
  const auto count = static_cast<Index>(values.size());
  Array in(DType::kFloat32, {count});
  for (Index i = 0; i < count; ++i) in.set(i, values[static_cast<std::size_t>(i)]);
  Array out(DType::kBFloat16, {count});
  device.copy(out, in);
  for (Index i = 0; i + 1 < count; ++i) {
    CHECK(out.tensor().data<BFloat16>()[i].bits ==
          BFloat16(values[static_cast<std::size_t>(i)]).bits);
  }
  CHECK(std::isnan(out.get(count - 1)));
}

TEST_CASE("cuda add and accumulate are the cpu's, in place too") {
  Device device(every_order());
  const DType dtype = every_float();
  const Case size = awkward_size();
  Array a = make(dtype, size, 1);
  const Array b = make(dtype, {size.rows, size.columns, size.padding == 0 ? 0 : 8}, 2);
  Array expected(dtype, {size.rows, size.columns});
  processor().add(expected, a, b);
  Array out(dtype, {size.rows, size.columns});
  device.add(out, a, b);
  CHECK(out.same_bits(expected));
  Array other = b;
  device.add(other, a, other);
  CHECK(other.same_bits(expected));
  if (dtype == DType::kBFloat16) {
    Array sum = make(DType::kFloat32, size, 3);
    Array expected_sum = sum;
    device.accumulate(sum, a);
    processor().accumulate(expected_sum, a);
    CHECK(sum.same_bits(expected_sum));
    CHECK(sum.gaps_untouched());
  } else {
    device.accumulate(a, b);
    CHECK(a.same_bits(expected));
    CHECK(a.gaps_untouched());
  }
}

TEST_CASE("cuda scale is the cpu's") {
  Device device(every_order());
  const DType dtype = every_float();
  Array out = make(dtype, awkward_size(), 1);
  Array expected = out;
  processor().scale(expected, 1.7);
  device.scale(out, 1.7);
  CHECK(out.same_bits(expected));
  CHECK(out.gaps_untouched());
}

/// Pairs of these sizes, all of one dtype.
struct Copies {
  Copies(DType dtype, const std::vector<Case>& sizes) {
    for (const Case& size : sizes) {
      in_arrays.push_back(make(dtype, size, in_arrays.size()));
      out_arrays.emplace_back(dtype, Shape{size.rows, size.columns}, size.padding == 0 ? 8 : 0);
    }
    for (const Array& array : in_arrays) ins.push_back(array);
    for (const Array& array : out_arrays) outs.push_back(array);
  }
  void check() const {
    for (std::size_t i = 0; i < ins.size(); ++i) {
      CHECK(out_arrays[i].same_bits(in_arrays[i]));
      CHECK(out_arrays[i].gaps_untouched());
    }
  }

  std::vector<Array> in_arrays, out_arrays;
  std::vector<Tensor> ins, outs;
};

TEST_CASE("cuda copy_all copies blocks of any sizes in one launch") {
  Device device(every_order());
  const DType dtype = every_float();
  const bool aligned = GENERATE(true, false);
  const std::vector<Case> whole_packs{{7, 64, 0},    {0, 8, 0},     {300, 8, 8},
                                      {2, 4096, 16}, {1, 40000, 0}, {5, 1032, 64}};
  const std::vector<Case> parts{{7, 64, 3}, {1, 1, 0}, {3, 0, 2}, {523, 7, 1}, {3, 20001, 5}};
  const Copies copies(dtype, aligned ? whole_packs : parts);
  const std::int64_t before = shim::launches();
  device.copy_all(copies.outs, copies.ins);
  CHECK(shim::launches() == before + 1);
  copies.check();
}

TEST_CASE("cuda copy_all takes more blocks than go into one launch") {
  Device device;
  const Index count = GENERATE(64, 65, 150);
  std::vector<Case> sizes;
  for (Index i = 0; i < count; ++i) sizes.push_back({1 + i % 3, 1 + i % 11, 0});
  const Copies copies(DType::kBFloat16, sizes);
  const std::int64_t before = shim::launches();
  device.copy_all(copies.outs, copies.ins);
  CHECK(shim::launches() == before + (count + 63) / 64);
  copies.check();
}

TEST_CASE("cuda movement serves tensors that start anywhere") {
  Device device(every_order());
  const DType dtype = every_float();
  const Unaligned out(dtype, {3, 130});
  const Unaligned a(dtype, {3, 130});
  Array b(dtype, {3, 130});
  b.random(1);
  device.copy(a, b);
  device.add(out, a, b);
  Array expected(dtype, {3, 130});
  processor().add(expected, b, b);
  CHECK(out.aligned().same_bits(expected));
}

TEST_CASE("cuda movement launches nothing for nothing and refuses what breaks its contract") {
  Device device;
  const Array none(DType::kFloat32, {0, 5});
  const Array some(DType::kFloat32, {2, 3});
  const std::int64_t before = shim::launches();
  device.zero(none);
  device.fill(none, 1.0);
  device.copy(none, none);
  device.copy_all({}, {});
  device.copy_all({none, none}, {none, none});
  device.add(none, none, none);
  device.accumulate(none, none);
  CHECK(shim::launches() == before);
  CHECK_THROWS_AS(device.zero(Tensor()), base::InternalError);
  CHECK_THROWS_AS(device.fill(Array(DType::kInt32, {2}), 1.0), base::InternalError);
  CHECK_THROWS_AS(device.copy(some, Array(DType::kFloat32, {3, 2})), base::InternalError);
  CHECK_THROWS_AS(device.copy(some, Array(DType::kInt32, {2, 3})), base::InternalError);
  CHECK_THROWS_WITH(device.copy_all({some}, {some, some}), "copy_all: 1 outs for 2 ins");
  CHECK_THROWS_WITH(device.copy_all({some, some}, {some, none}),
                    "copy_all: an in is float32 [0, 5]; expected float32 [2, 3]");
  const Array half(DType::kBFloat16, {2, 3});
  CHECK_THROWS_AS(device.copy_all({some, half}, {some, half}), base::InternalError);
  CHECK_THROWS_AS(device.copy_all({some}, {half}), base::InternalError);
  CHECK_THROWS_AS(device.copy_all({Tensor()}, {some}), base::InternalError);
  CHECK_THROWS_WITH(device.add(some, some, none), Catch::Contains("add: b is float32 [0, 5]"));
  CHECK_THROWS_AS(device.accumulate(Array(DType::kFloat64, {2, 3}), some), base::InternalError);
  CHECK(shim::launches() == before);
}

}  // namespace
}  // namespace longspan::backend::cuda::testing
