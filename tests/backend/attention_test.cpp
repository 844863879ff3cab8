#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <limits>
#include <vector>

#include "longspan/backend/backend.h"
#include "longspan/base/error.h"
#include "longspan/base/random.h"

using namespace longspan;
using backend::CuSeqlens;
using backend::Index;
using backend::MemoryTag;
using backend::Tensor;
using base::DType;

namespace {

struct Problem {
  Index heads, kv_heads, head_dim;
  CuSeqlens cu_q, cu_k;
  bool causal = true;
  const char* what = "";
  Index window = 0;
  double soft_cap = 0;

  Index queries() const { return cu_q.back(); }
  Index keys() const { return cu_k.back(); }
};

/// All tensors of one problem in one dtype; q, k, v are column views of wider rows.
class Case {
 public:
  Case(backend::Backend& backend, const Problem& problem, DType dtype)
      : backend_(backend), problem_(problem), dtype_(dtype) {
    options.scale = 1.0F / std::sqrt(static_cast<float>(problem.head_dim));
    options.causal = problem.causal;
    options.window = problem.window;
    options.soft_cap = static_cast<float>(problem.soft_cap);
    const Index d = problem.head_dim;
    q = strided(problem.queries(), problem.heads, 8, 1);
    k = strided(problem.keys(), problem.kv_heads, 16, 2);
    v = strided(problem.keys(), problem.kv_heads, 24, 3);
    dout = strided(problem.queries(), problem.heads, 0, 4);
    out = strided(problem.queries(), problem.heads, 8, 5);
    dq = strided(problem.queries(), problem.heads, 8, 6);
    dk = strided(problem.keys(), problem.kv_heads, 16, 7);
    dv = strided(problem.keys(), problem.kv_heads, 8, 8);
    lse = backend.allocate({problem.heads, problem.queries()},
                           dtype == DType::kFloat64 ? dtype : DType::kFloat32, MemoryTag::kSaved);
    CHECK(q.size(2) == d);
  }

  void forward() {
    backend_.attention_forward(out, lse, q, k, v, problem_.cu_q, problem_.cu_k, options);
  }
  void backward() {
    backend_.attention_backward(dq, dk, dv, dout, out, lse, q, k, v, problem_.cu_q, problem_.cu_k,
                                options);
  }
  std::vector<double> values(const Tensor& tensor) const {
    const auto dense = backend_.allocate(tensor.shape(), DType::kFloat64, MemoryTag::kWorkspace);
    backend_.copy(dense, tensor);
    return {dense.data<double>(), dense.data<double>() + dense.elements()};
  }

  Tensor q, k, v, dout, out, dq, dk, dv, lse;
  backend::AttentionOptions options;

 private:
  Tensor strided(Index tokens, Index heads, Index gap, std::uint64_t layer) {
    const Index width = heads * problem_.head_dim;
    const auto wide = backend_.allocate({tokens, width + gap}, dtype_, MemoryTag::kWorkspace);
    backend_.random_normal(wide, {7, base::Purpose::kTest, 0, layer}, 1.0, 0);
    return wide.columns(gap / 2, gap / 2 + width).reshape({tokens, heads, problem_.head_dim});
  }

