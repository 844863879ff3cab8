#include "backend/cuda/matmul.h"

#include <cublasLt.h>
#include <fmt/format.h>

#include <algorithm>
#include <cstdint>
#include <unordered_map>

#include "backend/cuda/error.h"
#include "backend/matmul_key.h"
#include "longspan/base/error.h"

namespace longspan::backend::cuda {
namespace {

using base::DType;
using base::InternalError;

void check(cublasStatus_t status, const char* call) {
  if (status == CUBLAS_STATUS_SUCCESS) return;
  throw InternalError(fmt::format("cuBLASLt: {} in {}", cublasLtGetStatusString(status), call));
}

cudaDataType_t to_cuda(DType dtype) {
  switch (dtype) {
    case DType::kFloat64:
      return CUDA_R_64F;
    case DType::kBFloat16:
      return CUDA_R_16BF;
    default:
      return CUDA_R_32F;
  }
}

/// Owners of cuBLASLt's descriptions.
struct Destroy {
  void operator()(cublasLtMatmulDesc_t one) const { cublasLtMatmulDescDestroy(one); }
  void operator()(cublasLtMatrixLayout_t one) const { cublasLtMatrixLayoutDestroy(one); }
  void operator()(cublasLtMatmulPreference_t one) const { cublasLtMatmulPreferenceDestroy(one); }
};
template <typename Handle>
using Owned = std::unique_ptr<std::remove_pointer_t<Handle>, Destroy>;

/// Row-major matrices are column-major ones transposed, so what cuBLASLt computes is
/// out^T = b^T a^T: its first operand is our b, its sizes are those of the transposes.
Owned<cublasLtMatrixLayout_t> describe(Index rows, Index columns, Index stride, DType dtype) {
  cublasLtMatrixLayout_t layout = nullptr;
  // A single row may have any stride; cuBLASLt wants one that is not below the width.
  check(cublasLtMatrixLayoutCreate(&layout, to_cuda(dtype), static_cast<std::uint64_t>(columns),
                                   static_cast<std::uint64_t>(rows), std::max(stride, columns)),
        "cublasLtMatrixLayoutCreate");
  return Owned<cublasLtMatrixLayout_t>(layout);
}

/// How a matrix is stored: transposed operands have their sizes swapped.
Owned<cublasLtMatrixLayout_t> describe_stored(Index rows, Index columns, bool transposed,
                                              Index stride, DType dtype) {
  return transposed ? describe(columns, rows, stride, dtype)
                    : describe(rows, columns, stride, dtype);
}

/// Largest power of two, up to what matters, that divides an address.
std::uint32_t alignment_of(const Tensor& tensor) {
  constexpr std::uintptr_t kMost = 256;
  const auto address = reinterpret_cast<std::uintptr_t>(tensor.raw()) | kMost;
  return static_cast<std::uint32_t>(address & (~address + 1));
}

/// A problem and the alignment of its operands, on which the choice of an algorithm depends, too.
struct AlignedKey {
  MatmulKey problem;
  std::uint32_t a = 0, b = 0, out = 0;
  bool operator==(const AlignedKey&) const = default;
};
struct AlignedKeyHash {
  std::size_t operator()(const AlignedKey& key) const {
    const std::size_t alignments =
        (std::size_t{key.a} << 40U) ^ (std::size_t{key.b} << 20U) ^ key.out;
    return MatmulKeyHash()(key.problem) ^ (alignments * 0x9E3779B97F4A7C15ULL);
  }
};

Owned<cublasLtMatmulDesc_t> describe_operation(const MatmulKey& problem) {
  const bool is_double = problem.in == DType::kFloat64;
  cublasLtMatmulDesc_t created = nullptr;
  check(cublasLtMatmulDescCreate(&created, is_double ? CUBLAS_COMPUTE_64F : CUBLAS_COMPUTE_32F,
                                 is_double ? CUDA_R_64F : CUDA_R_32F),
        "cublasLtMatmulDescCreate");
  Owned<cublasLtMatmulDesc_t> operation(created);
  const auto set = [&](cublasLtMatmulDescAttributes_t attribute, bool transposed) {
    const cublasOperation_t value = transposed ? CUBLAS_OP_T : CUBLAS_OP_N;
    check(cublasLtMatmulDescSetAttribute(operation.get(), attribute, &value, sizeof value),
          "cublasLtMatmulDescSetAttribute");
  };
  set(CUBLASLT_MATMUL_DESC_TRANSA, problem.options.transpose_b);
  set(CUBLASLT_MATMUL_DESC_TRANSB, problem.options.transpose_a);
  return operation;
}

Owned<cublasLtMatmulPreference_t> describe_preference(const AlignedKey& key) {
  cublasLtMatmulPreference_t created = nullptr;
  check(cublasLtMatmulPreferenceCreate(&created), "cublasLtMatmulPreferenceCreate");
  Owned<cublasLtMatmulPreference_t> preference(created);
  const auto set = [&](cublasLtMatmulPreferenceAttributes_t attribute, auto value) {
    check(cublasLtMatmulPreferenceSetAttribute(preference.get(), attribute, &value, sizeof value),
          "cublasLtMatmulPreferenceSetAttribute");
  };
  set(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, static_cast<std::uint64_t>(kMatmulWorkspace));
  // Parts of a long sum may be added up in float32 alone, not in the dtype of the output.
  set(CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK,
      static_cast<std::uint32_t>(CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE));
  set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, key.b);
  set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, key.a);
  set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, key.out);
  set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, key.out);
  return preference;
}

}  // namespace

