#include "backend/cuda/cudnn_attention.h"

#include <numeric>

#include "backend/cuda/attention.h"
#include "backend/cuda/attention_layout.h"
#include "longspan/backend/backend.h"
#include "tests/backend/cuda/cuda_fixture.h"

// All of cuDNN's attention but cuDNN: in place of its plans there are doubles
// (cuda_shim/cudnn_plans.cpp) that read and write the same addresses.
namespace longspan::backend::cuda::testing {
namespace {

struct Problem {
  const char* what;
  Index heads, kv_heads, head_dim;
  CuSeqlens cu_q, cu_k;
  bool causal = true;
  Index gap = 0;  ///< elements between rows
  Index window = 0;

  Index queries() const { return cu_q.back(); }
  Index keys() const { return cu_k.back(); }
};

CuSeqlens offsets(const std::vector<int>& lengths) {
  CuSeqlens result(lengths.size() + 1, 0);
  std::partial_sum(lengths.begin(), lengths.end(), result.begin() + 1);
  return result;
}

/// As many documents as take three launches to tell of.
CuSeqlens many_documents() {
  std::vector<int> lengths(500);
  for (std::size_t i = 0; i < lengths.size(); ++i) lengths[i] = static_cast<int>(i % 3);
  return offsets(lengths);
}

std::vector<Problem> problems() {
  const CuSeqlens mixed = offsets({1, 31, 0, 30, 57, 7, 4});
  return {{"packed, grouped", 4, 2, 16, mixed, mixed, true, 8},
          {"one document, dense", 2, 2, 8, offsets({40}), offsets({40})},
          {"not causal", 4, 1, 8, offsets({13, 20}), offsets({40, 3}), false, 16},
          {"without keys, without queries", 2, 1, 16, offsets({5, 3, 0, 9, 2}),
           offsets({7, 0, 6, 9, 0}), false, 8},
          {"nobody sees anything", 2, 1, 16, offsets({5, 0}), offsets({0, 4}), false, 8},
          {"a cache of keys", 2, 2, 8, offsets({1, 5}), offsets({50, 20}), true, 8},
          {"nothing at all", 2, 2, 8, offsets({0}), offsets({0})},
          {"many short documents", 1, 1, 8, many_documents(), many_documents()},
          {"a window", 4, 2, 16, mixed, mixed, true, 8, 5},
          {"a window, a cache of keys", 2, 2, 8, offsets({1, 5}), offsets({50, 20}), true, 8, 7},
          {"a window that hides nothing", 2, 2, 8, offsets({40}), offsets({40}), true, 0, 40}};
}

/// Inputs and outputs of one problem.
struct Tensors {
  explicit Tensors(const Problem& p, DType dtype = DType::kBFloat16)
      : q(rows(p, dtype, p.queries(), p.heads, 1)),
        k(rows(p, dtype, p.keys(), p.kv_heads, 2)),
        v(rows(p, dtype, p.keys(), p.kv_heads, 3)),
        dout(rows(p, dtype, p.queries(), p.heads, 4)),
        out(rows(p, dtype, p.queries(), p.heads, 5)),
        dq(rows(p, dtype, p.queries(), p.heads, 6)),
        dk(rows(p, dtype, p.keys(), p.kv_heads, 7)),
        dv(rows(p, dtype, p.keys(), p.kv_heads, 8)),
        lse(DType::kFloat32, {p.heads, p.queries()}, p.gap) {}

  static Array rows(const Problem& p, DType dtype, Index tokens, Index heads, std::uint64_t salt) {
    Array array(dtype, {tokens, heads, p.head_dim}, p.gap);
    return array.random(salt);
  }

  /// What the cpu backend makes of them.
  void attend(const Problem& p, const AttentionOptions& options) {
    const auto backend = make_cpu_backend(std::size_t{1} << 28U);
    backend->attention_forward(out, lse, q, k, v, p.cu_q, p.cu_k, options);
    backend->attention_backward(dq, dk, dv, dout, out, lse, q, k, v, p.cu_q, p.cu_k, options);
  }