  backend::Backend& backend_;
  Problem problem_;
  DType dtype_;
};

struct Reference {
  std::vector<double> out, lse, dq, dk, dv;
};

/// Attention by its definition: all scores of a query at once, in double.
Reference plain_attention(const Problem& p, double scale, const std::vector<double>& q,
                          const std::vector<double>& k, const std::vector<double>& v,
                          const std::vector<double>& dout) {
  Reference r;
  const Index d = p.head_dim;
  r.out.assign(q.size(), 0.0);
  r.dq.assign(q.size(), 0.0);
  r.dk.assign(k.size(), 0.0);
  r.dv.assign(v.size(), 0.0);
  r.lse.assign(static_cast<std::size_t>(p.heads * p.queries()),
               -std::numeric_limits<double>::infinity());
  const auto at = [&](Index token, Index head, Index heads) {
    return static_cast<std::size_t>((token * heads + head) * d);
  };
  for (std::size_t doc = 0; doc + 1 < p.cu_q.size(); ++doc) {
    const Index keys = p.cu_k[doc + 1] - p.cu_k[doc];
    const Index queries = p.cu_q[doc + 1] - p.cu_q[doc];
    for (Index head = 0; head < p.heads; ++head) {
      const Index kv = head / (p.heads / p.kv_heads);
      for (Index i = 0; i < queries; ++i) {
        const Index end = p.causal ? std::max<Index>(0, keys - queries + i + 1) : keys;
        if (end == 0) continue;
        const Index begin = p.window > 0 ? std::max<Index>(0, end - p.window) : 0;
        const Index seen = end - begin;
        const Index first_key = p.cu_k[doc] + begin;
        const std::size_t qi = at(p.cu_q[doc] + i, head, p.heads);
        std::vector<double> s(static_cast<std::size_t>(seen));
        for (Index j = 0; j < seen; ++j) {
          const std::size_t kj = at(first_key + j, kv, p.kv_heads);
          for (Index c = 0; c < d; ++c) {
            s[static_cast<std::size_t>(j)] +=
                scale * q[qi + static_cast<std::size_t>(c)] * k[kj + static_cast<std::size_t>(c)];
          }
        }
        std::vector<double> slopes(s.size(), scale);
        for (std::size_t j = 0; p.soft_cap > 0 && j < s.size(); ++j) {
          const double tangent = std::tanh(s[j] / p.soft_cap);
          s[j] = p.soft_cap * tangent;
          slopes[j] = scale * (1 - tangent * tangent);
        }
        const double highest = *std::max_element(s.begin(), s.end());
        double sum = 0;
        for (const double x : s) sum += std::exp(x - highest);
        const double lse = highest + std::log(sum);
        r.lse[static_cast<std::size_t>(head * p.queries() + p.cu_q[doc] + i)] = lse;
        double delta = 0;
        std::vector<double> dp(s.size());
        for (std::size_t j = 0; j < s.size(); ++j) {
          const std::size_t kj = at(first_key + static_cast<Index>(j), kv, p.kv_heads);
          const double prob = std::exp(s[j] - lse);
          for (std::size_t c = 0; c < static_cast<std::size_t>(d); ++c) {
            r.out[qi + c] += prob * v[kj + c];
            r.dv[kj + c] += prob * dout[qi + c];
            dp[j] += dout[qi + c] * v[kj + c];
          }
          delta += prob * dp[j];
        }
        for (std::size_t j = 0; j < s.size(); ++j) {
          const std::size_t kj = at(first_key + static_cast<Index>(j), kv, p.kv_heads);
          const double ds = slopes[j] * std::exp(s[j] - lse) * (dp[j] - delta);
          for (std::size_t c = 0; c < static_cast<std::size_t>(d); ++c) {
            r.dq[qi + c] += ds * k[kj + c];
            r.dk[kj + c] += ds * q[qi + c];
          }
        }
      }
    }
  }
  return r;
}

/// Relative error in the Euclidean norm; infinities must agree.
double error_of(const std::vector<double>& found, const std::vector<double>& expected) {
  double difference = 0;
  double norm = 0;
  for (std::size_t i = 0; i < found.size(); ++i) {
    if (std::isinf(expected[i])) {
      if (found[i] != expected[i]) return std::numeric_limits<double>::infinity();
      continue;
    }
    difference += (found[i] - expected[i]) * (found[i] - expected[i]);
    norm += expected[i] * expected[i];
  }
  return std::sqrt(difference / std::max(norm, 1e-30));
}

CuSeqlens offsets(const std::vector<int>& lengths) {
  CuSeqlens result = {0};
  for (const int length : lengths) result.push_back(result.back() + length);
  return result;
}

std::vector<Problem> problems() {
  const CuSeqlens mixed = offsets({1, 31, 0, 130, 257, 7, 64});
  return {
      {4, 2, 16, mixed, mixed, true, "packed documents, grouped queries"},
      {3, 1, 32, offsets({300}), offsets({300}), true, "one KV head"},
      {2, 2, 64, offsets({513, 20}), offsets({513, 20}), false, "not causal"},
      {4, 4, 24, offsets({1, 5}), offsets({300, 40}), true, "a few new queries, a cache of keys"},
      {2, 1, 8, offsets({9, 4}), offsets({3, 0}), true, "queries that see no key"},
      {2, 2, 16, offsets({0}), offsets({0}), true, "nothing at all"},
      {4, 2, 16, mixed, mixed, true, "a window within a tile", 5},
      {2, 1, 32, offsets({513, 700}), offsets({513, 700}), true, "a window over tiles", 300},
      {2, 2, 16, offsets({600}), offsets({600}), true, "a window of a tile", 256},
      {2, 2, 16, offsets({3, 140}), offsets({900, 141}), true, "a window, a cache of keys", 17},
      {2, 1, 8, mixed, mixed, true, "oneself and the one before", 2},
      {2, 1, 8, mixed, mixed, true, "a window that hides nothing", 257},
      {2, 1, 8, offsets({9, 4}), offsets({3, 0}), true, "a window, queries that see no key", 2},
      {4, 2, 16, mixed, mixed, true, "scores capped hard", 0, 0.5},
      {2, 1, 32, offsets({513, 70}), offsets({513, 70}), true, "a window, scores capped", 300, 2},
      {2, 2, 64, offsets({113, 20}), offsets({90, 20}), false, "not causal, scores capped", 0, 1},
  };
}

}  // namespace

