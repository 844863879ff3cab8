#include <catch2/catch.hpp>
#include <vector>

#include "tests/gpu/sides.h"

// What optimizers ask of the cuda backend, against the cpu's.
namespace longspan::test {
namespace {

using backend::Index;
using backend::Tensor;
using base::DType;
using Tensors = std::vector<Tensor>;

TEST_CASE("gpu: AdamW") {
  const DType dtype = every_float();
  compare(
      [&](Side& side) -> Tensors {
        const Index elements = 5003;
        const Tensor master = side.random({elements}, wide(dtype));
        const Tensor moment1 = side.random({elements}, wide(dtype), 0.1);
        const Tensor moment2 = side.unwritten({elements}, wide(dtype));
        side.backend().fill(moment2, 0.01);
        const Tensor gradient = side.random({elements}, wide(dtype));
        const Tensor weight = dtype == wide(dtype) ? Tensor() : side.unwritten({elements}, dtype);
        side.backend().adamw(weight, master, moment1, moment2, gradient,
                             {.learning_rate = 0.01F, .weight_decay = 0.1F, .update = 3});
        Tensors results{master, moment1, moment2};
        if (weight.defined()) results.push_back(weight);
        return results;
      },
      tolerance(dtype, 16));
}

TEST_CASE("gpu: products with a direction, and adamw of compressed gradients") {
  const DType dtype = every_float();
  const Index length = GENERATE(1, 16, 43, 344);
  compare(
      [&](Side& side) -> Tensors {
        const Tensor direction = side.random({length}, wide(dtype));
        const Tensor x = side.random({130, 9 * length}, dtype);
        const Tensor out = side.unwritten({130, 9}, dtype);
        side.backend().project(out, x, direction, 0.5);
        const Index numbers = 1001;
        const Tensor master = side.random({numbers * length}, wide(dtype));
        const Tensor moment1 = side.random({numbers}, wide(dtype));
        const Tensor moment2 = side.unwritten({numbers}, wide(dtype));
        side.backend().fill(moment2, 0.01);
        const Tensor gradient = side.random({numbers}, wide(dtype));
        const Tensor weight =
            dtype == wide(dtype) ? Tensor() : side.unwritten({numbers * length}, dtype);
        side.backend().adamw_compressed(
            weight, master, moment1, moment2, gradient, direction,
            {.learning_rate = 0.01F, .weight_decay = 0.1F, .update = 3});
        Tensors results{out, master, moment1, moment2};
        if (weight.defined()) results.push_back(weight);
        return results;
      },
      tolerance(dtype, static_cast<int>(length) + 16));
}

TEST_CASE("gpu: AdamW with moments of bfloat16, rounded at random") {
  const DType dtype = GENERATE(DType::kFloat32, DType::kBFloat16);
  compare(
      [&](Side& side) -> Tensors {
        const Index elements = 5003;
        const Tensor master = side.random({elements}, DType::kFloat32);
        const Tensor moment1 = side.random({elements}, DType::kBFloat16, 0.1);
        const Tensor moment2 = side.unwritten({elements}, DType::kBFloat16);
        side.backend().fill(moment2, 0.01);
        const Tensor gradient = side.random({elements}, DType::kFloat32);
        const Tensor weight =
            dtype == DType::kFloat32 ? Tensor() : side.unwritten({elements}, dtype);
        backend::AdamWOptions options{.learning_rate = 0.01F, .weight_decay = 0.1F, .update = 3};
        options.rounding.emplace(5, base::Purpose::kMomentRounding, 3, 2);
        side.backend().adamw(weight, master, moment1, moment2, gradient, options);
        return {master};
      },
      tolerance(DType::kFloat32, 16));
}

TEST_CASE("gpu: AdamW with moments of 8 bits") {
  const DType dtype = GENERATE(DType::kFloat32, DType::kBFloat16);
  compare(
      [&](Side& side) -> Tensors {
        const Index elements = 5003;
        const Index blocks = (elements + backend::kMomentBlock - 1) / backend::kMomentBlock;
        const Tensor master = side.random({elements}, DType::kFloat32);
        const Tensor codes1 = side.zeros({elements}, DType::kUInt8);
        const Tensor codes2 = side.zeros({elements}, DType::kUInt8);
        const Tensor scales1 = side.zeros({blocks}, DType::kFloat32);
        const Tensor scales2 = side.zeros({blocks}, DType::kFloat32);
        const Tensor weight =
            dtype == DType::kFloat32 ? Tensor() : side.unwritten({elements}, dtype);
        for (int update = 1; update <= 2; ++update) {
          const Tensor gradient = side.random({elements}, DType::kFloat32);
          side.backend().adamw_8bit(weight, master, codes1, scales1, codes2, scales2, gradient,
                                    {.learning_rate = 1e-4F, .update = update});
        }
        return {master, scales1, scales2};
      },
      tolerance(DType::kFloat32, 4096));
}

TEST_CASE("gpu: principal directions") {
  const DType dtype = GENERATE(DType::kFloat32, DType::kFloat64);
  compare(
      [&](Side& side) -> Tensors {
        const Tensor gram = side.unwritten({40, 40}, dtype);
        const Tensor factor = side.random({40, 3}, dtype);
        side.backend().matmul(gram, factor, factor, {.transpose_b = true});
        const Tensor directions = side.unwritten({3, 40}, dtype);
        side.backend().principal_directions(directions, gram);
        return {directions};
      },
      tolerance(dtype, 65536));
}

}  // namespace
}  // namespace longspan::test
