#include <fmt/format.h>

#include <catch2/catch.hpp>
#include <string>
#include <vector>

#include "backend/cuda/cudnn_attention.h"
#include "backend/cuda_scratch.h"
#include "longspan/base/error.h"

// What cuDNN promises for GPUs that are not here: it is asked about an architecture by name, and
// nothing runs. With -s it prints the whole table.

using namespace longspan;
using backend::Index;
using backend::cuda::Architecture;
using backend::cuda::AttentionDirection;
using backend::cuda::AttentionShape;
using backend::cuda::CudnnAttention;
using backend::cuda::CudnnPlans;

namespace {

constexpr double kMiB = 1 << 20;

enum class Mask { kNone, kCausal, kWindow, kUnequal };

struct Case {
  std::string architecture;
  Index head_dim = 128;
  Index kv_heads = 8;
  Mask mask = Mask::kCausal;
  AttentionDirection direction = AttentionDirection::kForward;
  bool deterministic = true;
};

bool is_backward(const Case& of) { return of.direction == AttentionDirection::kBackward; }

/// Eight documents of 1024 tokens, q, k and v columns of one matrix, as a block makes them.
AttentionShape shape_of(const Case& of) {
  AttentionShape shape = AttentionShape::of_equal_documents(32, of.kv_heads, of.head_dim, 8, 1024);
  shape.q_stride = shape.k_stride = shape.v_stride = (32 + 2 * of.kv_heads) * of.head_dim;
  shape.causal = of.mask != Mask::kNone;
  shape.window = of.mask == Mask::kWindow ? 512 : 0;
  if (of.mask == Mask::kUnequal) {
    shape.unequal = true;
    shape.longest_k *= 2;
    shape.tokens_k *= 2;
  }
  shape.deterministic = of.deterministic;
  return shape;
}

/// "sm_90, head 128, 32/8, causal, backward, deterministic".
std::string name_of(const Case& of) {
  static constexpr const char* kMasks[] = {"all keys", "causal", "causal, window 512",
                                           "causal, twice as many keys"};
  std::string name =
      fmt::format("{}, head {}, 32/{}, {}, {}", of.architecture, of.head_dim, of.kv_heads,
                  kMasks[static_cast<int>(of.mask)], is_backward(of) ? "backward" : "forward");
  if (is_backward(of)) name += of.deterministic ? ", deterministic" : ", not deterministic";
  return name;
}

/// From this version on Hopper's deterministic backward has a workspace proportional to the tokens,
/// and Blackwell's backward does heads of 256.
constexpr std::size_t kLinearHopper = 92500;

/// What we promise, whatever the mask and the number of key-value heads.
bool is_promised(const Case& of, std::size_t version) {
  if (!is_backward(of)) return true;
  if (of.architecture == "sm_80") return !of.deterministic && of.head_dim <= 128;
  if (of.architecture == "sm_90") return true;
  return of.head_dim <= 128 || (of.head_dim == 256 && version >= kLinearHopper);
}

std::vector<Case> cases_of(const std::string& architecture) {
  std::vector<Case> cases;
  for (const Index head_dim : {64, 96, 128, 192, 256}) {
    for (const Index kv_heads : {8, 32}) {
      for (const Mask mask : {Mask::kNone, Mask::kCausal, Mask::kWindow, Mask::kUnequal}) {
        Case one{architecture, head_dim, kv_heads, mask};
        cases.push_back(one);
        one.direction = AttentionDirection::kBackward;
        cases.push_back(one);
        one.deterministic = false;
        cases.push_back(one);
      }
    }
  }
  return cases;
}

std::size_t version() { return CudnnPlans(Architecture::named("sm_90")).version(); }

}  // namespace

TEST_CASE("cuDNN supports what we promise, and refuses the rest with a reason") {
  const std::string architecture = GENERATE("sm_80", "sm_90", "sm_100");
  CudnnAttention attention(Architecture::named(architecture));
  for (const Case& one : cases_of(architecture)) {
    std::string why_not;
    const AttentionShape shape = shape_of(one);
    const bool supported = attention.supports(shape, one.direction, &why_not);
    // With -s this is the table of docs/cudnn-attention.md.
    INFO(name_of(one) << ": "
                      << (supported
                              ? fmt::format("{:.1f} MiB",
                                            attention.workspace_bytes(shape, one.direction) / kMiB)
                              : "no: " + why_not));
    CHECK(supported == is_promised(one, version()));
    CHECK(supported == why_not.empty());
  }
}

TEST_CASE("cuDNN is not asked what it would do wrong or not at all") {
  CudnnAttention attention(Architecture::named("sm_90"));
  const Case plain{"sm_90"};
  const auto refusal = [&attention](const AttentionShape& shape) {
    std::string why_not;
    CHECK_FALSE(attention.supports(shape, AttentionDirection::kForward, &why_not));
    return why_not;
  };
  AttentionShape shape = shape_of(plain);
  shape.dtype = base::DType::kFloat32;
  CHECK_THAT(refusal(shape), Catch::Contains("float32"));
  shape = shape_of(plain);
  shape.aligned = false;
  CHECK_THAT(refusal(shape), Catch::Contains("16 bytes"));
  shape = shape_of(plain);
  shape.more_queries = shape.unequal = true;
  CHECK_THAT(refusal(shape), Catch::Contains("more queries than keys"));
  shape = shape_of(plain);
  shape.head_dim = 100;
  CHECK_THAT(refusal(shape), Catch::Contains("multiple of 8"));
  shape = shape_of(plain);
  shape.q_stride += 4;
  CHECK_THAT(refusal(shape), Catch::Contains("alignment"));
  CHECK_THROWS_AS(Architecture::named("sm_70"), base::InputError);
}

