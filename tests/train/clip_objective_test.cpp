#include "longspan/train/clip_objective.h"

#include <catch2/catch.hpp>
#include <cmath>

#include "longspan/data/sprites.h"

namespace longspan::train {
namespace {

using data::Sprites;

Sprites sprites() {
  return Sprites({.seed = 3, .clips = 50, .shapes = {{4, 3, 10, 12}, {3, 3, 8, 6}}});
}

model::ClipConfig config() {
  model::ClipConfig config;
  config.channels = 3;
  config.patch_size = 2;
  config.num_classes = Sprites::kForms;
  return config;
}

std::vector<ClipSample> samples() { return {{7, 0}, {8, 1}, {9, 2}, {10, 3}}; }

/// Point by point, from a whole clip.
float point(const Sprites& source, std::int64_t clip, std::int64_t frame, std::int64_t row,
            std::int64_t column, std::int64_t channel) {
  std::vector<float> numbers(3);
  source.read(clip, {frame, 1, row, 1, column, 1}, numbers.data());
  return numbers[static_cast<std::size_t>(channel)];
}

TEST_CASE("patches: every number at its place, of any frames and places") {
  const Sprites source = sprites();
  for (const std::int64_t clip : {0, 1, 2, 3}) {
    const model::ClipPatches patches = patches_of(source.shape(clip), 2);
    const std::int64_t places = patches.rows * patches.columns;
    for (const shard::Range& range :
         {shard::Range{0, places}, shard::Range{3, 8}, shard::Range{5, 5}}) {
      const auto found = read_patches(source, clip, 2, {1, 3}, range);
      REQUIRE(found.size() == static_cast<std::size_t>(2 * range.size() * 12));
      std::size_t at = 0;
      for (std::int64_t frame = 1; frame < 3; ++frame) {
        for (std::int64_t place = range.begin; place < range.end; ++place) {
          for (std::int64_t i = 0; i < 12; ++i) {
            REQUIRE(found[at++] == point(source, clip, frame, place / patches.columns * 2 + i / 6,
                                         place % patches.columns * 2 + i / 3 % 2, i % 3));
          }
        }
      }
    }
  }
}

TEST_CASE("next frame: targets are changes, behind the last there is none") {
  const Sprites source = sprites();
  const model::ClipBatch batch =
      clip_batch(source, config(), ClipObjective::kNextFrame, samples(), 5, 0, nullptr);
  std::size_t at = 0;
  std::size_t token = 0;
  for (const ClipSample& sample : samples()) {
    const model::ClipPatches patches = patches_of(source.shape(sample.clip), 2);
    for (std::int64_t place = 0; place < patches.rows * patches.columns; ++place) {
      for (std::int64_t frame = 0; frame < patches.frames; ++frame) {
        const bool has_next = frame + 1 < patches.frames;
        REQUIRE(batch.counts[token++] == (has_next ? 1.0F : 0.0F));
        for (std::int64_t i = 0; i < 12; ++i) {
          const auto of = [&](std::int64_t time) {
            return point(source, sample.clip, time, place / patches.columns * 2 + i / 6,
                         place % patches.columns * 2 + i / 3 % 2, i % 3);
          };
          REQUIRE(batch.targets[at++] == (has_next ? of(frame + 1) - of(frame) : 0.0F));
        }
      }
    }
  }
  CHECK(batch.times == std::vector<double>(4, 0.0));
  CHECK(batch.inputs.size() == batch.targets.size());
}

TEST_CASE("rectified flow: what goes in and what is wanted give back clip and noise") {
  const Sprites source = sprites();
  const auto flow = [&](std::int64_t step) {
    return clip_batch(source, config(), ClipObjective::kRectifiedFlow, samples(), 5, step, nullptr);
  };
  const model::ClipBatch batch = flow(0);
  const model::ClipBatch plain =
      clip_batch(source, config(), ClipObjective::kNextFrame, samples(), 5, 0, nullptr);
  CHECK(batch.counts.empty());
  CHECK(flow(0).inputs == batch.inputs);
  CHECK(flow(1).inputs != batch.inputs);
  // z = (1 - tau) x + tau e and v = x - e: x = z + tau v.
  std::size_t begin = 0;
  double sum = 0;
  double squares = 0;
  for (std::size_t clip = 0; clip < samples().size(); ++clip) {
    const double time = batch.times[clip];
    CHECK(time > 0);
    CHECK(time < 1);
    const shard::ClipGrid grid = batch.clips[clip].grid();
    for (std::int64_t frame = 0; frame < grid.frames; ++frame) {
      for (std::int64_t place = 0; place < grid.places; ++place) {
        for (std::int64_t i = 0; i < 12; ++i) {
          const auto in = begin + static_cast<std::size_t>((frame * grid.places + place) * 12 + i);
          const auto out = begin + static_cast<std::size_t>((place * grid.frames + frame) * 12 + i);
          const auto x = static_cast<double>(plain.inputs[in]);
          const auto velocity = static_cast<double>(batch.targets[out]);
          REQUIRE(static_cast<double>(batch.inputs[in]) + time * velocity ==
                  Approx(x).margin(1e-5));
          const double noise = x - velocity;
          sum += noise;
          squares += noise * noise;
        }
      }
    }
    begin += static_cast<std::size_t>(grid.tokens() * 12);
  }
  const auto count = static_cast<double>(begin);
  CHECK(std::abs(sum / count) < 5 / std::sqrt(count));
  CHECK(squares / count == Approx(1.0).epsilon(0.1));
}

}  // namespace
}  // namespace longspan::train
