#include "longspan/train/matmul_bench.h"

#include "longspan/backend/backend.h"
#include "train/precision.h"
#include "train/timing.h"

namespace longspan::train {
namespace {

using backend::Index;
using backend::MemoryTag;
using backend::Tensor;

/// Times the three products of a linear layer y[tokens, out] = x[tokens, in] W[out, in]^T.
class LinearBench {
 public:
  LinearBench(backend::Backend& backend, base::DType dtype, Index tokens, Index in, Index out,
              base::DType result)
      : backend_(&backend) {
    const auto gradient =
        dtype == base::DType::kFloat64 ? base::DType::kFloat64 : base::DType::kFloat32;
    x_ = make({tokens, in}, dtype);
    y_ = make({tokens, out}, result);
    dy_ = make({tokens, out}, dtype);
    weight_ = make({out, in}, dtype);
    dweight_ = make({out, in}, gradient);
  }

  void forward() { backend_->matmul(y_, x_, weight_, {false, true, false}); }
  void input_gradient() { backend_->matmul(x_, dy_, weight_, {}); }
  void weight_gradient() { backend_->matmul(dweight_, dy_, x_, {true, false, false}); }

 private:
  Tensor make(const backend::Shape& shape, base::DType dtype) {
    const Tensor tensor = backend_->allocate(shape, dtype, MemoryTag::kWorkspace);
    backend_->random_normal(tensor, {1, base::Purpose::kTest, 0, 0}, 0.01, 0);
    return tensor;
  }

  backend::Backend* backend_;
  Tensor x_, y_, dy_, weight_, dweight_;
};

}  // namespace

std::vector<MatmulFigure> bench_matmuls(const MatmulShapes& shapes, const std::string& precision,
                                        int repeats, backend::Backend& backend) {
  const base::DType dtype = dtype_of_precision(precision);
  struct Layer {
    const char* name;
    Index in, out, times;
  };
  const Index h = shapes.hidden_size;
  const std::vector<Layer> layers = {
      {"qkv", h, 3 * h, shapes.layers},
      {"attention out", h, h, shapes.layers},
      {"gate and up", h, 2 * shapes.intermediate_size, shapes.layers},
      {"down", shapes.intermediate_size, h, shapes.layers},
      {"head", h, shapes.vocab_size, 1}};
  std::vector<MatmulFigure> figures;
  for (const Layer& layer : layers) {
    // Logits stay in float32 for the loss.
    const bool is_head = layer.out == shapes.vocab_size;
    const auto result = is_head && dtype == base::DType::kBFloat16 ? base::DType::kFloat32 : dtype;
    // Weights of its own for each layer: a step finds none of them in the caches.
    std::vector<LinearBench> benches;
    for (Index i = 0; i < layer.times; ++i) {
      benches.emplace_back(backend, dtype, shapes.tokens, layer.in, layer.out, result);
    }
    const auto seconds_of = [&](void (LinearBench::*product)()) {
      const double all = median_seconds(repeats, backend, [&] {
        for (LinearBench& bench : benches) (bench.*product)();
      });
      return all / static_cast<double>(layer.times);
    };
    const std::string name = layer.name;
    figures.push_back({name + " forward", shapes.tokens, layer.out, layer.in, layer.times,
                       seconds_of(&LinearBench::forward)});
    figures.push_back({name + " input gradient", shapes.tokens, layer.in, layer.out, layer.times,
                       seconds_of(&LinearBench::input_gradient)});
    figures.push_back({name + " weight gradient", layer.out, layer.in, shapes.tokens, layer.times,
                       seconds_of(&LinearBench::weight_gradient)});
  }
  return figures;
}

}  // namespace longspan::train
