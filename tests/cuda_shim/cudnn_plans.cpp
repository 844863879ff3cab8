#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <utility>

#include "backend/cuda/cudnn_plans.h"
#include "backend/cuda_scratch.h"
#include "longspan/base/bfloat16.h"
#include "longspan/base/error.h"

// Stands in for src/backend/cuda/cudnn_plans.cpp where there is no cuDNN: plans that attend by the
// definition, in double, over tensors where and how cudnn_plans.h says that they lie. What is not a
// document's it leaves alone, but for NaN between documents and in the workspace.

namespace longspan::backend::cuda {
namespace {

using base::BFloat16;

/// As docs/cudnn-attention.md has it.
std::size_t workspace_of(const AttentionShape& shape, AttentionDirection direction) {
  if (direction == AttentionDirection::kForward) {
    return fast_attention_forward_workspace(shape.documents);
  }
  const Index kv_rows = shape.kv_heads == shape.heads ? 0 : 2 * shape.tokens_k;
  const Index floats =
      shape.tokens_q * shape.heads + (shape.tokens_q + kv_rows) * shape.heads * shape.head_dim;
  return static_cast<std::size_t>(floats) * sizeof(float) +
         fast_attention_backward_tables(shape.documents);
}

class Double : public CudnnPlan {
 public:
  Double(const AttentionShape& shape, AttentionDirection direction, bool padded_stats)
      : shape_(shape), direction_(direction) {
    if (shape.head_dim % 8 != 0) why_not_ = "the double wants heads of a multiple of 8";
    workspace_bytes_ = workspace_of(shape, direction);
    has_padded_stats_ = padded_stats;
  }

  void execute(cudaStream_t /*stream*/, const Bindings& tensors, void* workspace) override {
    tensors_ = &tensors;
    std::fill_n(static_cast<unsigned char*>(workspace), workspace_bytes(), 0xFF);
    const auto* queries = at<std::int32_t>(PlanTensor::kLengthsQ);
    const auto* keys = at<std::int32_t>(PlanTensor::kLengthsK);
    if (direction_ == AttentionDirection::kForward) {
      spoil(PlanTensor::kOut, queries, shape_.out_stride);
    } else {
      spoil(PlanTensor::kDq, queries, shape_.heads * shape_.head_dim);
      spoil(PlanTensor::kDk, keys, shape_.kv_heads * shape_.head_dim);
      spoil(PlanTensor::kDv, keys, shape_.kv_heads * shape_.head_dim);
    }
    for (Index document = 0; document < shape_.documents; ++document) {
      run(document, queries[document], keys[document]);
    }
  }

 private:
  template <typename T>
  T* at(PlanTensor tensor) const {
    return static_cast<T*>(tensors_->at(uid_of(tensor)));
  }
  const std::int64_t* offsets(PlanTensor tensor) const {
    return static_cast<const std::int64_t*>(tensors_->at(offsets_uid_of(tensor)));
  }

  /// A document's head in a tensor of rows.
  struct Head {
    BFloat16* data;
    Index stride;
    double get(Index row, Index j) const { return static_cast<float>(data[row * stride + j]); }
    void set(Index row, Index j, double value) const {
      data[row * stride + j] = BFloat16(static_cast<float>(value));
    }
  };
  Head head(PlanTensor tensor, Index document, Index number, Index stride) const {
    return {at<BFloat16>(tensor) + offsets(tensor)[document] + number * shape_.head_dim, stride};
  }

  float* stats(Index document, Index number, Index query) const {
    auto* data = at<float>(PlanTensor::kStats);
    if (has_padded_stats_) {
      return data + (document * shape_.heads + number) * shape_.longest_q + query;
    }
    return data + offsets(PlanTensor::kStats)[document] + query * shape_.heads + number;
  }

  /// NaN in the rows between one document and the next.
  void spoil(PlanTensor tensor, const std::int32_t* lengths, Index stride) const {
    const std::int64_t* begins = offsets(tensor);
    for (Index document = 0; document < shape_.documents; ++document) {
      const Index end = begins[document] + lengths[document] * stride;
      for (Index row = end; row < begins[document + 1]; row += stride) {
        std::fill_n(at<BFloat16>(tensor) + row, std::min(stride, shape_.head_dim),
                    BFloat16(std::numeric_limits<float>::quiet_NaN()));
      }
    }
  }

  void run(Index document, Index queries, Index keys) const {
    if (queries > shape_.longest_q || keys > shape_.longest_k) {
      throw base::InternalError("double: a document longer than the plan's longest");
    }
    if (queries > 0 && direction_ == AttentionDirection::kBackward) {
      for (Index kv = 0; kv < shape_.kv_heads; ++kv) backward(document, kv, queries, keys);
    }
    for (Index number = 0; direction_ == AttentionDirection::kForward && number < shape_.heads;
         ++number) {
      forward(document, number, queries, keys);
    }
  }

  Index seen(Index query, Index queries, Index keys) const {
    if (!shape_.causal) return keys;
    return shape_.unequal ? keys - queries + query + 1 : query + 1;
  }