TEST_CASE("cuDNN's workspace is proportional to the tokens") {
  const std::string architecture = GENERATE("sm_90", "sm_100");
  const bool deterministic = GENERATE(false, true);
  const Index documents = GENERATE(1, 16);
  CudnnAttention attention(Architecture::named(architecture));
  if (architecture == "sm_90" && deterministic && version() < kLinearHopper) return;
  double before = 0;
  for (Index tokens = 16384; tokens <= 1048576; tokens *= 4) {
    AttentionShape shape =
        AttentionShape::of_equal_documents(32, 8, 128, documents, tokens / documents);
    shape.deterministic = deterministic;
    INFO(architecture << ", " << documents << " documents, " << tokens << " tokens, deterministic "
                      << deterministic);
    std::string why_not;
    REQUIRE(attention.supports(shape, AttentionDirection::kForward, &why_not));
    REQUIRE(attention.supports(shape, AttentionDirection::kBackward, &why_not));
    const auto forward = attention.workspace_bytes(shape, AttentionDirection::kForward);
    const auto backward = attention.workspace_bytes(shape, AttentionDirection::kBackward);
    // The log-sum-exp in cuDNN's layout, and tables.
    CHECK(static_cast<double>(forward) <= 1.01 * 4 * 32 * static_cast<double>(tokens) + 65536);
    // float32 gradients of q, k and v for each of 32 heads of 128, and two numbers a query.
    const double each = 4.0 * 32 * (3 * 128 + 2);
    CHECK(static_cast<double>(backward) <= 1.01 * each * static_cast<double>(tokens));
    if (before > 0) CHECK(static_cast<double>(backward) == Approx(4 * before).epsilon(0.02));
    before = static_cast<double>(backward);
  }
}

TEST_CASE("a plan counts at least what cuDNN takes, for any number of tokens and documents") {
  using backend::FastAttentionScratch;
  const std::string architecture = GENERATE("sm_90", "sm_100");
  const Index kv_heads = GENERATE(8, 32);
  const Index documents = GENERATE(1, 10, 200);
  CudnnAttention attention(Architecture::named(architecture));
  for (const Index tokens : {1000, 16400, 131200}) {
    using backend::Tensor;
    const Tensor q(nullptr, nullptr, base::DType::kBFloat16, {tokens, 32, 128});
    const Tensor k(nullptr, nullptr, base::DType::kBFloat16, {tokens, kv_heads, 128});
    AttentionShape whole =
        AttentionShape::of_equal_documents(32, kv_heads, 128, documents, tokens / documents);
    INFO(architecture << ", 32/" << kv_heads << " heads, " << documents << " documents of "
                      << tokens / documents);
    const auto forward = FastAttentionScratch::forward(q, documents);
    CHECK(attention.workspace_bytes(whole, AttentionDirection::kForward) <=
          forward.lengths + forward.offsets + forward.statistics + forward.workspace);

    const Index parts = FastAttentionScratch::parts(q, k);
    AttentionShape part = AttentionShape::of_equal_documents(32 / parts, kv_heads / parts, 128,
                                                             documents, tokens / documents);
    part.deterministic = false;
    part.dense_gradients = false;
    const auto backward = FastAttentionScratch::backward(q, k, documents, false);
    const std::size_t planned = backward.dq + 2 * backward.dk_and_dv + backward.lengths +
                                backward.offsets + backward.statistics + backward.workspace;
    const std::size_t taken = attention.workspace_bytes(part, AttentionDirection::kBackward);
    CHECK(taken <= planned);
    CHECK(planned <= taken + taken / 20);
  }
}

TEST_CASE("Hopper's deterministic backward of older cuDNN is refused for long documents") {
  if (version() >= kLinearHopper) return;
  CudnnAttention attention(Architecture::named("sm_90"));
  AttentionShape shape = AttentionShape::of_equal_documents(32, 8, 128, 1, 32768);
  std::string why_not;
  CHECK_FALSE(attention.supports(shape, AttentionDirection::kBackward, &why_not));
  // 2 bytes for each head, query and key.
  CHECK_THAT(why_not, Catch::Contains("workspace of 65.0 GiB"));
  shape.deterministic = false;
  CHECK(attention.supports(shape, AttentionDirection::kBackward, &why_not));
}

TEST_CASE("Batches that differ a little share a plan") {
  const auto like = [](Index documents, Index longest, Index tokens) {
    AttentionShape shape = AttentionShape::of_equal_documents(32, 8, 128, documents, longest);
    shape.tokens_q = shape.tokens_k = tokens;
    return rounded(shape, AttentionDirection::kBackward);
  };
  CHECK(like(9, 3000, 16384) == like(16, 2049, 16384));
  CHECK(like(9, 3000, 16384).documents == 16);
  CHECK(like(9, 3000, 16384).longest_q == 4096);
  CHECK(like(1, 20001, 20001).tokens_q == 20480);
  // No longer than all tokens together.
  CHECK(like(1, 20001, 20001).longest_q == 20480);
  CHECK(like(1, 1, 1).tokens_k == 128);
  for (Index tokens = 129; tokens < 70000; tokens += 97) {
    const Index up = like(1, tokens, tokens).tokens_q;
    CHECK(up >= tokens);
    CHECK(up <= tokens + tokens / 8);
  }
}
