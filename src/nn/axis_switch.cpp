#include "longspan/nn/axis_switch.h"

#include <utility>

namespace longspan::nn {

using backend::Index;
using backend::MemoryTag;
using backend::Tensor;
using shard::ClipAxis;
using shard::ClipOrder;
using shard::Range;

namespace {

using Ids = std::vector<std::int32_t>;

/// Appends the tokens of a part as they lie by place: which they are, counted frame by frame from
/// `first` on.
void append_by_place(Ids& ids, const shard::ClipPart& part, Index first) {
  std::vector<Index> begins;  // of each frame's first place, if all of them were held
  for (const Range& run : part.runs(ClipOrder::kByFrame)) {
    begins.push_back(first - run.begin);
    first += run.size();
  }
  Index place = part.places.begin;
  for (const Range& run : part.runs(ClipOrder::kByPlace)) {
    for (Index frame = run.begin; frame < run.end; ++frame) {
      const Index begin = begins[static_cast<std::size_t>(frame - part.frames.begin)];
      ids.push_back(static_cast<std::int32_t>(begin + place));
    }
    ++place;
  }
}

Tensor upload(const Ids& ids, backend::Backend& backend) {
  const Tensor device =
      backend.allocate({static_cast<Index>(ids.size())}, base::DType::kInt32, MemoryTag::kSaved);
  backend.copy_from_host(device, ids.data(), device.bytes());
  return device;
}

}  // namespace

AxisSwitch::AxisSwitch(shard::ClipLayout layout, comm::Communicator* group,
                       backend::Backend& backend)
    : layout_(std::move(layout)), group_(group), backend_(&backend) {
  Ids by_place;
  for (std::size_t clip = 0; clip < layout_.clips().size(); ++clip) {
    append_by_place(by_place, layout_.part(clip, ClipOrder::kByPlace, rank()),
                    static_cast<Index>(by_place.size()));
  }
  Ids by_frame(by_place.size());
  for (std::size_t i = 0; i < by_place.size(); ++i) {
    by_frame[static_cast<std::size_t>(by_place[i])] = static_cast<std::int32_t>(i);
  }
  by_place_ = upload(by_place, backend);
  by_frame_ = upload(by_frame, backend);
}

shard::ReshardPlan AxisSwitch::plan(ClipAxis from, Index hidden) const {
  std::vector<shard::Move> moves;
  for (std::size_t clip = 0; clip < layout_.clips().size(); ++clip) {
    const shard::ClipGrid& grid = layout_.clips()[clip];
    shard::Layout frames{0, layout_.cover(clip, ClipAxis::kFrames)};
    shard::Layout places{1, layout_.cover(clip, ClipAxis::kPlaces)};
    if (from == ClipAxis::kPlaces) std::swap(frames, places);
    moves.push_back({{grid.frames, grid.places, hidden}, std::move(frames), std::move(places)});
  }
  return {rank(), std::move(moves)};
}

std::vector<Tensor> AxisSwitch::parts(const Tensor& all, ClipAxis axis) const {
  std::vector<Tensor> parts;
  Index begin = 0;
  for (std::size_t clip = 0; clip < layout_.clips().size(); ++clip) {
    const shard::ClipGrid& grid = layout_.clips()[clip];
    const Index held = layout_.cover(clip, axis).size(rank());
    const bool by_frames = axis == ClipAxis::kFrames;
    const backend::Shape shape{by_frames ? held : grid.frames, by_frames ? grid.places : held,
                               all.size(1)};
    const Index end = begin + shape[0] * shape[1];
    parts.push_back(all.rows(begin, end).reshape(shape));
    begin = end;
  }
  return parts;
}

void AxisSwitch::to_places(const Tensor& out, const Tensor& in) const {
  Tensor held = in;
  if (layout_.switches()) {
    held = backend_->allocate(out.shape(), out.dtype(), MemoryTag::kWorkspace);
    plan(ClipAxis::kFrames, in.size(1))
        .run(parts(held, ClipAxis::kPlaces), parts(in, ClipAxis::kFrames), *group_, *backend_);
  }
  backend_->gather_rows(out, by_place_, held);
}

void AxisSwitch::to_frames(const Tensor& out, const Tensor& in) const {
  if (!layout_.switches()) return backend_->gather_rows(out, by_frame_, in);
  const Tensor held = backend_->allocate(in.shape(), in.dtype(), MemoryTag::kWorkspace);
  backend_->gather_rows(held, by_frame_, in);
  plan(ClipAxis::kPlaces, in.size(1))
      .run(parts(out, ClipAxis::kFrames), parts(held, ClipAxis::kPlaces), *group_, *backend_);
}

}  // namespace longspan::nn
