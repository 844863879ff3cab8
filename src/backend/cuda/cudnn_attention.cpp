#include "backend/cuda/cudnn_attention.h"

#include <utility>
#include <vector>

#include "backend/checks.h"
#include "backend/cuda/attention_layout.h"

namespace longspan::backend::cuda {
namespace {

using base::DType;

/// Where documents begin in each of the direction's tensors.
struct Place {
  PlanTensor tensor;
  OffsetsOf offsets;
};

std::vector<Place> places_of(const AttentionShape& shape, AttentionDirection direction,
                             bool padded_stats) {
  constexpr TokenSide kQueries = TokenSide::kQueries;
  constexpr TokenSide kKeys = TokenSide::kKeys;
  // The table of padded statistics is not cuDNN's: it tells our kernel the documents' first tokens.
  std::vector<Place> places = {
      {PlanTensor::kStats, {kQueries, padded_stats ? 1 : shape.heads}},
      {PlanTensor::kQ, {kQueries, shape.q_stride}},
      {PlanTensor::kK, {kKeys, shape.k_stride}},
      {PlanTensor::kV, {kKeys, shape.v_stride}},
      {PlanTensor::kOut, {kQueries, shape.out_stride}},
  };
  if (direction == AttentionDirection::kBackward) {
    const Index kv_width = shape.kv_heads * shape.head_dim;
    places.push_back({PlanTensor::kDout, {kQueries, shape.dout_stride}});
    places.push_back({PlanTensor::kDq, {kQueries, shape.heads * shape.head_dim}});
    places.push_back({PlanTensor::kDk, {kKeys, kv_width}});
    places.push_back({PlanTensor::kDv, {kKeys, kv_width}});
  }
  return places;
}

/// Everything that one call allocates beside dense gradients; `shape` is the call's, `like` the
/// rounded one.
struct ScratchShapes {
  ScratchShapes(const CudnnPlan& plan, const AttentionShape& shape, const AttentionShape& like,
                AttentionDirection direction)
      : lengths{2, like.documents},
        offsets{direction == AttentionDirection::kForward ? 5 : 9, like.documents + 1},
        stats{shape.tokens_q, shape.heads},
        workspace{static_cast<Index>(plan.workspace_bytes())} {
    if (plan.has_padded_stats()) stats = {like.documents, like.heads, like.longest_q};
  }

  std::size_t bytes() const {
    return static_cast<std::size_t>(lengths.elements()) * sizeof(std::int32_t) +
           static_cast<std::size_t>(offsets.elements()) * sizeof(std::int64_t) +
           static_cast<std::size_t>(stats.elements()) * sizeof(float) +
           static_cast<std::size_t>(workspace.elements());
  }

  Shape lengths, offsets, stats, workspace;
};

/// The tensors around a plan for one call.
class Scratch {
 public:
  Scratch(const Queue& queue, const ScratchShapes& shapes)
      : lengths(make(queue, shapes.lengths, DType::kInt32)),
        offsets(make(queue, shapes.offsets, DType::kInt64)),
        stats(make(queue, shapes.stats, DType::kFloat32)),
        workspace(make(queue, shapes.workspace, DType::kUInt8)) {}

  static Tensor make(const Queue& queue, const Shape& shape, DType dtype) {
    return queue.backend->allocate(shape, dtype, MemoryTag::kWorkspace);
  }