class Matmul::Impl {
 public:
  explicit Impl(const Queue& queue)
      : queue_(queue),
        workspace_(
            queue.backend->allocate({kMatmulWorkspace}, DType::kUInt8, MemoryTag::kWorkspace)) {
    check(cublasLtCreate(&handle_), "cublasLtCreate");
  }
  ~Impl() { cublasLtDestroy(handle_); }
  Impl(const Impl&) = delete;
  Impl& operator=(const Impl&) = delete;

  void run(const Tensor& out, const Tensor& a, const Tensor& b, const MatmulOptions& options) {
    const MatmulKey problem = matmul_key(out, a, b, options);
    if (problem.m == 0 || problem.n == 0) return;
    if (problem.k == 0) {
      if (!options.accumulate) queue_.backend->zero(out);
      return;
    }
    const Entry& entry = find({problem, alignment_of(a), alignment_of(b), alignment_of(out)});
    if (problem.in == DType::kFloat64) {
      multiply(entry, out, a, b, 1.0, options.accumulate ? 1.0 : 0.0);
    } else {
      multiply(entry, out, a, b, 1.0F, options.accumulate ? 1.0F : 0.0F);
    }
  }

 private:
  struct Entry {
    Owned<cublasLtMatmulDesc_t> operation;
    Owned<cublasLtMatrixLayout_t> a, b, out;
    cublasLtMatmulAlgo_t algorithm{};
  };

  template <typename Scale>
  void multiply(const Entry& entry, const Tensor& out, const Tensor& a, const Tensor& b,
                Scale product, Scale before) {
    check(cublasLtMatmul(handle_, entry.operation.get(), &product, b.raw(), entry.b.get(), a.raw(),
                         entry.a.get(), &before, out.raw(), entry.out.get(), out.raw(),
                         entry.out.get(), &entry.algorithm, workspace_.raw(),
                         static_cast<std::size_t>(kMatmulWorkspace), queue_.stream),
          "cublasLtMatmul");
  }

  const Entry& find(const AlignedKey& key) {
    const auto found = entries_.find(key);
    if (found != entries_.end()) return found->second;
    return entries_.emplace(key, make(key)).first->second;
  }

  Entry make(const AlignedKey& key) {
    const MatmulKey& problem = key.problem;
    Entry entry;
    entry.operation = describe_operation(problem);
    entry.a = describe_stored(problem.m, problem.k, problem.options.transpose_a, problem.stride_a,
                              problem.in);
    entry.b = describe_stored(problem.k, problem.n, problem.options.transpose_b, problem.stride_b,
                              problem.in);
    entry.out = describe(problem.m, problem.n, problem.stride_out, problem.out);
    const auto preference = describe_preference(key);
    cublasLtMatmulHeuristicResult_t result{};
    int found = 0;
    const cublasStatus_t status = cublasLtMatmulAlgoGetHeuristic(
        handle_, entry.operation.get(), entry.b.get(), entry.a.get(), entry.out.get(),
        entry.out.get(), preference.get(), 1, &result, &found);
    if (status != CUBLAS_STATUS_SUCCESS || found == 0) {
      throw InternalError(
          fmt::format("cuBLASLt has no algorithm for a product of [{}, {}] and [{}, {}] {}: {}",
                      problem.m, problem.k, problem.k, problem.n, base::name_of(problem.in),
                      cublasLtGetStatusString(status)));
    }
    entry.algorithm = result.algo;
    return entry;
  }

  Queue queue_;
  Tensor workspace_;
  cublasLtHandle_t handle_ = nullptr;
  std::unordered_map<AlignedKey, Entry, AlignedKeyHash> entries_;
};

Matmul::Matmul(const Queue& queue) : impl_(std::make_unique<Impl>(queue)) {}
Matmul::~Matmul() = default;

void Matmul::run(const Tensor& out, const Tensor& a, const Tensor& b,
                 const MatmulOptions& options) {
  impl_->run(out, a, b, options);
}

}  // namespace longspan::backend::cuda