TEST_CASE("attention forward and backward agree with the definition", "[attention]") {
  const auto backend = backend::make_cpu_backend(std::size_t{1} << 30U);
  // bfloat16: inputs are exact here (the reference reads the rounded values); probabilities and
  // dS are rounded to 8 bits before the products, whose errors average over the keys.
  const std::vector<std::pair<DType, double>> dtypes = {
      {DType::kFloat64, 1e-12}, {DType::kFloat32, 2e-6}, {DType::kBFloat16, 1e-2}};
  for (const Problem& problem : problems()) {
    for (const auto& [dtype, tolerance] : dtypes) {
      INFO(problem.what << ", " << base::name_of(dtype));
      Case c(*backend, problem, dtype);
      c.forward();
      c.backward();
      const auto expected = plain_attention(problem, c.options.scale, c.values(c.q), c.values(c.k),
                                            c.values(c.v), c.values(c.dout));
      CHECK(error_of(c.values(c.out), expected.out) < tolerance);
      CHECK(error_of(c.values(c.lse), expected.lse) < tolerance);
      CHECK(error_of(c.values(c.dq), expected.dq) < tolerance);
      CHECK(error_of(c.values(c.dk), expected.dk) < tolerance);
      CHECK(error_of(c.values(c.dv), expected.dv) < tolerance);
    }
  }
}

TEST_CASE("attention gradients agree with finite differences", "[attention]") {
  const auto backend = backend::make_cpu_backend(std::size_t{1} << 28U);
  const Index window = GENERATE(0, 4);
  const Problem problem{4, 2, 8, offsets({5, 33}), offsets({5, 33}), true, "", window};
  Case c(*backend, problem, DType::kFloat64);
  c.forward();
  c.backward();
  const auto dout = c.values(c.dout);
  const auto loss = [&] {
    c.forward();
    const auto out = c.values(c.out);
    double sum = 0;
    for (std::size_t i = 0; i < out.size(); ++i) sum += out[i] * dout[i];
    return sum;
  };
  for (const auto& [input, gradient] : {std::pair{c.q, c.dq}, {c.k, c.dk}, {c.v, c.dv}}) {
    for (const Index row : {Index{0}, Index{4}, Index{20}, Index{37}}) {
      for (const Index column : {Index{0}, Index{13}}) {
        double* x = input.data<double>() + row * input.row_stride() + column;
        const double analytic = gradient.data<double>()[row * gradient.row_stride() + column];
        const double kept = *x;
        constexpr double kStep = 1e-5;
        *x = kept + kStep;
        const double above = loss();
        *x = kept - kStep;
        const double below = loss();
        *x = kept;
        CHECK((above - below) / (2 * kStep) == Approx(analytic).epsilon(1e-7).margin(1e-8));
      }
    }
  }
}

