#include "backend/cuda_scratch.h"
#include "tests/backend/cuda/cuda_fixture.h"
#include "tests/backend/cuda/norm_case.h"
#include "tests/backend/layer_norm_fixture.h"

namespace longspan::backend::cuda::testing {
namespace {

LayerNorm make(DType dtype, const NormCase& size, bool far = false) {
  return {dtype, size.tokens, size.hidden, size.padding, far};
}

void run_forward(Device& device, LayerNorm& norm) {
  device.layer_norm_forward(norm.out, norm.mean, norm.rstd, norm.x, norm.weight, norm.bias,
                            kLayerNormEpsilon);
}

void cpu_forward(LayerNorm& norm) {
  processor().layer_norm_forward(norm.out, norm.mean, norm.rstd, norm.x, norm.weight, norm.bias,
                                 kLayerNormEpsilon);
}

void run_backward(Device& device, LayerNorm& norm, const Tensor& residual) {
  device.layer_norm_backward(norm.dx, norm.dweight, norm.dbias, norm.dy, residual, norm.mean,
                             norm.rstd, norm.x, norm.weight);
}

TEST_CASE("cuda layer_norm_forward is the cpu's, also far from 0") {
  Device device(every_order());
  const DType dtype = every_float();
  const NormCase size = awkward_norm();
  const bool far = GENERATE(false, true);
  LayerNorm expected = make(dtype, size, far);
  LayerNorm norm = make(dtype, size, far);
  cpu_forward(expected);
  run_forward(device, norm);
  // A mean near 0 is a sum that cancels.
  require_near(norm.mean, expected.mean, same_arithmetic(wide(dtype)),
               16.0 * unit_roundoff(wide(dtype)));
  require_near(norm.rstd, expected.rstd, same_arithmetic(wide(dtype)), 0.0);
  require_near(norm.out, expected.out, same_arithmetic(dtype), 8.0 * norm.tolerance());
}

TEST_CASE("cuda add_layer_norm_forward is add, then layer_norm_forward, bit for bit") {
  Device device(every_order());
  const DType dtype = every_float();
  const NormCase size = awkward_norm();
  LayerNorm norm = make(dtype, size);
  const Shape shape{size.tokens, size.hidden};
  device.add(norm.x, norm.dy, norm.residual);
  run_forward(device, norm);
  const auto check = [&](const Array& sum, const Array& a, const Array& b) {
    Array out(dtype, shape, size.padding);
    Array mean(wide(dtype), {size.tokens});
    Array rstd(wide(dtype), {size.tokens});
    device.add_layer_norm_forward(out, mean, rstd, sum, a, b, norm.weight, norm.bias,
                                  kLayerNormEpsilon);
    CHECK(sum.same_bits(norm.x));
    CHECK(out.same_bits(norm.out));
    CHECK(mean.same_bits(norm.mean));
    CHECK(rstd.same_bits(norm.rstd));
    CHECK((sum.gaps_untouched() && out.gaps_untouched()));
  };
  check(Array(dtype, shape, size.padding), norm.dy, norm.residual);
  const Array second = norm.residual;
  check(second, norm.dy, second);
}

TEST_CASE("cuda layer_norm_backward is the cpu's, with and without a residual") {
  Device device(every_order());
  const DType dtype = every_float();
  const NormCase size = awkward_norm();
  const bool far = GENERATE(false, true);
  const bool with_residual = GENERATE(true, false);
  LayerNorm expected = make(dtype, size, far);
  LayerNorm norm = make(dtype, size, far);
  cpu_forward(norm);
  const auto residual_of = [&](const LayerNorm& of) {
    return with_residual ? of.residual.tensor() : Tensor();
  };
  processor().layer_norm_backward(expected.dx, expected.dweight, expected.dbias, norm.dy,
                                  residual_of(norm), norm.mean, norm.rstd, norm.x, norm.weight);
  run_backward(device, norm, residual_of(norm));
  // Differences and sums that cancel; both start from the same mean and rstd, which of a single
  // column is 1 / sqrt(epsilon).
  const double unit = unit_roundoff(wide(dtype));
  require_near(norm.dx, expected.dx, same_arithmetic(dtype),
               (size.hidden == 1 ? 4000.0 : 128.0) * unit);
  const double rows = 1.0 + std::sqrt(static_cast<double>(size.tokens));
  require_near(norm.dweight, expected.dweight, same_arithmetic(wide(dtype)), 16.0 * rows * unit);
  require_near(norm.dbias, expected.dbias, same_arithmetic(wide(dtype)), 16.0 * rows * unit);
}

TEST_CASE("cuda layer_norm_backward may write dx over the residual") {
  Device device(every_order());
  const DType dtype = every_float();
  LayerNorm norm = make(dtype, {13, 1000, 8});
  LayerNorm aliased = make(dtype, {13, 1000, 8});
  cpu_forward(norm);
  run_backward(device, norm, norm.residual);
  device.layer_norm_backward(aliased.residual, aliased.dweight, aliased.dbias, norm.dy,
                             aliased.residual, norm.mean, norm.rstd, norm.x, norm.weight);
  CHECK(aliased.residual.same_bits(norm.dx));
  CHECK(aliased.dweight.same_bits(norm.dweight));
  CHECK(aliased.dbias.same_bits(norm.dbias));
  CHECK(aliased.residual.gaps_untouched());
}

TEST_CASE("cuda layer_norm gives the same bits in every order of threads") {
  const DType dtype = every_float();
  const NormCase size = GENERATE(NormCase{200, 65, 0}, NormCase{20, 2056, 0});
  LayerNorm first = make(dtype, size);
  const auto run = [&](LayerNorm& norm, Device&& device) {
    run_forward(device, norm);
    run_backward(device, norm, norm.residual);
  };
  run(first, Device(shim::Order::kAscending));
  for (const shim::Order order : {shim::Order::kDescending, shim::Order::kShuffled}) {
    LayerNorm norm = make(dtype, size);
    run(norm, Device(order));
    CHECK(norm.out.same_bits(first.out));
    CHECK(norm.mean.same_bits(first.mean));
    CHECK(norm.rstd.same_bits(first.rstd));
    CHECK(norm.dx.same_bits(first.dx));
    CHECK(norm.dweight.same_bits(first.dweight));
    CHECK(norm.dbias.same_bits(first.dbias));
  }
}

TEST_CASE("cuda layer_norm gives the same bits wherever its tensors lie") {
  Device device(every_order());
  const DType dtype = every_float();
  const Shape shape{6, 1024};
  LayerNorm norm = make(dtype, {6, 1024, 0});
  const Unaligned x(dtype, shape);
  const Unaligned out(dtype, shape);
  const Unaligned dx(dtype, shape);
  const Shifted bias(norm.bias, 1);
  processor().copy(x, norm.x);
  LayerNorm other = make(dtype, {6, 1024, 0});
  run_forward(device, norm);
  device.layer_norm_forward(out, other.mean, other.rstd, x, norm.weight, bias, kLayerNormEpsilon);
  CHECK(out.aligned().same_bits(norm.out));
  CHECK(other.mean.same_bits(norm.mean));
  CHECK(other.rstd.same_bits(norm.rstd));
  run_backward(device, norm, Tensor());
  device.layer_norm_backward(dx, other.dweight, other.dbias, norm.dy, Tensor(), norm.mean,
                             norm.rstd, x, norm.weight);
  CHECK(dx.aligned().same_bits(norm.dx));
  CHECK(other.dweight.same_bits(norm.dweight));
  CHECK(other.dbias.same_bits(norm.dbias));
}

TEST_CASE("cuda layer_norm_backward takes the scratch that is foretold, and a plan counts it") {
  const DType dtype = every_float();
  const NormCase size = GENERATE(NormCase{1, 1, 0}, NormCase{700, 65, 0}, NormCase{30, 1001, 0});
  LayerNorm norm = make(dtype, size);
  Device device;
  cpu_forward(norm);
  run_backward(device, norm, Tensor());
  const std::size_t bytes = layer_norm_backward_scratch_bytes(dtype, size.tokens, size.hidden);
  CHECK(device.scratch_sizes() == std::vector<std::size_t>{bytes});

  DryBackend dry(ScratchBackend::cuda_profile(), 1);
  const std::size_t before = dry.ledger().live(MemoryTag::kWorkspace);
  dry.layer_norm_backward(norm.dx, norm.dweight, norm.dbias, norm.dy, Tensor(), norm.mean,
                          norm.rstd, norm.x, norm.weight);
  const std::size_t counted = dry.ledger().peak(MemoryTag::kWorkspace) - before;
  CHECK(counted >= bytes);
  CHECK(counted < bytes + 512);  // rounded up as the allocator does
}

TEST_CASE("cuda layer_norm launches nothing for nothing and refuses what breaks its contract") {
  Device device;
  LayerNorm none = make(DType::kFloat32, {0, 8, 0});
  const std::int64_t before = shim::launches();
  run_forward(device, none);
  device.add_layer_norm_forward(none.out, none.mean, none.rstd, none.x, none.dy, none.dy,
                                none.weight, none.bias, kLayerNormEpsilon);
  run_backward(device, none, Tensor());
  CHECK(shim::launches() == before);
  CHECK(device.scratch_sizes().empty());
  const LayerNorm norm = make(DType::kBFloat16, {4, 6, 0});
  const Array narrow(DType::kBFloat16, {4});
  CHECK_THROWS_WITH(device.layer_norm_forward(norm.out, norm.mean, norm.rstd, norm.x, norm.weight,
                                              narrow, kLayerNormEpsilon),
                    "layer_norm_forward: bias is bfloat16 [4]; expected bfloat16 [6]");
  CHECK_THROWS_AS(device.add_layer_norm_forward(norm.out, norm.mean, norm.rstd, norm.x, norm.dy,
                                                narrow, norm.weight, norm.bias, kLayerNormEpsilon),
                  base::InternalError);
  CHECK_THROWS_AS(device.layer_norm_backward(norm.dx, norm.dweight, narrow, norm.dy, Tensor(),
                                             norm.mean, norm.rstd, norm.x, norm.weight),
                  base::InternalError);
}

TEST_CASE("cuda layer_norm_backward without dweight and dbias: the same dx, and no scratch") {
  Device device(every_order());
  const DType dtype = every_float();
  const NormCase size = awkward_norm();
  LayerNorm norm = make(dtype, size);
  run_forward(device, norm);
  Array alone(dtype, {size.tokens, size.hidden}, size.padding);
  device.layer_norm_backward(alone, Tensor(), Tensor(), norm.dy, norm.residual, norm.mean,
                             norm.rstd, norm.x, norm.weight);
  CHECK(device.scratch_sizes().empty());
  run_backward(device, norm, norm.residual);
  CHECK(alone.same_bits(norm.dx));
}

}  // namespace
}  // namespace longspan::backend::cuda::testing
