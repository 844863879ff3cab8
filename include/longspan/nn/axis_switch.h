#pragma once

#include <vector>

#include "longspan/backend/backend.h"
#include "longspan/comm/communicator.h"
#include "longspan/shard/clip_layout.h"
#include "longspan/shard/reshard.h"

namespace longspan::nn {

/// Takes packed clips from passes that attend within frames to passes that attend along time, and
/// back: what is attended over lies together.
/// - by frame: of each clip in turn, of each of the rank's frames, the places held;
/// - by place: of each clip in turn, of each of the rank's places, the frames held.
/// Where the layout switches (DSP, Zhao et al. 2024: "dynamic switching"), the axis along which
/// ranks divide the clips changes with it, by one all-to-all for all clips together: a rank sends
/// (N-1)/N^2 of all tokens, whichever way. Else tokens stay on their ranks.
/// Each direction is the other's inverse and adjoint, bit for bit: activations and gradients go the
/// same way.
class AxisSwitch {
 public:
  /// `group`: the ranks of the layout, which must outlive this, as `backend` must; null: one rank.
  AxisSwitch(shard::ClipLayout layout, comm::Communicator* group, backend::Backend& backend);

  const shard::ClipLayout& layout() const { return layout_; }
  int rank() const { return group_ == nullptr ? 0 : group_->rank(); }
  /// Of this rank.
  backend::Index tokens(shard::ClipOrder order) const { return layout_.tokens(order, rank()); }

  /// out [tokens by place, hidden] from in [tokens by frame, hidden], dense. All ranks call it.
  void to_places(const backend::Tensor& out, const backend::Tensor& in) const;
  void to_frames(const backend::Tensor& out, const backend::Tensor& in) const;
  /// That of the two whose result lies in this order.
  void to(shard::ClipOrder order, const backend::Tensor& out, const backend::Tensor& in) const {
    order == shard::ClipOrder::kByFrame ? to_frames(out, in) : to_places(out, in);
  }

 private:
  shard::ReshardPlan plan(shard::ClipAxis from, backend::Index hidden) const;
  /// This rank's parts of the clips, one behind another in `all`, as the exchange sees them: [its
  /// frames, all places, hidden] or [all frames, its places, hidden].
  std::vector<backend::Tensor> parts(const backend::Tensor& all, shard::ClipAxis axis) const;

  shard::ClipLayout layout_;
  comm::Communicator* group_;
  backend::Backend* backend_;
  // Of tokens as they lie in passes by place, which tokens they are in the order of frames; and the
  // other way round.
  backend::Tensor by_place_;
  backend::Tensor by_frame_;
};

}  // namespace longspan::nn