TEST_CASE("attention of a query that is no number is no number, and others' are", "[attention]") {
  const auto backend = backend::make_cpu_backend(std::size_t{1} << 24U);
  const auto dtype = GENERATE(DType::kFloat32, DType::kFloat64);
  Case c(*backend, {2, 1, 16, {0, 40}, {0, 40}}, dtype);
  backend->fill(c.q.rows(7, 8), std::numeric_limits<double>::quiet_NaN());
  c.forward();
  const auto out = c.values(c.out);
  const auto lse = c.values(c.lse);
  for (std::size_t token = 0; token < 40; ++token) {
    INFO("token " << token);
    CHECK(std::isnan(out[token * 32]) == (token == 7));
    CHECK(std::isnan(lse[token]) == (token == 7));
  }
}

TEST_CASE("attention does not touch what lies between its rows", "[attention]") {
  const auto backend = backend::make_cpu_backend(std::size_t{1} << 28U);
  const auto wide = backend->allocate({40, 64}, DType::kFloat32, MemoryTag::kWorkspace);
  backend->fill(wide, 3.0);
  Problem problem{2, 2, 16, offsets({40}), offsets({40}), true, ""};
  Case c(*backend, problem, DType::kFloat32);
  c.out = wide.columns(8, 40).reshape({40, 2, 16});
  c.forward();
  for (Index row = 0; row < 40; ++row) {
    for (Index column = 0; column < 64; ++column) {
      if (column >= 8 && column < 40) continue;
      REQUIRE(wide.data<float>()[row * 64 + column] == 3.0F);
    }
  }
}

TEST_CASE("attention memory does not grow with the square of the tokens", "[attention]") {
  std::vector<std::size_t> peaks;
  for (const int tokens : {1024, 2048, 4096}) {
    const auto backend = backend::make_cpu_backend(std::size_t{1} << 30U);
    const Problem problem{2, 2, 16, offsets({tokens}), offsets({tokens}), true, ""};
    Case c(*backend, problem, DType::kFloat32);
    c.forward();
    c.backward();
    peaks.push_back(backend->ledger().peak_total());
  }
  // Linear: doubling the tokens at most doubles the bytes.
  CHECK(peaks[1] <= 2 * peaks[0]);
  CHECK(peaks[2] <= 2 * peaks[1]);
}

TEST_CASE("attention refuses what does not fit together", "[attention]") {
  const auto backend = backend::make_cpu_backend(std::size_t{1} << 28U);
  const Problem problem{4, 2, 16, offsets({10}), offsets({10}), true, ""};
  Case c(*backend, problem, DType::kFloat32);
  const auto forward = [&](const CuSeqlens& cu_q, const CuSeqlens& cu_k) {
    backend->attention_forward(c.out, c.lse, c.q, c.k, c.v, cu_q, cu_k, c.options);
  };
  CHECK_THROWS_AS(forward(offsets({9}), offsets({10})), base::InternalError);
  CHECK_THROWS_AS(forward(offsets({10}), offsets({5, 5})), base::InternalError);
  CHECK_THROWS_AS(forward({0, 12, 10}, {0, 5, 10}), base::InternalError);
  c.options.window = -1;
  CHECK_THROWS_AS(c.forward(), base::InternalError);
  c.options.window = 3;
  c.options.causal = false;
  CHECK_THROWS_AS(c.forward(), base::InternalError);
  CHECK_THROWS_AS(c.backward(), base::InternalError);
  c.options = {.scale = 1.0F};
  std::swap(c.q, c.k);
  CHECK_THROWS_AS(c.forward(), base::InternalError);
}
