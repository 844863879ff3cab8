#include "longspan/data/sprites.h"

#include <catch2/catch.hpp>
#include <cmath>
#include <set>

#include "longspan/base/error.h"

namespace longspan::data {
namespace {

Sprites::Options options() {
  return {.seed = 7, .clips = 200, .shapes = {{12, 3, 24, 20}, {5, 1, 16, 32}}, .most_sprites = 3};
}

std::vector<float> whole(const Sprites& sprites, std::int64_t clip) {
  const ClipShape shape = sprites.shape(clip);
  std::vector<float> out(static_cast<std::size_t>(shape.elements()));
  sprites.read(clip, {0, shape.frames, 0, shape.height, 0, shape.width}, out.data());
  return out;
}

TEST_CASE("sprites: a box of a clip is that part of the whole") {
  const Sprites sprites(options());
  for (std::int64_t clip = 0; clip < 20; ++clip) {
    const ClipShape shape = sprites.shape(clip);
    const std::vector<float> all = whole(sprites, clip);
    const ClipBox box{1, 3, 2, 9, 5, 7};
    std::vector<float> part(
        static_cast<std::size_t>(box.frames * box.rows * box.columns * shape.channels));
    sprites.read(clip, box, part.data());
    std::size_t at = 0;
    for (std::int64_t t = 1; t < 4; ++t) {
      for (std::int64_t y = 2; y < 11; ++y) {
        for (std::int64_t x = 5; x < 12; ++x) {
          for (std::int64_t c = 0; c < shape.channels; ++c) {
            const std::int64_t place =
                ((t * shape.height + y) * shape.width + x) * shape.channels + c;
            REQUIRE(part[at++] == all[static_cast<std::size_t>(place)]);
          }
        }
      }
    }
  }
}

TEST_CASE("sprites: seeds, clips, sizes and classes differ; the same are the same") {
  const Sprites sprites(options());
  CHECK(whole(sprites, 3) == whole(Sprites(options()), 3));
  Sprites::Options other = options();
  other.seed = 8;
  CHECK(Sprites(other).fingerprint() != sprites.fingerprint());
  std::set<std::int64_t> labels;
  std::set<std::int64_t> frames;
  std::set<std::vector<float>> clips;
  for (std::int64_t clip = 0; clip < 60; ++clip) {
    labels.insert(sprites.label(clip));
    frames.insert(sprites.shape(clip).frames);
    clips.insert(whole(sprites, clip));
  }
  CHECK(labels == std::set<std::int64_t>{0, 1, 2});
  CHECK(frames == std::set<std::int64_t>{5, 12});
  CHECK(clips.size() == 60);
}

TEST_CASE("sprites: numbers lie in [-1, 1], something is there, and it moves") {
  const Sprites sprites(options());
  for (std::int64_t clip = 0; clip < 60; ++clip) {
    const ClipShape shape = sprites.shape(clip);
    const std::vector<float> all = whole(sprites, clip);
    const auto frame = static_cast<std::size_t>(shape.elements() / shape.frames);
    double moved = 0;
    double there = 0;
    for (std::size_t i = 0; i < all.size(); ++i) {
      REQUIRE(std::abs(all[i]) <= 1.0F);
      there += all[i] > -1.0F ? 1 : 0;
      if (i >= frame) moved += std::abs(all[i] - all[i - frame]);
    }
    CHECK(there > 0);
    CHECK(moved > 0);
  }
}

TEST_CASE("sprites: what cannot be made is refused") {
  const auto refuses = [](void (*change)(Sprites::Options&)) {
    Sprites::Options wrong = options();
    change(wrong);
    CHECK_THROWS_AS(Sprites(wrong), base::InputError);
  };
  refuses([](Sprites::Options& one) { one.clips = 0; });
  refuses([](Sprites::Options& one) { one.shapes.clear(); });
  refuses([](Sprites::Options& one) { one.shapes[0].height = 3; });
  refuses([](Sprites::Options& one) { one.shapes[0].channels = 17; });
  refuses([](Sprites::Options& one) { one.shapes[1].frames = 0; });
  refuses([](Sprites::Options& one) { one.most_sprites = 0; });
  refuses([](Sprites::Options& one) { one.speed = 0; });
}

}  // namespace
}  // namespace longspan::data
