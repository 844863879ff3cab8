#include "backend/cuda_scratch.h"
#include "tests/backend/cuda/cuda_fixture.h"

namespace longspan::backend::cuda::testing {
namespace {

struct Case {
  Index tokens, width, padding;
};

/// Whole packs and not; shares of one block of threads and of several, side by side and one below
/// the other, the last of them short; gaps that keep and break alignment.
Case awkward_size() {
  return GENERATE(Case{0, 8, 0}, Case{5, 0, 0}, Case{1, 1, 0}, Case{7, 64, 0}, Case{5, 7, 3},
                  Case{3, 1000, 1}, Case{300, 37, 0}, Case{2100, 3, 0}, Case{17, 2056, 8},
                  Case{2, 20000, 8}, Case{33, 16, 16});
}

Array random_rows(DType dtype, const Case& size, std::uint64_t salt) {
  Array rows(dtype, {size.tokens, size.width}, size.padding);
  return rows.random(salt);
}

Array random_vector(DType dtype, Index width, std::uint64_t salt) {
  Array vector(dtype, {width});
  return vector.random(salt);
}

TEST_CASE("cuda add_bias is the cpu's, bit for bit") {
  Device device(every_order());
  const DType dtype = every_float();
  const Case size = awkward_size();
  Array out = random_rows(dtype, size, 1);
  Array expected = out;
  const Array bias = random_vector(dtype, size.width, 2);
  device.add_bias(out, bias);
  processor().add_bias(expected, bias);
  CHECK(out.same_bits(expected));
  CHECK(out.gaps_untouched());
}

TEST_CASE("cuda bias_backward is the cpu's") {
  Device device(every_order());
  const DType dtype = every_float();
  const Case size = awkward_size();
  const Array dy = random_rows(dtype, size, 1);
  Array dbias = random_vector(wide(dtype), size.width, 2);
  Array expected = dbias;
  device.bias_backward(dbias, dy);
  processor().bias_backward(expected, dy);
  // Sums that cancel, in another order.
  const double rows = 1.0 + std::sqrt(static_cast<double>(size.tokens));
  require_near(dbias, expected, same_arithmetic(wide(dtype)),
               16.0 * rows * unit_roundoff(wide(dtype)));
}

TEST_CASE("cuda bias_backward gives the same bits in every order of threads") {
  const DType dtype = every_float();
  const Case size = GENERATE(Case{300, 65, 0}, Case{20, 2056, 0});
  const Array dy = random_rows(dtype, size, 1);
  Array first = random_vector(wide(dtype), size.width, 2);
  const Array before = first;
  Device(shim::Order::kAscending).bias_backward(first, dy);
  for (const shim::Order order : {shim::Order::kDescending, shim::Order::kShuffled}) {
    const Array dbias = before;
    Device(order).bias_backward(dbias, dy);
    CHECK(dbias.same_bits(first));
  }
}

TEST_CASE("cuda biases give the same bits wherever their tensors lie") {
  Device device(every_order());
  const DType dtype = every_float();
  const Case size{19, 130, 0};
  const Unaligned there(dtype, {size.tokens, size.width});
  Array rows = random_rows(dtype, size, 1);
  processor().copy(there, rows);

  Array sums = random_vector(wide(dtype), size.width, 3);
  const Shifted shifted_sums(sums, 1);
  device.bias_backward(sums, rows);
  device.bias_backward(shifted_sums, there);
  CHECK(shifted_sums.values() == sums.values());
  CHECK(shifted_sums.start_untouched());

  const Array bias = random_vector(dtype, size.width, 2);
  const Shifted shifted_bias(bias, 1);
  const Array other = rows;
  device.add_bias(rows, bias);
  device.add_bias(other, shifted_bias);
  device.add_bias(there, bias);
  CHECK(other.same_bits(rows));
  CHECK(there.aligned().same_bits(rows));
}

TEST_CASE("cuda bias_backward takes the scratch that is foretold, and a plan counts it") {
  const DType dtype = every_float();
  const Case size = GENERATE(Case{1, 1, 0}, Case{700, 65, 0}, Case{30, 1001, 0});
  Device device;
  const Array dy = random_rows(dtype, size, 1);
  const Array dbias = random_vector(wide(dtype), size.width, 2);
  device.bias_backward(dbias, dy);
  const std::size_t bytes = bias_backward_scratch_bytes(dtype, size.tokens, size.width);
  CHECK(device.scratch_sizes() == std::vector<std::size_t>{bytes});

  DryBackend dry(ScratchBackend::cuda_profile(), 1);
  const std::size_t before = dry.ledger().live(MemoryTag::kWorkspace);
  dry.bias_backward(dbias, dy);
  const std::size_t counted = dry.ledger().peak(MemoryTag::kWorkspace) - before;
  CHECK(counted >= bytes);
  CHECK(counted < bytes + 512);  // rounded up as the allocator does
}

TEST_CASE("cuda biases launch nothing for nothing and refuse what breaks their contracts") {
  Device device;
  const std::int64_t before = shim::launches();
  const Array no_rows(DType::kFloat32, {0, 8});
  const Array vector = random_vector(DType::kFloat32, 8, 1);
  const Array kept = vector;
  device.add_bias(no_rows, vector);
  device.bias_backward(vector, no_rows);
  CHECK(shim::launches() == before);
  CHECK(device.scratch_sizes().empty());
  CHECK(vector.same_bits(kept));
  const Array rows(DType::kBFloat16, {4, 8});
  CHECK_THROWS_WITH(device.add_bias(rows, vector),
                    "add_bias: bias is float32 [8]; expected bfloat16 [8]");
  CHECK_THROWS_AS(device.add_bias(vector, vector), base::InternalError);
  CHECK_THROWS_WITH(device.bias_backward(Array(DType::kBFloat16, {8}), rows),
                    "bias_backward: dbias is bfloat16 [8]; expected float32 [8]");
  CHECK_THROWS_AS(device.bias_backward(vector, vector), base::InternalError);
}

}  // namespace
}  // namespace longspan::backend::cuda::testing