  Array q, k, v, dout, out, dq, dk, dv, lse;
};

/// Within what rounding probabilities to bfloat16 before products makes of it, as the cpu backend
/// does and the double does not.
void require_alike(const Tensors& got, const Tensors& want) {
  require_near(got.lse, want.lse, 1e-4, 1e-4);
  require_near(got.out, want.out, 0.02, 0.02);
  require_near(got.dq, want.dq, 0.04, 0.06);
  require_near(got.dk, want.dk, 0.04, 0.06);
  require_near(got.dv, want.dv, 0.04, 0.06);
}

AttentionCall call_of(const Problem& p, const Tensors& t, float scale) {
  AttentionCall call{AttentionBatch(p.cu_q, p.cu_k), {}, scale};
  AttentionShape& shape = call.shape;
  shape.heads = p.heads;
  shape.kv_heads = p.kv_heads;
  shape.head_dim = p.head_dim;
  shape.q_stride = t.q.tensor().row_stride();
  shape.k_stride = t.k.tensor().row_stride();
  shape.v_stride = t.v.tensor().row_stride();
  shape.out_stride = t.out.tensor().row_stride();
  shape.dout_stride = t.dout.tensor().row_stride();
  shape.dense_gradients = t.dq.tensor().is_dense() && t.dk.tensor().is_dense();
  shape.causal = p.causal;
  shape.window = p.window;
  call.batch.measure(shape);
  return call;
}

std::size_t sum(const std::vector<std::size_t>& sizes) {
  return std::accumulate(sizes.begin(), sizes.end(), std::size_t{0});
}

}  // namespace

TEST_CASE("attention through cuDNN's layouts is the cpu backend's") {
  const int sm = GENERATE(80, 90);  // statistics padded and packed
  for (const Problem& p : problems()) {
    INFO(p.what << ", sm_" << sm);
    const AttentionOptions options{.scale = 0.25F, .causal = p.causal, .window = p.window};
    Tensors want(p);
    want.attend(p, options);
    Tensors got(p);
    CudnnAttention attention(Architecture{.sm = sm, .device = 0});
    const AttentionCall call = call_of(p, got, options.scale);
    REQUIRE(attention.supports(call.shape, AttentionDirection::kForward, nullptr));
    Device forward;
    attention.forward(forward.queue(), got.out, got.lse, got.q, got.k, got.v, call);
    CHECK(sum(forward.scratch_sizes()) ==
          attention.workspace_bytes(call.shape, AttentionDirection::kForward));
    Device backward;
    attention.backward(backward.queue(), got.dq, got.dk, got.dv, got.dout, got.out, got.lse, got.q,
                       got.k, got.v, call);
    CHECK(sum(backward.scratch_sizes()) ==
          attention.workspace_bytes(call.shape, AttentionDirection::kBackward));
    require_alike(got, want);
  }
}

TEST_CASE("attention goes to the plain kernels where there is no faster one") {
  struct Case {
    DType dtype;
    Index head_dim;
    bool has_fast;
    const char* declined;  // a part of the reason
  };
  const Case one = GENERATE(
      Case{DType::kBFloat16, 16, true, ""}, Case{DType::kBFloat16, 12, true, "multiple of 8"},
      Case{DType::kBFloat16, 16, false, "no fast attention"}, Case{DType::kFloat32, 16, true, ""});
  const CuSeqlens documents = offsets({1, 31, 0, 30, 9});
  const Problem p{"", 4, 2, one.head_dim, documents, documents, true, 8};
  const AttentionOptions options{.scale = 0.25F, .causal = true, .window = GENERATE(0, 6, 31)};
  Tensors want(p, one.dtype);
  want.attend(p, options);
  std::unique_ptr<FastAttention> fast;
  if (one.has_fast) fast = std::make_unique<CudnnAttention>(Architecture{.sm = 90, .device = 0});
  // With hardly any scratch: the backward one key-value head after another.
  const std::size_t most_scratch = GENERATE(FastAttentionScratch::kMost, std::size_t{1});
  Attention attention(std::move(fast), /*deterministic=*/true, most_scratch);
  Tensors got(p, one.dtype);
  Device device;
  attention.forward(device.queue(), got.out, got.lse, got.q, got.k, got.v, p.cu_q, p.cu_k, options);
  attention.backward(device.queue(), got.dq, got.dk, got.dv, got.dout, got.out, got.lse, got.q,
                     got.k, got.v, p.cu_q, p.cu_k, options);
  require_alike(got, want);
  CHECK_THAT(attention.declined(), Catch::Contains(one.declined));
  CHECK(attention.declined().empty() == std::string(one.declined).empty());
}

TEST_CASE("the backward's parts divide the key-value heads and keep to the scratch") {
  const Array q(DType::kBFloat16, {100, 24, 8});
  const Array k(DType::kBFloat16, {100, 12, 8});
  Index before = 1;
  for (const std::size_t most : {1 << 20, 400'000, 200'000, 100'000, 50'000, 1}) {
    const Index parts = FastAttentionScratch::parts(q, k, most);
    INFO(most << " bytes, " << parts << " parts");
    CHECK(12 % parts == 0);
    CHECK(parts >= before);
    before = parts;
  }
  CHECK(FastAttentionScratch::parts(q, k, 1 << 20) == 1);
  CHECK(before == 12);

  for (const Index tokens : {1000, 65537, 131073}) {
    const Tensor queries(nullptr, nullptr, DType::kBFloat16, {tokens, 32, 128});
    const Tensor keys(nullptr, nullptr, DType::kBFloat16, {tokens, 8, 128});
    const auto part = FastAttentionScratch::backward(queries, keys, 3, /*dense_gradients=*/false);
    const std::size_t bytes = part.statistics + part.workspace + part.dq + 2 * part.dk_and_dv -
                              fast_attention_backward_tables(4);
    const bool smallest = FastAttentionScratch::parts(queries, keys) == 8;
    CHECK((bytes <= FastAttentionScratch::kMost || smallest));
    // cuDNN's plan is made for more tokens than there are.
    const auto rounded = static_cast<std::size_t>(rounded_tokens(tokens));
    const auto parts = static_cast<std::size_t>(FastAttentionScratch::parts(queries, keys));
    CHECK(part.workspace ==
          rounded * 4 * 32 * (1 + 3 * 128) / parts + fast_attention_backward_tables(4));
    CHECK(part.lengths == 2 * 4 * sizeof(std::int32_t));
    CHECK(part.offsets == 9 * 5 * sizeof(std::int64_t));
  }
}

TEST_CASE("tables of documents end in documents without tokens") {
  Device device(every_order());
  const AttentionBatch batch(offsets({3, 0, 4, 5}), offsets({2, 9, 0, 6}));
  REQUIRE(batch.attended.size() == 2);
  REQUIRE(batch.left_out.size() == 2);
  Array lengths(DType::kInt32, {2, 4});
  const Tensor places = device.allocate({2, 5}, DType::kInt64, MemoryTag::kWorkspace);
  write_document_tables(device.queue(), lengths, places, batch,
                        {{TokenSide::kQueries, 10}, {TokenSide::kKeys, 100}});
  CHECK(lengths.values() == std::vector<double>{3, 5, 0, 0, 2, 6, 0, 0});
  const auto* found = places.data<std::int64_t>();
  CHECK(std::vector<std::int64_t>(found, found + 10) ==
        std::vector<std::int64_t>{0, 70, 120, 120, 120, 0, 1100, 1700, 1700, 1700});
}

}  // namespace longspan::backend::cuda::testing
