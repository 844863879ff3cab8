#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "backend/cuda/attention_shape.h"

// cuDNN's graphs of attention behind plain types: cudnn_plans.cpp alone includes cudnn_frontend.h,
// which takes half a minute to compile.
namespace longspan::backend::cuda {

/// A GPU as cuDNN asks about it: one that is here, or one of a kind, to ask what it would do.
struct Architecture {
  int sm = 0;                   ///< 90 for compute capability 9.0
  int device = -1;              ///< the GPU's number on this machine; negative: none, only asking
  std::string properties = {};  ///< of a kind of GPU: cuDNN's JSON

  /// Throws InternalError.
  static Architecture of_device(int device);
  /// "sm_80" (A100), "sm_90" (H200) or "sm_100" (B200). Throws InputError that lists the names.
  static Architecture named(const std::string& name);
};

/// What a plan reads and writes; the numbers are cuDNN's "uid". q, k, v, out and their gradients
/// are bfloat16, laid out as the shape says; gradients that are written are dense.
enum class PlanTensor : std::int64_t {
  kQ = 1,
  kK,
  kV,
  kOut,
  kStats,  ///< float32 log-sum-exp: [tokens, heads], or [documents, heads, longest] where padded
  kDout,
  kDq,
  kDk,
  kDv,
  kScale,        ///< one float, on the host
  kLengthsQ,     ///< int32 [documents]
  kLengthsK,     ///< int32 [documents]
  kOffsets = 32  ///< + the number of a tensor above: int64 [documents + 1], elements
};

constexpr std::int64_t uid_of(PlanTensor tensor) { return static_cast<std::int64_t>(tensor); }
constexpr std::int64_t offsets_uid_of(PlanTensor tensor) {
  return uid_of(PlanTensor::kOffsets) + uid_of(tensor);
}

/// The addresses of a plan's tensors by uid.
using Bindings = std::unordered_map<std::int64_t, void*>;

/// cuDNN's way to do the attention of one rounded shape, or its reason why there is none.
class CudnnPlan {
 public:
  virtual ~CudnnPlan() = default;
  CudnnPlan() = default;
  CudnnPlan(const CudnnPlan&) = delete;
  CudnnPlan& operator=(const CudnnPlan&) = delete;

  bool supported() const { return why_not_.empty(); }
  const std::string& why_not() const { return why_not_; }
  /// Of the device, while it executes.
  std::size_t workspace_bytes() const { return workspace_bytes_; }
  /// Whether the backward reads padded statistics.
  bool has_padded_stats() const { return has_padded_stats_; }
  /// Gives the work to the stream and returns. Only where there is a device.
  virtual void execute(cudaStream_t stream, const Bindings& tensors, void* workspace) = 0;

 protected:
  std::string why_not_;
  std::size_t workspace_bytes_ = 0;
  bool has_padded_stats_ = false;
};

/// All plans of one architecture, each made when it is first asked for.
class CudnnPlans {
 public:
  /// Throws InternalError where cuDNN cannot be loaded. Sets variables of the environment that
  /// cudnn-frontend reads, unless they are set: call it before other threads start.
  explicit CudnnPlans(Architecture architecture);
  ~CudnnPlans();
  CudnnPlans(const CudnnPlans&) = delete;
  CudnnPlans& operator=(const CudnnPlans&) = delete;

  /// The shape must be rounded.
  CudnnPlan& plan(const AttentionShape& shape, AttentionDirection direction);
  /// cuDNN's as it runs: 91900 for 9.19.0.
  std::size_t version() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace longspan::backend::cuda
