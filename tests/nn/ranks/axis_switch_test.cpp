// Run by ctest under mpirun with 1 to 4 ranks: packed clips from one axis to the other.
#include "longspan/nn/axis_switch.h"

#include <catch2/catch.hpp>

#include "tests/nn/layer_bench.h"

namespace longspan::nn {
namespace {

using backend::Index;
using backend::Tensor;
using shard::ClipGrid;
using shard::ClipLayout;
using shard::ClipOrder;
using shard::ClipSharding;
using test::LayerBench;
using Clips = std::vector<ClipGrid>;

comm::Communicator& world() {
  static const auto kWorld = comm::make_world_communicator();
  return *kWorld;
}

constexpr Index kHidden = 6;

/// What element h of a token is, wherever it lies.
double number_of(std::size_t clip, Index frame, Index place, Index h) {
  return static_cast<double>(((static_cast<Index>(clip) * 100 + frame) * 100 + place) * 10 + h);
}

/// What this rank holds, in the order that the switch documents.
std::vector<double> held(const ClipLayout& layout, ClipOrder order) {
  std::vector<double> numbers;
  for (std::size_t clip = 0; clip < layout.clips().size(); ++clip) {
    layout.part(clip, order, world().rank()).for_each(order, [&](Index frame, Index place) {
      for (Index h = 0; h < kHidden; ++h) numbers.push_back(number_of(clip, frame, place, h));
    });
  }
  return numbers;
}

/// Bytes that this rank sends when it switches numbers of 8 bytes from frames to places: all of its
/// own but those that stay.
std::uint64_t sent_bytes(const ClipLayout& layout) {
  Index tokens = layout.tokens(ClipOrder::kByFrame, world().rank());
  for (std::size_t clip = 0; clip < layout.clips().size(); ++clip) {
    tokens -= layout.part(clip, ClipOrder::kByFrame, world().rank()).frames.size() *
              layout.part(clip, ClipOrder::kByPlace, world().rank()).places.size();
  }
  return static_cast<std::uint64_t>(tokens * kHidden * 8);
}

std::vector<Clips> all_clips() {
  std::vector<Clips> all{{{5, 7}, {2, 3}, {16, 1}, {1, 16}}, {{3, 3}}, {{1, 1}}, {}};
  for (const Index frames : {1, 2, 3, 5, 7, 16}) {
    for (const Index places : {1, 2, 3, 5, 7, 16}) all.push_back({{frames, places}, {2, places}});
  }
  return all;
}

TEST_CASE("clips switch from frames to places and back, every number at its place") {
  LayerBench bench;
  comm::Communicator* group = world().size() > 1 ? &world() : nullptr;
  const ClipSharding sharding = GENERATE(ClipSharding::kDynamic, ClipSharding::kOneAxis,
                                         ClipSharding::kFlattened, ClipSharding::kRing);
  for (const Clips& clips : all_clips()) {
    const AxisSwitch axes(ClipLayout(clips, world().size(), sharding), group, bench.backend());
    const Tensor frames = bench.empty({axes.tokens(ClipOrder::kByFrame), kHidden});
    const Tensor places = bench.empty({axes.tokens(ClipOrder::kByPlace), kHidden});
    LayerBench::assign(frames, held(axes.layout(), ClipOrder::kByFrame));
    const comm::Traffic before = world().traffic();
    axes.to_places(places, frames);
    const auto sent =
        world().traffic()[comm::Collective::kAllToAll] - before[comm::Collective::kAllToAll];
    CHECK(LayerBench::values(places) == held(axes.layout(), ClipOrder::kByPlace));
    CHECK(sent == (sharding == ClipSharding::kDynamic ? sent_bytes(axes.layout()) : 0));
    bench.backend().zero(frames);
    axes.to_frames(frames, places);
    CHECK(LayerBench::values(frames) == held(axes.layout(), ClipOrder::kByFrame));
  }
}

TEST_CASE("clips whose extents ranks divide: a switch sends (N - 1) / N^2 of all tokens") {
  LayerBench bench;
  const Index ranks = world().size();
  comm::Communicator* group = ranks > 1 ? &world() : nullptr;
  const AxisSwitch axes(ClipLayout({{3 * ranks, 2 * ranks}}, world().size()), group,
                        bench.backend());
  const Tensor frames = bench.empty({axes.tokens(ClipOrder::kByFrame), kHidden});
  const Tensor places = bench.empty({axes.tokens(ClipOrder::kByPlace), kHidden});
  bench.backend().zero(frames);
  const comm::Traffic before = world().traffic();
  axes.to_places(places, frames);
  const auto sent =
      world().traffic()[comm::Collective::kAllToAll] - before[comm::Collective::kAllToAll];
  const Index tokens = 6 * ranks * ranks;
  CHECK(sent == static_cast<std::uint64_t>(tokens * kHidden * 8 * (ranks - 1) / ranks / ranks));
}

}  // namespace
}  // namespace longspan::nn
