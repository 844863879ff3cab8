#include "longspan/nn/attention.h"

#include <catch2/catch.hpp>

#include "tests/nn/layer_bench.h"

namespace longspan::nn {
namespace {

using backend::Index;
using backend::Tensor;
using test::LayerBench;

using Lengths = std::vector<std::int32_t>;

std::vector<AttentionProjections> all_projections() {
  AttentionProjections biased = test::plain_attention();
  biased.qkv_options.has_bias = true;
  return {test::plain_attention(), biased, test::joined_attention(), test::normed_attention()};
}

/// Slots of a forward that kept all.
std::size_t slots_of(const AttentionProjections& projections) {
  const auto of = [](const std::string& norm) { return norm.empty() ? 0U : 2U; };
  return 3 + of(projections.query_norm) + of(projections.output_norm);
}

void check_backward(const AttentionSizes& sizes, const Lengths& lengths,
                    const AttentionProjections& projections, const AttentionKind& kind = {}) {
  LayerBench bench;
  ParameterSet set;
  const Attention attention(set, projections, sizes, kind);
  bench.fill(set);
  const Index tokens = bench.pass(lengths).tokens();
  const Tensor x = bench.random({tokens, sizes.hidden});
  const Tensor cotangent = bench.random({tokens, sizes.hidden});
  const Tensor out = bench.empty({tokens, sizes.hidden});
  const auto loss = [&] {
    Pass pass = bench.pass(lengths, sizes.head_dim, Pass::Keep::kNothing);
    attention.forward(out, x, pass);
    return test::dot(out, cotangent);
  };
  loss();

  Pass pass = bench.pass(lengths, sizes.head_dim);
  const Tensor in_place = bench.empty({tokens, sizes.hidden});
  bench.backend().copy(in_place, x);
  attention.forward(in_place, in_place, pass);
  CHECK(LayerBench::values(in_place) == LayerBench::values(out));
  CHECK(pass.slots() == slots_of(projections));

  bench.backend().copy(in_place, x);
  attention.backward_to_input(in_place, attention.backward_to_qkv(cotangent, in_place, pass),
                              in_place, pass);
  CHECK(pass.slots() == 0);
  test::check_gradient("x", x, LayerBench::values(in_place), loss);
  test::check_parameter_gradients(set, loss);
}

TEST_CASE("attention: its backward matches finite differences") {
  const AttentionProjections projections = GENERATE(from_range(all_projections()));
  SECTION("grouped queries, packed documents, one of them empty") {
    check_backward({.hidden = 6, .heads = 4, .kv_heads = 2, .head_dim = 4}, {3, 1, 0, 4},
                   projections);
  }
  SECTION("as many key-value heads as heads, narrower than the stream") {
    check_backward({.hidden = 10, .heads = 2, .kv_heads = 2, .head_dim = 2}, {6}, projections);
  }
  SECTION("a scale of its own, a soft cap and a window") {
    check_backward({.hidden = 6, .heads = 4, .kv_heads = 2, .head_dim = 4}, {3, 7}, projections,
                   {.scale = 0.8, .soft_cap = 1.5, .window = 3});
  }
  SECTION("not causal") {
    check_backward({.hidden = 6, .heads = 4, .kv_heads = 2, .head_dim = 4}, {3, 1, 0, 4},
                   projections, {.causal = false});
  }
}

TEST_CASE("attention: what was not kept is made again, bit for bit") {
  const AttentionKeep kept = GENERATE(AttentionKeep::kOutput, AttentionKeep::kNothing);
  const AttentionProjections projections = GENERATE(from_range(all_projections()));
  LayerBench bench;
  ParameterSet set;
  const Attention attention(set, projections,
                            {.hidden = 6, .heads = 4, .kv_heads = 2, .head_dim = 4});
  bench.fill(set);
  const Tensor x = bench.random({8, 6});
  const Tensor cotangent = bench.random({8, 6});
  const auto gradients_of = [&](AttentionKeep keep) {
    bench.backend().zero(set.gradients());
    Pass pass = bench.pass({3, 5}, 4);
    const Tensor out = bench.empty({8, 6});
    attention.forward(out, x, pass, nullptr, keep);
    if (keep != AttentionKeep::kAll) {
      CHECK(pass.slots() == (keep == AttentionKeep::kOutput ? 2 : 0));
      const Tensor once_more = bench.empty({8, 6});
      attention.again(once_more, x, pass, keep);
      CHECK(LayerBench::values(once_more) == LayerBench::values(out));
    }
    CHECK(pass.slots() == slots_of(projections));
    attention.backward_to_input(out, attention.backward_to_qkv(cotangent, x, pass), x, pass);
    return std::pair(LayerBench::values(out), LayerBench::values(set.gradients()));
  };
  CHECK(gradients_of(kept) == gradients_of(AttentionKeep::kAll));
}

TEST_CASE("attention: names are the projections'; q, k and v make one matrix") {
  const AttentionSizes sizes{.hidden = 6, .heads = 4, .kv_heads = 2, .head_dim = 4};
  ParameterSet set;
  const Attention attention(set, test::plain_attention(), sizes);
  const char* names[] = {"q_proj", "k_proj", "v_proj", "o_proj"};
  for (int i = 0; i < 4; ++i) CHECK(set.at(i).name == std::string(names[i]) + ".weight");
  CHECK(set.at(1).offset == 16 * 6);
  CHECK(set.at(3).shape == backend::Shape{6, 16});
  ParameterSet joined;
  const Attention other(joined, test::joined_attention(), sizes);
  CHECK(joined.parameters().size() == 4);
  CHECK(joined.at(0).shape == backend::Shape{6, 32});
  CHECK(joined.at(1).name == "c_attn.bias");
  CHECK(joined.at(2).shape == backend::Shape{16, 6});
}

TEST_CASE("attention: a document continued from a cache equals the whole document") {
  const AttentionProjections projections = GENERATE(from_range(all_projections()));
  const Index window = GENERATE(0, 3);
  LayerBench bench;
  ParameterSet set;
  const Attention attention(set, projections,
                            {.hidden = 6, .heads = 4, .kv_heads = 2, .head_dim = 4},
                            {.window = window});
  bench.fill(set);
  const Tensor x = bench.random({9, 6});
  const Tensor whole = bench.empty({9, 6});
  Pass pass = bench.pass({9}, 4, Pass::Keep::kNothing);
  attention.forward(whole, x, pass);

  AttentionCache cache{bench.empty({9, 2, 4}), bench.empty({9, 2, 4}), 0};
  const Tensor parts = bench.empty({9, 6});
  for (const Index count : {4, 1, 3, 1}) {
    const Index begin = cache.length;
    Pass part = bench.pass({static_cast<std::int32_t>(count)}, 4, Pass::Keep::kNothing,
                           static_cast<std::int32_t>(begin));
    attention.forward(parts.rows(begin, begin + count), x.rows(begin, begin + count), part, &cache);
    cache.length += count;
  }
  for (Index i = 0; i < whole.elements(); ++i) {
    CHECK(parts.data<double>()[i] == Approx(whole.data<double>()[i]).epsilon(1e-11));
  }
}

}  // namespace
}  // namespace longspan::nn