  Index first_seen(Index query, Index queries, Index keys) const {
    if (shape_.window == 0) return 0;
    return std::max<Index>(0, seen(query, queries, keys) - shape_.window);
  }

  double score(const Head& q, const Head& k, Index query, Index key) const {
    double sum = 0;
    for (Index j = 0; j < shape_.head_dim; ++j) sum += q.get(query, j) * k.get(key, j);
    return sum * *at<float>(PlanTensor::kScale);
  }

  void forward(Index document, Index number, Index queries, Index keys) const {
    const Index kv = number / (shape_.heads / shape_.kv_heads);
    const Head q = head(PlanTensor::kQ, document, number, shape_.q_stride);
    const Head k = head(PlanTensor::kK, document, kv, shape_.k_stride);
    const Head v = head(PlanTensor::kV, document, kv, shape_.v_stride);
    const Head out = head(PlanTensor::kOut, document, number, shape_.out_stride);
    for (Index i = 0; i < queries; ++i) {
      double total = 0;
      std::vector<double> sums(static_cast<std::size_t>(shape_.head_dim));
      for (Index key = first_seen(i, queries, keys); key < seen(i, queries, keys); ++key) {
        const double weight = std::exp(score(q, k, i, key));
        total += weight;
        for (Index j = 0; j < shape_.head_dim; ++j) {
          sums[static_cast<std::size_t>(j)] += weight * v.get(key, j);
        }
      }
      for (Index j = 0; j < shape_.head_dim; ++j) {
        out.set(i, j, sums[static_cast<std::size_t>(j)] / total);
      }
      *stats(document, number, i) = static_cast<float>(std::log(total));
    }
  }

  /// All queries of the heads that share one key-value head.
  void backward(Index document, Index kv, Index queries, Index keys) const {
    const Index dim = shape_.head_dim;
    const Index kv_width = shape_.kv_heads * dim;
    const Head k = head(PlanTensor::kK, document, kv, shape_.k_stride);
    const Head v = head(PlanTensor::kV, document, kv, shape_.v_stride);
    std::vector<double> dk(static_cast<std::size_t>(keys * dim));
    std::vector<double> dv(dk);
    const Index group = shape_.heads / shape_.kv_heads;
    for (Index number = kv * group; number < (kv + 1) * group; ++number) {
      const Head q = head(PlanTensor::kQ, document, number, shape_.q_stride);
      const Head out = head(PlanTensor::kOut, document, number, shape_.out_stride);
      const Head dout = head(PlanTensor::kDout, document, number, shape_.dout_stride);
      const Head dq = head(PlanTensor::kDq, document, number, shape_.heads * dim);
      for (Index i = 0; i < queries; ++i) {
        std::vector<double> sums(static_cast<std::size_t>(dim));
        for (Index key = first_seen(i, queries, keys); key < seen(i, queries, keys); ++key) {
          const double p = std::exp(score(q, k, i, key) - *stats(document, number, i));
          double dp = 0;
          for (Index j = 0; j < dim; ++j) dp += dout.get(i, j) * (v.get(key, j) - out.get(i, j));
          const double ds = p * dp * *at<float>(PlanTensor::kScale);
          for (Index j = 0; j < dim; ++j) {
            sums[static_cast<std::size_t>(j)] += ds * k.get(key, j);
            dk[static_cast<std::size_t>(key * dim + j)] += ds * q.get(i, j);
            dv[static_cast<std::size_t>(key * dim + j)] += p * dout.get(i, j);
          }
        }
        for (Index j = 0; j < dim; ++j) dq.set(i, j, sums[static_cast<std::size_t>(j)]);
      }
    }
    const Head to_k = head(PlanTensor::kDk, document, kv, kv_width);
    const Head to_v = head(PlanTensor::kDv, document, kv, kv_width);
    for (Index at = 0; at < keys * dim; ++at) {
      to_k.set(at / dim, at % dim, dk[static_cast<std::size_t>(at)]);
      to_v.set(at / dim, at % dim, dv[static_cast<std::size_t>(at)]);
    }
  }

  AttentionShape shape_;
  AttentionDirection direction_;
  const Bindings* tensors_ = nullptr;
};

}  // namespace

Architecture Architecture::of_device(int device) { return {.sm = 90, .device = device}; }

struct CudnnPlans::State {
  Architecture architecture;
  std::map<std::pair<AttentionShape, AttentionDirection>, std::unique_ptr<Double>> plans;
};

CudnnPlans::CudnnPlans(Architecture architecture)
    : state_(std::make_unique<State>(State{std::move(architecture), {}})) {}
CudnnPlans::~CudnnPlans() = default;

CudnnPlan& CudnnPlans::plan(const AttentionShape& shape, AttentionDirection direction) {
  std::unique_ptr<Double>& plan = state_->plans[{shape, direction}];
  if (plan == nullptr) {
    const bool padded_stats =
        direction == AttentionDirection::kBackward && state_->architecture.sm == 80;
    plan = std::make_unique<Double>(shape, direction, padded_stats);
  }
  return *plan;
}

}  // namespace longspan::backend::cuda
