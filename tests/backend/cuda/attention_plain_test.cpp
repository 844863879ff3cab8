#include <numeric>

#include "backend/cuda/plain_attention.h"
#include "backend/cuda_scratch.h"
#include "tests/backend/cuda/cuda_fixture.h"

namespace longspan::backend::cuda::testing {
namespace {

struct Problem {
  Index heads, kv_heads, head_dim;
  std::vector<int> queries, keys;  ///< of each document
  bool causal;
  const char* what;
  Index window = 0;
  float soft_cap = 0;
};

CuSeqlens offsets(const std::vector<int>& lengths) {
  CuSeqlens result = {0};
  for (const int length : lengths) result.push_back(result.back() + length);
  return result;
}

/// All tensors of one problem in one dtype. q, k and v are columns of one matrix where they are of
/// one length, and so are dq, dk and dv; others have gaps between their rows.
class Case {
 public:
  Case(const Problem& problem, DType dtype)
      : cu_q(offsets(problem.queries)),
        cu_k(offsets(problem.keys)),
        heads_(problem.heads),
        kv_heads_(problem.kv_heads),
        head_dim_(problem.head_dim),
        tokens_(std::max(cu_q.back(), cu_k.back())),
        dout(dtype, {cu_q.back(), problem.heads, problem.head_dim}, 3),
        out(dtype, {cu_q.back(), problem.heads, problem.head_dim}, 8),
        lse(wide(dtype), {problem.heads, cu_q.back()}, 5),
        qkv(dtype, {tokens_, (problem.heads + 2 * problem.kv_heads) * problem.head_dim}, 2),
        dqkv(dtype, {tokens_, (problem.heads + 2 * problem.kv_heads) * problem.head_dim}, 1) {
    options.scale = 1.0F / std::sqrt(static_cast<float>(problem.head_dim));
    options.causal = problem.causal;
    options.window = problem.window;
    options.soft_cap = problem.soft_cap;
    qkv.random(1);
    dout.random(2);
    dqkv.fill(7.0);
  }

  Tensor q(const Array& joined) const { return part(joined, 0, heads_, cu_q.back()); }
  Tensor k(const Array& joined) const { return part(joined, heads_, kv_heads_, cu_k.back()); }
  Tensor v(const Array& joined) const {
    return part(joined, heads_ + kv_heads_, kv_heads_, cu_k.back());
  }

  void forward(const Device& device) {
    cuda::attention_plain_forward(device.queue(), out, lse, q(qkv), k(qkv), v(qkv), cu_q, cu_k,
                                  options);
  }
  void backward(const Device& device) {
    cuda::attention_plain_backward(device.queue(), q(dqkv), k(dqkv), v(dqkv), dout, out, lse,
                                   q(qkv), k(qkv), v(qkv), cu_q, cu_k, options);
  }
  void forward(Backend& backend) {
    backend.attention_forward(out, lse, q(qkv), k(qkv), v(qkv), cu_q, cu_k, options);
  }
  void backward(Backend& backend) {
    backend.attention_backward(q(dqkv), k(dqkv), v(dqkv), dout, out, lse, q(qkv), k(qkv), v(qkv),
                               cu_q, cu_k, options);
  }

  const CuSeqlens cu_q, cu_k;
  AttentionOptions options;

 private:
  Tensor part(const Array& joined, Index first_head, Index heads, Index tokens) const {
    return joined.tensor()
        .columns(first_head * head_dim_, (first_head + heads) * head_dim_)
        .rows(0, tokens)
        .reshape({tokens, heads, head_dim_});
  }

  Index heads_, kv_heads_, head_dim_, tokens_;

