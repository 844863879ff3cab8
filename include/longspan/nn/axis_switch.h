#pragma once

#include <vector>

#include "longspan/backend/backend.h"
#include "longspan/comm/communicator.h"
#include "longspan/shard/clip_layout.h"
#include "longspan/shard/reshard.h"

namespace longspan::nn {

/// Changes the axis along which ranks divide packed clips (DSP, Zhao et al. 2024: "dynamic
/// switching"), by one all-to-all for all clips together; and with it the order of tokens, so that
/// what is whole lies together:
/// - by frames: of each clip in turn [the rank's frames, all places, hidden];
/// - by places: of each clip in turn [the rank's places, all frames, hidden].
/// Each direction is the other's inverse and adjoint, bit for bit: activations and gradients go the
/// same way. A rank sends (N-1)/N^2 of all tokens, whichever way.
class AxisSwitch {
 public:
  /// `group`: the ranks of the layout, which must outlive this; null: one rank.
  AxisSwitch(shard::ClipLayout layout, comm::Communicator* group);

  const shard::ClipLayout& layout() const { return layout_; }
  int rank() const { return group_ == nullptr ? 0 : group_->rank(); }
  /// Of this rank.
  backend::Index tokens(shard::ClipAxis axis) const { return layout_.tokens(axis, rank()); }

  /// out [tokens by places, hidden] from in [tokens by frames, hidden], dense. All ranks call it.
  void to_places(const backend::Tensor& out, const backend::Tensor& in,
                 backend::Backend& backend) const;
  void to_frames(const backend::Tensor& out, const backend::Tensor& in,
                 backend::Backend& backend) const;

  /// Bytes that this rank sends in one switch of activations.
  std::uint64_t bytes_sent(backend::Index hidden, base::DType dtype) const;

 private:
  std::vector<shard::Move> moves(shard::ClipAxis from, backend::Index hidden) const;
  backend::Shape by_frames(std::size_t clip, backend::Index hidden) const;
  backend::Shape by_places(std::size_t clip, backend::Index hidden) const;
  /// This rank's parts of the clips, as `shape` says of each, one behind another in `all`.
  template <typename ShapeOf>
  std::vector<backend::Tensor> parts(const backend::Tensor& all, const ShapeOf& shape) const;

  shard::ClipLayout layout_;
  comm::Communicator* group_;
};

}  // namespace longspan::nn
