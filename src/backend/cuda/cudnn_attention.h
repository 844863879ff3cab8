#pragma once

#include <memory>
#include <string>

#include "backend/cuda/cudnn_plans.h"
#include "backend/cuda/fast_attention.h"

namespace longspan::backend::cuda {

/// cuDNN's attention of packed bfloat16 documents. What it supports depends on the architecture and
/// on cuDNN's version; tests/backend/cudnn has the table. Without a device it tells what it would
/// support and what memory it would take.
class CudnnAttention : public FastAttention {
 public:
  explicit CudnnAttention(Architecture architecture);
  ~CudnnAttention() override;

  bool supports(const AttentionShape& shape, AttentionDirection direction,
                std::string* why_not) override;
  std::size_t workspace_bytes(const AttentionShape& shape, AttentionDirection direction) override;

  void forward(const Queue& queue, const Tensor& out, const Tensor& lse, const Tensor& q,
               const Tensor& k, const Tensor& v, const AttentionCall& call) override;
  void backward(const Queue& queue, const Tensor& dq, const Tensor& dk, const Tensor& dv,
                const Tensor& dout, const Tensor& out, const Tensor& lse, const Tensor& q,
                const Tensor& k, const Tensor& v, const AttentionCall& call) override;

 private:
  void attend(const Queue& queue, const Tensor& out, const Tensor& lse, const Tensor& q,
              const Tensor& k, const Tensor& v, const AttentionCall& call);
  void differentiate(const Queue& queue, const Tensor& dq, const Tensor& dk, const Tensor& dv,
                     const Tensor& dout, const Tensor& out, const Tensor& lse, const Tensor& q,
                     const Tensor& k, const Tensor& v, const AttentionCall& call);

  CudnnPlans plans_;
};

}  // namespace longspan::backend::cuda