 public:
  Array dout, out, lse, qkv, dqkv;
};

/// Relative error in the Euclidean norm; infinities must agree.
double error_of(const Array& found, const Array& expected) {
  double difference = 0;
  double norm = 0;
  for (Index i = 0; i < found.elements(); ++i) {
    if (std::isinf(expected.get(i))) {
      if (found.get(i) != expected.get(i)) return INFINITY;
      continue;
    }
    const double apart = found.get(i) - expected.get(i);
    difference += apart * apart;
    norm += expected.get(i) * expected.get(i);
  }
  return std::sqrt(difference / std::max(norm, 1e-30));
}

std::vector<Problem> problems() {
  return {
      {4, 2, 16, {1, 31, 0, 70, 7}, {1, 31, 0, 70, 7}, true, "packed documents, grouped queries"},
      {2, 1, 64, {150}, {150}, true, "several tiles, one KV head"},
      {2, 2, 96, {41, 20}, {41, 20}, false, "not causal"},
      {3, 3, 7, {1, 5}, {100, 40}, true, "a few new queries, a cache of keys"},
      {2, 1, 8, {9, 4, 0, 3}, {3, 0, 5, 3}, true, "queries that see no key, keys without queries"},
      {1, 1, 1, {1}, {1}, true, "one of everything"},
      {2, 1, 128, {33, 37}, {33, 37}, true, "a usual head"},
      {1, 1, 256, {40}, {40}, true, "a wide head"},
      {2, 1, 300, {35}, {35}, true, "a wider head"},
      {2, 2, 16, {0}, {9}, true, "no query"},
      {2, 2, 16, {9}, {0}, false, "no key"},
      {2, 2, 16, {0, 0}, {0, 0}, true, "nothing at all"},
      {4, 2, 16, {1, 31, 0, 70, 7}, {1, 31, 0, 70, 7}, true, "a window within a tile", 5},
      {2, 1, 64, {150}, {150}, true, "a window over tiles", 70},
      {3, 3, 7, {2, 40}, {100, 41}, true, "a window, a cache of keys", 17},
      {2, 1, 8, {9, 4, 0, 3}, {3, 0, 5, 3}, true, "a window, queries that see no key", 2},
      {4, 2, 16, {1, 31, 0, 70, 7}, {1, 31, 0, 70, 7}, true, "scores capped hard", 0, 0.5F},
      {2, 1, 64, {150}, {150}, true, "a window, scores capped", 70, 2.0F},
      {2, 2, 96, {41, 20}, {41, 20}, false, "not causal, scores capped", 0, 1.0F},
      {1, 1, 16, {90}, {90}, true, "nothing but oneself", 1},
  };
}

/// The first four have products of some hundred terms; probabilities and score gradients of the
/// cpu's bfloat16 are rounded before products, those of the device are not.
double tolerance_of(DType dtype) {
  if (dtype == DType::kFloat64) return 1e-12;
  return dtype == DType::kFloat32 ? 1e-5 : 1e-2;
}

TEST_CASE("cuda: plain attention does what the cpu's does, in every order the same") {
  const DType dtype = every_float();
  const auto backend = make_cpu_backend(std::size_t{64} << 20U);
  Device device;
  for (const Problem& problem : problems()) {
    INFO(problem.what << ", " << base::name_of(dtype));
    Case expected(problem, dtype);
    expected.forward(*backend);
    Case first(problem, dtype);
    first.forward(device);
    CHECK(error_of(first.out, expected.out) < tolerance_of(dtype));
    CHECK(error_of(first.lse, expected.lse) < tolerance_of(dtype));
    expected.backward(*backend);
    first.backward(device);
    CHECK(error_of(first.dqkv, expected.dqkv) < tolerance_of(dtype));
    for (const Array* one : {&first.out, &first.lse, &first.dqkv}) CHECK(one->gaps_untouched());
    for (const shim::Order order : {shim::Order::kDescending, shim::Order::kShuffled}) {
      Case again(problem, dtype);
      again.forward(Device(order));
      again.backward(Device(order));
      CHECK(again.out.same_bits(first.out));
      CHECK(again.lse.same_bits(first.lse));
      CHECK(again.dqkv.same_bits(first.dqkv));
    }
  }
}

TEST_CASE("cuda: plain attention's gradients agree with finite differences") {
  Device device;
  const Index window = GENERATE(0, 4);
  const Problem problem{4, 2, 5, {3, 11}, {6, 11}, true, "", window};
  Case c(problem, DType::kFloat64);
  c.forward(device);
  c.backward(device);
  const auto loss = [&] {
    c.forward(device);
    return backend::testing::dot(c.out, c.dout);
  };
  const std::vector<double> gradient = c.dqkv.values();
  for (Index i = 0; i < c.qkv.elements(); i += 13) {
    const double kept = c.qkv.get(i);
    constexpr double kStep = 1e-5;
    c.qkv.set(i, kept + kStep);
    const double above = loss();
    c.qkv.set(i, kept - kStep);
    const double below = loss();
    c.qkv.set(i, kept);
    const double found = gradient[static_cast<std::size_t>(i)];
    if (found == 7.0) continue;  // rows that are keys alone have no dq
    CHECK((above - below) / (2 * kStep) == Approx(found).epsilon(1e-7).margin(1e-8));
  }
}

TEST_CASE("cuda: a query whose scores are all -infinity has no gradient") {
  Device device;
  Case c({1, 1, 8, {2}, {2}, true, ""}, DType::kFloat32);
  c.forward(device);
  c.lse.set(1, -INFINITY);
  c.backward(device);
  for (const double value : c.dqkv.values()) CHECK(std::isfinite(value));
}

TEST_CASE("cuda: plain attention takes the scratch that plans count, of the tokens alone") {
  const Problem one{2, 1, 16, {60}, {60}, true, ""};
  const Problem many{2, 1, 16, std::vector<int>(60, 1), std::vector<int>(60, 1), true, ""};
  for (const Problem& problem : {one, many}) {
    Case c(problem, DType::kFloat32);
    Device forward;
    c.forward(forward);
    CHECK(forward.scratch_sizes() ==
          std::vector{PlainAttentionScratch::forward(c.q(c.qkv), c.k(c.qkv)).bytes});
    Device backward;
    c.backward(backward);
    CHECK(backward.scratch_sizes() ==
          std::vector{PlainAttentionScratch::backward(c.q(c.qkv), c.k(c.qkv)).bytes});
    CHECK(forward.scratch_sizes()[0] == 1024);
    CHECK(backward.scratch_sizes()[0] == 1024 + 512);
  }
}

TEST_CASE("cuda: plain attention refuses what does not fit together") {
  Device device;
  Case c({4, 2, 16, {10}, {10}, true, ""}, DType::kFloat32);
  CHECK_THROWS_AS(cuda::attention_plain_forward(device.queue(), c.out, c.lse, c.q(c.qkv),
                                                c.k(c.qkv), c.v(c.qkv), {0, 9}, {0, 10}, c.options),
                  base::InternalError);
  Case wide_head({1, 1, 513, {1}, {1}, true, ""}, DType::kFloat32);
  CHECK_THROWS_WITH(wide_head.forward(device), Catch::Contains("a head_dim of 1 to 512"));
}

}  // namespace
}  // namespace longspan::backend::cuda::testing
