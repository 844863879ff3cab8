#include "backend/cuda_scratch.h"
#include "tests/backend/cuda/cuda_fixture.h"
#include "tests/backend/cuda/norm_case.h"

namespace longspan::backend::cuda::testing {
namespace {

constexpr RmsNormOptions kOptions{.epsilon = 1e-5F, .weight_offset = 0.25F};

struct Norm {
  Norm(DType dtype, const NormCase& size)
      : x(dtype, {size.tokens, size.hidden}, size.padding),
        weight(dtype, {size.hidden}),
        out(dtype, {size.tokens, size.hidden}, size.padding),
        rstd(wide(dtype), {size.tokens}),
        dy(dtype, {size.tokens, size.hidden}, size.padding),
        residual(dtype, {size.tokens, size.hidden}, size.padding),
        dx(dtype, {size.tokens, size.hidden}, size.padding),
        dweight(wide(dtype), {size.hidden}) {
    x.random(1);
    weight.random(2);
    dy.random(3);
    residual.random(4);
    dweight.random(5);
  }

  Array x, weight, out, rstd, dy, residual, dx, dweight;
};

/// Sums of up to `count` terms of size 1, in another order: their roundings add up as a random walk
/// does, of which sqrt(count) units are more than the worst of many.
double sum_error(DType dtype, Index count) {
  return 4.0 * std::sqrt(static_cast<double>(count)) * unit_roundoff(wide(dtype));
}

TEST_CASE("cuda rms_norm_forward is the cpu's, and again gives the same bits") {
  Device device(every_order());
  const DType dtype = every_float();
  const NormCase size = awkward_norm();
  Norm expected(dtype, size);
  Norm norm(dtype, size);
  processor().rms_norm_forward(expected.out, expected.rstd, norm.x, norm.weight, kOptions);
  device.rms_norm_forward(norm.out, norm.rstd, norm.x, norm.weight, kOptions);
  // All terms of the sum are positive: its relative error is that of one rounding, a few times.
  require_near(norm.rstd, expected.rstd, same_arithmetic(wide(dtype)), 0.0);
  require_near(norm.out, expected.out, same_arithmetic(dtype), 0.0);
  Array again(dtype, {size.tokens, size.hidden});
  device.rms_norm_again(again, norm.rstd, norm.x, norm.weight, kOptions);
  CHECK(again.same_bits(norm.out));
}

TEST_CASE("cuda rms_norm of heads is the cpu's; dx may be dy") {
  Device device(every_order());
  const DType dtype = every_float();
  const Index width = GENERATE(1, 10, 64, 2056);
  const Index padding = GENERATE(0, 3, 16);
  const Shape shape{11, 3, width};
  Array x(dtype, shape, padding);
  x.random(1);
  Array weight(dtype, {width});
  weight.random(2);
  Array d(dtype, shape, padding);
  d.random(3);
  Array out(dtype, shape, padding);
  Array expected(dtype, shape);
  Array rstd(wide(dtype), {11, 3});
  Array expected_rstd(wide(dtype), {11, 3});
  processor().rms_norm_forward(expected, expected_rstd, x, weight, kOptions);
  device.rms_norm_forward(out, rstd, x, weight, kOptions);
  require_near(rstd, expected_rstd, same_arithmetic(wide(dtype)), 0.0);
  require_near(out, expected, same_arithmetic(dtype), 0.0);
  Array again(dtype, shape);
  device.rms_norm_again(again, rstd, x, weight, kOptions);
  CHECK(again.values() == out.values());

  Array dweight(wide(dtype), {width});
  Array expected_dweight(wide(dtype), {width});
  dweight.random(5);
  expected_dweight.random(5);
  processor().rms_norm_backward(expected, expected_dweight, d, Tensor(), rstd, x, weight, kOptions);
  device.rms_norm_backward(d, dweight, d, Tensor(), rstd, x, weight, kOptions);
  // dx is a difference: where it is near 0, the error of its parts (of size 10) remains.
  require_near(d, expected, same_arithmetic(dtype), 10.0 * sum_error(dtype, width));
  require_near(dweight, expected_dweight, 0.0, 10.0 * sum_error(dtype, 33));
  CHECK((out.gaps_untouched() && d.gaps_untouched()));
}

TEST_CASE("cuda add_rms_norm_forward is add, then rms_norm_forward, bit for bit") {
  Device device(every_order());
  const DType dtype = every_float();
  const NormCase size = awkward_norm();
  Norm norm(dtype, size);
  const Shape shape{size.tokens, size.hidden};
  device.add(norm.x, norm.dy, norm.residual);
  device.rms_norm_forward(norm.out, norm.rstd, norm.x, norm.weight, kOptions);
  const auto check = [&](const Array& sum, const Array& a, const Array& b) {
    Array out(dtype, shape, size.padding);
    Array rstd(wide(dtype), {size.tokens});
    device.add_rms_norm_forward(out, rstd, sum, a, b, norm.weight, kOptions);
    CHECK(sum.same_bits(norm.x));
    CHECK(out.same_bits(norm.out));
    CHECK(rstd.same_bits(norm.rstd));
    CHECK((sum.gaps_untouched() && out.gaps_untouched()));
  };
  check(Array(dtype, shape, size.padding), norm.dy, norm.residual);
  const Array first = norm.dy;
  check(first, first, norm.residual);
  const Array second = norm.residual;
  check(second, norm.dy, second);
}

TEST_CASE("cuda rms_norm_backward is the cpu's, with and without a residual") {
  Device device(every_order());
  const DType dtype = every_float();
  const NormCase size = awkward_norm();
  const bool with_residual = GENERATE(true, false);
  Norm expected(dtype, size);
  Norm norm(dtype, size);
  processor().rms_norm_forward(norm.out, norm.rstd, norm.x, norm.weight, kOptions);
  const Tensor residual = with_residual ? norm.residual.tensor() : Tensor();
  processor().rms_norm_backward(expected.dx, expected.dweight, norm.dy, residual, norm.rstd, norm.x,
                                norm.weight, kOptions);
  device.rms_norm_backward(norm.dx, norm.dweight, norm.dy, residual, norm.rstd, norm.x, norm.weight,
                           kOptions);
  // dx is a difference: where it is near 0, the error of its parts (of size 10) remains.
  const double absolute = 10.0 * (8.0 * unit_roundoff(wide(dtype)) + sum_error(dtype, 1));
  require_near(norm.dx, expected.dx, same_arithmetic(dtype), absolute);
  require_near(norm.dweight, expected.dweight, same_arithmetic(wide(dtype)),
               4.0 * sum_error(dtype, size.tokens));
}

TEST_CASE("cuda rms_norm_backward may write dx over the residual") {
  Device device(every_order());
  const DType dtype = every_float();
  Norm norm(dtype, {13, 1000, 8});
  Norm aliased(dtype, {13, 1000, 8});
  processor().rms_norm_forward(norm.out, norm.rstd, norm.x, norm.weight, kOptions);
  device.rms_norm_backward(norm.dx, norm.dweight, norm.dy, norm.residual, norm.rstd, norm.x,
                           norm.weight, kOptions);
  device.rms_norm_backward(aliased.residual, aliased.dweight, norm.dy, aliased.residual, norm.rstd,
                           norm.x, norm.weight, kOptions);
  CHECK(aliased.residual.same_bits(norm.dx));
  CHECK(aliased.dweight.same_bits(norm.dweight));
  CHECK(aliased.residual.gaps_untouched());
}

TEST_CASE("cuda rms_norm gives the same bits in every order of threads") {
  const DType dtype = every_float();
  const NormCase size = GENERATE(NormCase{200, 65, 0}, NormCase{20, 2056, 0});
  Norm first(dtype, size);
  const auto run = [&](Norm& norm, Device&& device) {
    device.rms_norm_forward(norm.out, norm.rstd, norm.x, norm.weight, kOptions);
    device.rms_norm_backward(norm.dx, norm.dweight, norm.dy, norm.residual, norm.rstd, norm.x,
                             norm.weight, kOptions);
  };
  run(first, Device(shim::Order::kAscending));
  for (const shim::Order order : {shim::Order::kDescending, shim::Order::kShuffled}) {
    Norm norm(dtype, size);
    run(norm, Device(order));
    CHECK(norm.out.same_bits(first.out));
    CHECK(norm.rstd.same_bits(first.rstd));
    CHECK(norm.dx.same_bits(first.dx));
    CHECK(norm.dweight.same_bits(first.dweight));
  }
}

TEST_CASE("cuda rms_norm gives the same bits wherever its tensors lie") {
  Device device(every_order());
  const DType dtype = every_float();
  const NormCase size{6, 1024, 0};
  Norm norm(dtype, size);
  const Shape shape{size.tokens, size.hidden};
  const Unaligned x(dtype, shape);
  const Unaligned out(dtype, shape);
  const Unaligned dx(dtype, shape);
  processor().copy(x, norm.x);
  Array rstd(wide(dtype), {size.tokens});
  Array dweight = norm.dweight;
  device.rms_norm_forward(norm.out, norm.rstd, norm.x, norm.weight, kOptions);
  device.rms_norm_forward(out, rstd, x, norm.weight, kOptions);
  CHECK(out.aligned().same_bits(norm.out));
  CHECK(rstd.same_bits(norm.rstd));
  const Unaligned sum(dtype, shape);
  Array added(dtype, shape);
  device.add(added, norm.x, norm.dy);
  device.rms_norm_forward(norm.out, norm.rstd, added, norm.weight, kOptions);
  device.add_rms_norm_forward(out, rstd, sum, x, norm.dy, norm.weight, kOptions);
  CHECK(sum.aligned().same_bits(added));
  CHECK(out.aligned().same_bits(norm.out));
  CHECK(rstd.same_bits(norm.rstd));
  device.rms_norm_backward(norm.dx, norm.dweight, norm.dy, Tensor(), rstd, norm.x, norm.weight,
                           kOptions);
  device.rms_norm_backward(dx, dweight, norm.dy, Tensor(), rstd, x, norm.weight, kOptions);
  CHECK(dx.aligned().same_bits(norm.dx));
  CHECK(dweight.same_bits(norm.dweight));
}

TEST_CASE("cuda rms_norm_backward takes the scratch that is foretold, and a plan counts it") {
  const DType dtype = every_float();
  const NormCase size = GENERATE(NormCase{1, 1, 0}, NormCase{700, 65, 0}, NormCase{30, 1001, 0});
  Norm norm(dtype, size);
  Device device;
  processor().rms_norm_forward(norm.out, norm.rstd, norm.x, norm.weight, kOptions);
  device.rms_norm_backward(norm.dx, norm.dweight, norm.dy, Tensor(), norm.rstd, norm.x, norm.weight,
                           kOptions);
  const std::size_t bytes = rms_norm_backward_scratch_bytes(dtype, size.tokens, size.hidden);
  CHECK(device.scratch_sizes() == std::vector<std::size_t>{bytes});

  DryBackend dry(ScratchBackend::cuda_profile(), 1);
  const std::size_t before = dry.ledger().live(MemoryTag::kWorkspace);
  dry.rms_norm_backward(norm.dx, norm.dweight, norm.dy, Tensor(), norm.rstd, norm.x, norm.weight,
                        kOptions);
  const std::size_t counted = dry.ledger().peak(MemoryTag::kWorkspace) - before;
  CHECK(counted >= bytes);
  CHECK(counted < bytes + 512);  // rounded up as the allocator does
}

TEST_CASE("the blocks of a sum over rows cover all of them, not too finely") {
  const Index vectors = GENERATE(1, 2);
  for (const Index hidden : {1, 64, 1000, 4096, 16384}) {
    for (const Index tokens : {1, 7, 8, 9, 4097, 131072, 3000000}) {
      const RowShares shares = row_shares(tokens, hidden, vectors);
      CHECK(shares.blocks * shares.rows_each >= tokens);
      CHECK((shares.blocks - 1) * shares.rows_each < tokens);
      CHECK(shares.columns >= hidden);
      CHECK(shares.elements() <= std::max<Index>(Index{1} << 21, 512 * shares.pitch()));
    }
  }
}

TEST_CASE("cuda rms_norm launches nothing for nothing and refuses what breaks its contract") {
  Device device;
  Norm none(DType::kFloat32, {0, 8, 0});
  const std::int64_t before = shim::launches();
  device.rms_norm_forward(none.out, none.rstd, none.x, none.weight, kOptions);
  device.add_rms_norm_forward(none.out, none.rstd, none.x, none.dy, none.dy, none.weight, kOptions);
  device.rms_norm_again(none.out, none.rstd, none.x, none.weight, kOptions);
  device.rms_norm_backward(none.dx, none.dweight, none.dy, Tensor(), none.rstd, none.x, none.weight,
                           kOptions);
  CHECK(shim::launches() == before);
  CHECK(device.scratch_sizes().empty());
  Norm norm(DType::kBFloat16, {4, 6, 0});
  const Array short_weight(DType::kBFloat16, {5});
  CHECK_THROWS_WITH(device.rms_norm_forward(norm.out, norm.rstd, norm.x, short_weight, kOptions),
                    "rms_norm_forward: weight is bfloat16 [5]; expected bfloat16 [6]");
  CHECK_THROWS_WITH(device.add_rms_norm_forward(norm.out, norm.rstd, norm.x, norm.dy, short_weight,
                                                norm.weight, kOptions),
                    "add_rms_norm_forward: b is bfloat16 [5]; expected bfloat16 [4, 6]");
  CHECK_THROWS_AS(device.rms_norm_again(norm.out, short_weight, norm.x, norm.weight, kOptions),
                  base::InternalError);
  CHECK_THROWS_AS(device.rms_norm_backward(norm.dx, short_weight, norm.dy, Tensor(), norm.rstd,
                                           norm.x, norm.weight, kOptions),
                  base::InternalError);
}

TEST_CASE("cuda rms_norm_backward without a dweight: the same dx, and no scratch") {
  const DType dtype = every_float();
  const NormCase size = awkward_norm();
  Device device(every_order());
  Norm norm(dtype, size);
  device.rms_norm_forward(norm.out, norm.rstd, norm.x, norm.weight, kOptions);
  Array alone(dtype, {size.tokens, size.hidden}, size.padding);
  device.rms_norm_backward(alone, Tensor(), norm.dy, norm.residual, norm.rstd, norm.x, norm.weight,
                           kOptions);
  CHECK(device.scratch_sizes().empty());
  device.rms_norm_backward(norm.dx, norm.dweight, norm.dy, norm.residual, norm.rstd, norm.x,
                           norm.weight, kOptions);
  CHECK(alone.same_bits(norm.dx));
}

}  // namespace
}  // namespace longspan::backend::cuda::testing
