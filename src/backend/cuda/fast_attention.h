#pragma once

#include <cstddef>
#include <string>

#include "backend/cuda/attention_shape.h"
#include "backend/cuda/queue.h"

namespace longspan::backend::cuda {

/// One attention: its documents, what is known of them, and the factor of its scores.
struct AttentionCall {
  AttentionBatch batch;
  AttentionShape shape;
  float scale = 1.0F;
};

/// An attention that is fast for some shapes and declines others. Contracts are those of Backend;
/// the arguments have been checked against them.
class FastAttention {
 public:
  virtual ~FastAttention() = default;
  FastAttention() = default;
  FastAttention(const FastAttention&) = delete;
  FastAttention& operator=(const FastAttention&) = delete;

  /// Whether it does this shape; else `why_not` says why. The answer is kept.
  virtual bool supports(const AttentionShape& shape, AttentionDirection direction,
                        std::string* why_not) = 0;
  /// Bytes that a call of a supported shape allocates on the device at most, all together.
  virtual std::size_t workspace_bytes(const AttentionShape& shape,
                                      AttentionDirection direction) = 0;

  /// Of shapes that it supports only.
  virtual void forward(const Queue& queue, const Tensor& out, const Tensor& lse, const Tensor& q,
                       const Tensor& k, const Tensor& v, const AttentionCall& call) = 0;
  virtual void backward(const Queue& queue, const Tensor& dq, const Tensor& dk, const Tensor& dv,
                        const Tensor& dout, const Tensor& out, const Tensor& lse, const Tensor& q,
                        const Tensor& k, const Tensor& v, const AttentionCall& call) = 0;
};

}  // namespace longspan::backend::cuda
