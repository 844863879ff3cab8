#include "longspan/nn/axis_switch.h"

#include <utility>

namespace longspan::nn {

using backend::Index;
using backend::MemoryTag;
using backend::Shape;
using backend::Tensor;
using shard::ClipAxis;

AxisSwitch::AxisSwitch(shard::ClipLayout layout, comm::Communicator* group)
    : layout_(std::move(layout)), group_(group) {}

std::vector<shard::Move> AxisSwitch::moves(ClipAxis from, Index hidden) const {
  std::vector<shard::Move> moves;
  for (std::size_t clip = 0; clip < layout_.clips().size(); ++clip) {
    const shard::ClipGrid& grid = layout_.clips()[clip];
    const shard::Layout frames{0, layout_.cover(clip, ClipAxis::kFrames)};
    const shard::Layout places{1, layout_.cover(clip, ClipAxis::kPlaces)};
    const bool is_by_frames = from == ClipAxis::kFrames;
    moves.push_back({{grid.frames, grid.places, hidden},
                     is_by_frames ? frames : places,
                     is_by_frames ? places : frames});
  }
  return moves;
}

Shape AxisSwitch::by_frames(std::size_t clip, Index hidden) const {
  return {layout_.held(clip, ClipAxis::kFrames, rank()), layout_.clips()[clip].places, hidden};
}

/// In the order of frames, as an exchange leaves it.
Shape AxisSwitch::by_places(std::size_t clip, Index hidden) const {
  return {layout_.clips()[clip].frames, layout_.held(clip, ClipAxis::kPlaces, rank()), hidden};
}

template <typename ShapeOf>
std::vector<Tensor> AxisSwitch::parts(const Tensor& all, const ShapeOf& shape) const {
  std::vector<Tensor> parts;
  Index begin = 0;
  for (std::size_t clip = 0; clip < layout_.clips().size(); ++clip) {
    const Shape own = shape(clip);
    const Index end = begin + own[0] * own[1];
    parts.push_back(all.rows(begin, end).reshape(own));
    begin = end;
  }
  return parts;
}

void AxisSwitch::to_places(const Tensor& out, const Tensor& in, backend::Backend& backend) const {
  const Index hidden = in.size(1);
  const auto frames = [&](std::size_t clip) { return by_frames(clip, hidden); };
  const auto places = [&](std::size_t clip) { return by_places(clip, hidden); };
  const auto swapped = [&](std::size_t clip) {
    const Shape own = by_places(clip, hidden);
    return Shape{own[1], own[0], hidden};
  };
  const std::vector<Tensor> sources = parts(in, frames);
  std::vector<Tensor> middle = sources;  // one rank has both
  Tensor received;
  if (group_ != nullptr) {
    received = backend.allocate(out.shape(), out.dtype(), MemoryTag::kWorkspace);
    middle = parts(received, places);
    shard::ReshardPlan(rank(), moves(ClipAxis::kFrames, hidden))
        .run(middle, sources, *group_, backend);
  }
  const std::vector<Tensor> targets = parts(out, swapped);
  for (std::size_t clip = 0; clip < targets.size(); ++clip) {
    backend.swap_axes(targets[clip], middle[clip]);
  }
}

void AxisSwitch::to_frames(const Tensor& out, const Tensor& in, backend::Backend& backend) const {
  const Index hidden = in.size(1);
  const auto frames = [&](std::size_t clip) { return by_frames(clip, hidden); };
  const auto places = [&](std::size_t clip) { return by_places(clip, hidden); };
  const auto swapped = [&](std::size_t clip) {
    const Shape own = by_places(clip, hidden);
    return Shape{own[1], own[0], hidden};
  };
  const std::vector<Tensor> sources = parts(in, swapped);
  const std::vector<Tensor> targets = parts(out, frames);
  std::vector<Tensor> middle = targets;
  Tensor sent;
  if (group_ != nullptr) {
    sent = backend.allocate(in.shape(), in.dtype(), MemoryTag::kWorkspace);
    middle = parts(sent, places);
  }
  for (std::size_t clip = 0; clip < sources.size(); ++clip) {
    backend.swap_axes(middle[clip], sources[clip]);
  }
  if (group_ == nullptr) return;
  shard::ReshardPlan(rank(), moves(ClipAxis::kPlaces, hidden))
      .run(targets, middle, *group_, backend);
}

std::uint64_t AxisSwitch::bytes_sent(Index hidden, base::DType dtype) const {
  if (group_ == nullptr || layout_.clips().empty()) return 0;
  return shard::ReshardPlan(rank(), moves(ClipAxis::kFrames, hidden)).cost(dtype).bytes_sent;
}

}  // namespace longspan::nn