  Tensor lengths, offsets, stats, workspace;
};

/// Fills the tables on the device and tells the plan where they are.
void bind_documents(const Queue& queue, const Scratch& scratch, const AttentionCall& call,
                    AttentionDirection direction, bool padded_stats, Bindings& bindings) {
  std::vector<OffsetsOf> tables;
  for (const Place& place : places_of(call.shape, direction, padded_stats)) {
    const auto row = static_cast<Index>(tables.size());
    const bool is_ours = padded_stats && place.tensor == PlanTensor::kStats;
    if (!is_ours) {
      bindings[offsets_uid_of(place.tensor)] = scratch.offsets.rows(row, row + 1).raw();
    }
    tables.push_back(place.offsets);
  }
  write_document_tables(queue, scratch.lengths, scratch.offsets, call.batch, tables);
  bindings[uid_of(PlanTensor::kLengthsQ)] = scratch.lengths.rows(0, 1).raw();
  bindings[uid_of(PlanTensor::kLengthsK)] = scratch.lengths.rows(1, 2).raw();
}

/// The tensor itself, or a dense one to be copied to it.
Tensor dense(const Queue& queue, const Tensor& tensor) {
  return tensor.is_dense() ? tensor : Scratch::make(queue, tensor.shape(), tensor.dtype());
}

}  // namespace

CudnnAttention::CudnnAttention(Architecture architecture) : plans_(std::move(architecture)) {}
CudnnAttention::~CudnnAttention() = default;

bool CudnnAttention::supports(const AttentionShape& shape, AttentionDirection direction,
                              std::string* why_not) {
  // With nothing to attend to, what is not cuDNN's remains; that is for bfloat16 as well.
  if (shape.documents == 0 && shape.dtype == DType::kBFloat16) return true;
  const CudnnPlan& plan = plans_.plan(rounded(shape, direction), direction);
  if (!plan.supported() && why_not != nullptr) *why_not = plan.why_not();
  return plan.supported();
}

std::size_t CudnnAttention::workspace_bytes(const AttentionShape& shape,
                                            AttentionDirection direction) {
  if (shape.documents == 0) return 0;
  const AttentionShape like = rounded(shape, direction);
  const CudnnPlan& plan = plans_.plan(like, direction);
  if (!plan.supported()) {
    contract_broken("workspace_bytes", describe(shape, direction) + ": " + plan.why_not());
  }
  std::size_t bytes = ScratchShapes(plan, shape, like, direction).bytes();
  if (direction == AttentionDirection::kBackward && !shape.dense_gradients) {
    const Index elements = shape.tokens_q * shape.heads + 2 * shape.tokens_k * shape.kv_heads;
    bytes += static_cast<std::size_t>(elements * shape.head_dim) * sizeof(base::BFloat16);
  }
  return bytes;
}

void CudnnAttention::forward(const Queue& queue, const Tensor& out, const Tensor& lse,
                             const Tensor& q, const Tensor& k, const Tensor& v,
                             const AttentionCall& call) {
  if (!call.batch.attended.empty()) attend(queue, out, lse, q, k, v, call);
  // After cuDNN, whatever it writes between documents.
  clear_left_out(queue, out, call.batch, TokenSide::kQueries);
  clear_left_out_lse(queue, lse, call.batch);
}

void CudnnAttention::attend(const Queue& queue, const Tensor& out, const Tensor& lse,
                            const Tensor& q, const Tensor& k, const Tensor& v,
                            const AttentionCall& call) {
  constexpr AttentionDirection kDirection = AttentionDirection::kForward;
  const AttentionShape like = rounded(call.shape, kDirection);
  CudnnPlan& plan = plans_.plan(like, kDirection);
  const Scratch scratch(queue, ScratchShapes(plan, call.shape, like, kDirection));
  float scale = call.scale;
  Bindings bindings = {
      {uid_of(PlanTensor::kQ), q.raw()},
      {uid_of(PlanTensor::kK), k.raw()},
      {uid_of(PlanTensor::kV), v.raw()},
      {uid_of(PlanTensor::kOut), out.raw()},
      {uid_of(PlanTensor::kStats), scratch.stats.raw()},
      {uid_of(PlanTensor::kScale), &scale},
  };
  bind_documents(queue, scratch, call, kDirection, false, bindings);
  plan.execute(queue.stream, bindings, scratch.workspace.raw());
  stats_to_lse(queue, lse, scratch.stats);
}

void CudnnAttention::backward(const Queue& queue, const Tensor& dq, const Tensor& dk,
                              const Tensor& dv, const Tensor& dout, const Tensor& out,
                              const Tensor& lse, const Tensor& q, const Tensor& k, const Tensor& v,
                              const AttentionCall& call) {
  if (!call.batch.attended.empty()) {
    // With gaps between rows, cuDNN's own float32 gradients would have gaps of a multiple.
    const Tensor dense_dq = dense(queue, dq);
    const Tensor dense_dk = dense(queue, dk);
    const Tensor dense_dv = dense(queue, dv);
    differentiate(queue, dense_dq, dense_dk, dense_dv, dout, out, lse, q, k, v, call);
    if (!dq.is_dense()) queue.backend->copy(dq, dense_dq);
    if (!dk.is_dense()) queue.backend->copy(dk, dense_dk);
    if (!dv.is_dense()) queue.backend->copy(dv, dense_dv);
  }
  clear_left_out(queue, dq, call.batch, TokenSide::kQueries);
  clear_left_out(queue, dk, call.batch, TokenSide::kKeys);
  clear_left_out(queue, dv, call.batch, TokenSide::kKeys);
}

void CudnnAttention::differentiate(const Queue& queue, const Tensor& dq, const Tensor& dk,
                                   const Tensor& dv, const Tensor& dout, const Tensor& out,
                                   const Tensor& lse, const Tensor& q, const Tensor& k,
                                   const Tensor& v, const AttentionCall& call) {
  constexpr AttentionDirection kDirection = AttentionDirection::kBackward;
  const AttentionShape like = rounded(call.shape, kDirection);
  CudnnPlan& plan = plans_.plan(like, kDirection);
  const Scratch scratch(queue, ScratchShapes(plan, call.shape, like, kDirection));
  float scale = call.scale;
  Bindings bindings = {
      {uid_of(PlanTensor::kQ), q.raw()},       {uid_of(PlanTensor::kK), k.raw()},
      {uid_of(PlanTensor::kV), v.raw()},       {uid_of(PlanTensor::kOut), out.raw()},
      {uid_of(PlanTensor::kDout), dout.raw()}, {uid_of(PlanTensor::kStats), scratch.stats.raw()},
      {uid_of(PlanTensor::kScale), &scale},    {uid_of(PlanTensor::kDq), dq.raw()},
      {uid_of(PlanTensor::kDk), dk.raw()},     {uid_of(PlanTensor::kDv), dv.raw()},
  };
  bind_documents(queue, scratch, call, kDirection, plan.has_padded_stats(), bindings);
  if (plan.has_padded_stats()) {
    lse_to_padded_stats(queue, scratch.stats, lse, scratch.lengths.rows(0, 1),
                        scratch.offsets.rows(0, 1));
  } else {
    lse_to_stats(queue, scratch.stats, lse);
  }
  plan.execute(queue.stream, bindings, scratch.workspace.raw());
}

}  // namespace longspan::backend::cuda
