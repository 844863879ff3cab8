#include <catch2/catch.hpp>
#include <cmath>

#include "tests/gpu/sides.h"

// What layers do token by token: norms, positions, activations, biases. See operations_test.cpp.
namespace longspan::test {
namespace {

using backend::GateActivation;
using backend::Index;
using backend::RmsNormOptions;
using backend::Tensor;
using base::DType;
using Tensors = std::vector<Tensor>;

TEST_CASE("gpu: RMS norm") {
  const DType dtype = every_float();
  const Index hidden = GENERATE(7, 64, 2048, 5001);
  compare(
      [&](Side& side) -> Tensors {
        auto& backend = side.backend();
        const Tensor x = side.random({37, hidden}, dtype);
        const Tensor weight = side.random({hidden}, dtype);
        const Tensor dy = side.random({37, hidden}, dtype);
        const Tensor residual = side.random({37, hidden}, dtype);
        const Tensor out = side.unwritten({37, hidden}, dtype);
        const Tensor again = side.unwritten({37, hidden}, dtype);
        const Tensor rstd = side.unwritten({37}, wide(dtype));
        const Tensor dx = side.unwritten({37, hidden}, dtype);
        const Tensor dweight = side.random({hidden}, wide(dtype));
        const RmsNormOptions options{.epsilon = 1e-5F, .weight_offset = 0.5F};
        backend.rms_norm_forward(out, rstd, x, weight, options);
        backend.rms_norm_again(again, rstd, x, weight, options);
        backend.rms_norm_backward(dx, dweight, dy, residual, rstd, x, weight, options);
        const Tensor of_sum = side.unwritten({37, hidden}, dtype);
        const Tensor rstd_of_sum = side.unwritten({37}, wide(dtype));
        backend.add_rms_norm_forward(of_sum, rstd_of_sum, dy, dy, residual, weight, options);
        return {out, again, rstd, dx, dweight, of_sum, rstd_of_sum, dy};
      },
      tolerance(dtype, static_cast<double>(hidden)));
}

TEST_CASE("gpu: RMS norm of heads, and scaling") {
  const DType dtype = every_float();
  const Index width = GENERATE(7, 64, 128, 256);
  const Index padding = GENERATE(0, 3, 512);
  compare(
      [&](Side& side) -> Tensors {
        auto& backend = side.backend();
        const RmsNormOptions options{.epsilon = 1e-6F};
        const Tensor x = side.random({37, 5, width}, dtype, 1.0, padding);
        const Tensor weight = side.random({width}, dtype);
        const Tensor d = side.random({37, 5, width}, dtype, 1.0, padding);
        const Tensor out = side.unwritten({37, 5, width}, dtype, padding);
        const Tensor again = side.unwritten({37, 5, width}, dtype);
        const Tensor rstd = side.unwritten({37, 5}, wide(dtype));
        const Tensor dweight = side.random({width}, wide(dtype));
        backend.rms_norm_forward(out, rstd, x, weight, options);
        backend.rms_norm_again(again, rstd, x, weight, options);
        backend.rms_norm_backward(d, dweight, d, Tensor(), rstd, x, weight, options);
        backend.scale(out, 1.7);
        return {out, again, rstd, d, dweight};
      },
      tolerance(dtype, 256));
}

TEST_CASE("gpu: layer norm") {
  const DType dtype = every_float();
  const Index hidden = GENERATE(7, 64, 2048, 5001);
  compare(
      [&](Side& side) -> Tensors {
        auto& backend = side.backend();
        const Tensor x = side.random({37, hidden}, dtype);
        const Tensor weight = side.random({hidden}, dtype);
        const Tensor bias = side.random({hidden}, dtype);
        const Tensor dy = side.random({37, hidden}, dtype);
        const Tensor residual = side.random({37, hidden}, dtype);
        const Tensor out = side.unwritten({37, hidden}, dtype);
        const Tensor mean = side.unwritten({37}, wide(dtype));
        const Tensor rstd = side.unwritten({37}, wide(dtype));
        const Tensor dx = side.unwritten({37, hidden}, dtype);
        const Tensor dweight = side.random({hidden}, wide(dtype));
        const Tensor dbias = side.random({hidden}, wide(dtype));
        backend.layer_norm_forward(out, mean, rstd, x, weight, bias, 1e-5F);
        backend.layer_norm_backward(dx, dweight, dbias, dy, residual, mean, rstd, x, weight);
        const Tensor of_sum = side.unwritten({37, hidden}, dtype);
        const Tensor mean_of_sum = side.unwritten({37}, wide(dtype));
        const Tensor rstd_of_sum = side.unwritten({37}, wide(dtype));
        backend.add_layer_norm_forward(of_sum, mean_of_sum, rstd_of_sum, dy, dy, residual, weight,
                                       bias, 1e-5F);
        return {out, mean, rstd, dx, dweight, dbias, of_sum, mean_of_sum, rstd_of_sum, dy};
      },
      tolerance(dtype, static_cast<double>(hidden)));
}

TEST_CASE("gpu: rotary positions") {
  const DType dtype = every_float();
  const Index head_dim = GENERATE(2, 6, 64, 128);
  std::vector<double> frequencies;
  for (Index i = 0; i < head_dim / 2; ++i) {
    frequencies.push_back(
        std::pow(1e4, -2.0 * static_cast<double>(i) / static_cast<double>(head_dim)));
  }
  compare(
      [&](Side& side) -> Tensors {
        const Tensor positions = side.integers({0, 1, 2, 100000, 5, 1000000});
        const Tensor table = side.unwritten({6, head_dim}, wide(dtype));
        side.backend().rope_table(table, positions, frequencies, 1.25);
        const Tensor x = side.random({6, 3, head_dim}, dtype, 1.0, 2 * head_dim);
        const Tensor y = side.random({6, 3, head_dim}, dtype);
        const Tensor z = side.unwritten({6, 3, head_dim}, dtype, 2 * head_dim);
        side.backend().rope(z, y, table, false);
        side.backend().rope(x, x, table, false);
        side.backend().rope(y, y, table, true);
        return {table, x, y, z};
      },
      tolerance(dtype, 2));
}

TEST_CASE("gpu: SwiGLU and GeGLU") {
  const DType dtype = every_float();
  const GateActivation activation = GENERATE(GateActivation::kSilu, GateActivation::kGeluTanh);
  const Index inner = GENERATE(1, 9, 1024);
  compare(
      [&](Side& side) -> Tensors {
        const Tensor gate_up = side.random({33, 2 * inner}, dtype, 3.0);
        const Tensor dout = side.random({33, inner}, dtype);
        const Tensor out = side.unwritten({33, inner}, dtype);
        const Tensor again = side.unwritten({33, inner}, dtype);
        const Tensor dgate_up = side.unwritten({33, 2 * inner}, dtype);
        side.backend().gated_forward(out, gate_up, activation);
        side.backend().gated_backward(dgate_up, again, dout, gate_up, activation);
        return {out, again, dgate_up};
      },
      tolerance(dtype, 64));  // 1 - sigmoid cancels
}

TEST_CASE("gpu: biases") {
  const DType dtype = every_float();
  const Index width = GENERATE(1, 9, 1024);
  const Index padding = GENERATE(0, 3, 8);
  compare(
      [&](Side& side) -> Tensors {
        const Tensor out = side.random({333, width}, dtype, 1.0, padding);
        const Tensor bias = side.random({width}, dtype);
        const Tensor dbias = side.random({width}, wide(dtype));
        const Tensor dy = side.random({333, width}, dtype, 1.0, padding);
        side.backend().add_bias(out, bias);
        side.backend().bias_backward(dbias, dy);
        return {out, dbias};
      },
      tolerance(dtype, 333));
}

TEST_CASE("gpu: products element by element") {
  const DType dtype = every_float();
  const Index width = GENERATE(1, 9, 1024);
  const Index padding = GENERATE(0, 3, 8);
  compare(
      [&](Side& side) -> Tensors {
        const Tensor x = side.random({333, width}, dtype, 1.0, padding);
        const Tensor y = side.random({333, width}, dtype, 1.0, padding);
        const Tensor gate = side.random({width}, dtype);
        const Tensor sum = side.unwritten({333, width}, dtype, padding);
        const Tensor scaled = side.unwritten({333, width}, dtype, padding);
        const Tensor product = side.unwritten({333, width}, dtype, padding);
        side.backend().add_product(sum, x, y, gate);
        side.backend().add_product(scaled, Tensor(), y, gate);
        side.backend().multiply(product, x, y);
        return {sum, scaled, product};
      },
      0.0);  // each is rounded once
}

TEST_CASE("gpu: GELU") {
  const DType dtype = every_float();
  const Index width = GENERATE(1, 9, 1024);
  const Index padding = GENERATE(0, 3);
  compare(
      [&](Side& side) -> Tensors {
        const Tensor x = side.random({33, width}, dtype, 3.0, padding);
        const Tensor dout = side.random({33, width}, dtype);
        const Tensor out = side.unwritten({33, width}, dtype, padding);
        const Tensor again = side.unwritten({33, width}, dtype);
        const Tensor dx = side.unwritten({33, width}, dtype, padding);
        side.backend().gelu_forward(out, x);
        side.backend().gelu_backward(dx, again, dout, x);
        return {out, again, dx};
      },
      tolerance(dtype, 64));  // 1 - sigmoid cancels
}

}  // namespace
}  // namespace longspan::test
