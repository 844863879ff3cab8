// Layers whose weights are not trained: no gradients, and what else a backward gives is the same
// bits as of those that are.
#include <catch2/catch.hpp>

#include "longspan/nn/embedding.h"
#include "longspan/nn/layer_norm.h"
#include "longspan/nn/lm_head_loss.h"
#include "longspan/nn/rms_norm.h"
#include "tests/nn/layer_bench.h"

namespace longspan::nn {
namespace {

using backend::MemoryTag;
using backend::Tensor;
using test::LayerBench;

/// Runs `work` on a bench of its own with weights that train and on one with the same that do not;
/// it declares its layer and gives what its backward wrote.
template <typename Work>
void check_same(const Work& work) {
  const auto run = [&work](bool trains) {
    LayerBench bench;
    ParameterSet set;
    const std::vector<double> result = work(bench, set, Placement{.trains = trains});
    CHECK(set.trains() == trains);
    CHECK((bench.backend().ledger().peak(MemoryTag::kGradients) > 0) == trains);
    if (!trains) CHECK_THROWS(set.gradient(0));
    return result;
  };
  CHECK(run(true) == run(false));
}

TEST_CASE("frozen: a linear layer's dx") {
  const LinearOptions options{.has_bias = GENERATE(false, true),
                              .inputs_first = GENERATE(false, true)};
  check_same([&](LayerBench& bench, ParameterSet& set, const Placement& placement) {
    const Linear linear(set, {{"w", 4}}, 3, options);
    bench.fill(set, placement);
    Pass pass = bench.pass({5});
    const Tensor dx = bench.empty({5, 3});
    linear.backward(dx, bench.random({5, 4}), bench.random({5, 3}), pass);
    return LayerBench::values(dx);
  });
}

TEST_CASE("frozen: dx of the norms") {
  const bool is_rms = GENERATE(true, false);
  check_same([&](LayerBench& bench, ParameterSet& set, const Placement& placement) {
    std::unique_ptr<Norm> norm;
    if (is_rms) {
      norm = std::make_unique<RmsNorm>(set, "norm", 6, backend::RmsNormOptions{.epsilon = 0.01F});
    } else {
      norm = std::make_unique<LayerNorm>(set, "norm", 6, 0.01);
    }
    bench.fill(set, placement);
    Pass pass = bench.pass({5});
    const Tensor x = bench.random({5, 6});
    const Tensor out = bench.empty({5, 6});
    const Tensor statistics = bench.empty(norm->statistics(5));
    norm->forward(out, statistics, x, pass);
    norm->backward(out, bench.random({5, 6}), bench.random({5, 6}), statistics, x, pass);
    return LayerBench::values(out);
  });
}

TEST_CASE("frozen: dx of the MLP, whole and in ranges") {
  const bool is_biased = GENERATE(true, false);
  const MlpProjections projections = is_biased ? test::biased_mlp() : test::normed_mlp();
  const Mlp::Portions ranges = GENERATE(Mlp::Portions(), Mlp::Portions(MiniSequence::count(3)));
  check_same([&](LayerBench& bench, ParameterSet& set, const Placement& placement) {
    const Mlp mlp(set, projections, is_biased ? Activation::kGeluTanh : Activation::kSwiGlu, 4, 6);
    bench.fill(set, placement);
    Pass pass = bench.pass({7});
    const Tensor x = bench.random({7, 4});
    const Tensor out = bench.empty({7, 4});
    mlp.forward(out, x, pass, ranges);
    mlp.backward(out, bench.random({7, 4}), x, pass, ranges);
    return LayerBench::values(out);
  });
}

TEST_CASE("frozen: dx of attention") {
  const AttentionProjections projections =
      GENERATE(test::plain_attention(), test::joined_attention(), test::normed_attention());
  check_same([&](LayerBench& bench, ParameterSet& set, const Placement& placement) {
    const Attention attention(set, projections,
                              {.hidden = 8, .heads = 4, .kv_heads = 2, .head_dim = 2});
    bench.fill(set, placement);
    Pass pass = bench.pass({4, 3});
    const Tensor x = bench.random({7, 8});
    const Tensor out = bench.empty({7, 8});
    attention.forward(out, x, pass);
    const Tensor dqkv = attention.backward_to_qkv(bench.random({7, 8}), x, pass);
    attention.backward_to_input(out, dqkv, x, pass);
    return LayerBench::values(out);
  });
}

TEST_CASE("frozen: dx of head and loss") {
  check_same([&](LayerBench& bench, ParameterSet& set, const Placement& placement) {
    const int number = set.declare("head.weight", {11, 4}, ParameterKind::kMatrix);
    const LmHeadLoss head(set, number, MiniSequence::count(2));
    bench.fill(set, placement);
    Pass pass = bench.pass({5});
    const Tensor x = bench.random({5, 4});
    std::vector<double> result{head.forward_backward(x, x, {1, 10, -100, 3, 0}, 0.5, pass)};
    for (const double value : LayerBench::values(x)) result.push_back(value);
    return result;
  });
}

TEST_CASE("frozen: an embedding's backward does nothing") {
  LayerBench bench;
  ParameterSet set;
  const Embedding embedding(set, "embed", 5, 3, 2.0);
  bench.fill(set, {.trains = false});
  Pass pass = bench.pass({4});
  const Tensor dy = bench.random({4, 3});
  const std::vector<double> before = LayerBench::values(dy);
  embedding.backward(dy, bench.ids({0, 4, 4, 1}), pass);
  CHECK(LayerBench::values(dy) == before);
}

}  // namespace
}  // namespace longspan::nn
