#include "longspan/data/gif.h"

#include <gif_lib.h>

#include <algorithm>
#include <catch2/catch.hpp>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "longspan/base/error.h"

namespace longspan::data {
namespace {

/// What a reader sees.
struct Decoded {
  explicit Decoded(const std::string& bytes) : rest(bytes) {
    int error = 0;
    GifFileType* const file = DGifOpen(&rest, &Decoded::read, &error);
    REQUIRE(file != nullptr);
    REQUIRE(DGifSlurp(file) == GIF_OK);
    width = file->SWidth;
    height = file->SHeight;
    for (int number = 0; number < file->ImageCount; ++number) {
      const SavedImage& image = file->SavedImages[number];
      GraphicsControlBlock control;
      REQUIRE(DGifSavedExtensionToGCB(file, number, &control) == GIF_OK);
      delays.push_back(control.DelayTime);
      for (int i = 0; i < image.ExtensionBlockCount; ++i) {
        const ExtensionBlock& block = image.ExtensionBlocks[i];
        loops =
            loops || (block.ByteCount == 11 && std::memcmp(block.Bytes, "NETSCAPE2.0", 11) == 0);
      }
      auto& frame = frames.emplace_back();
      for (int at = 0; at < width * height; ++at) {
        const GifColorType& colour = file->SColorMap->Colors[image.RasterBits[at]];
        frame.insert(frame.end(), {colour.Red, colour.Green, colour.Blue});
      }
    }
    DGifCloseFile(file, &error);
  }

  static int read(GifFileType* file, GifByteType* out, int count) {
    auto& rest = *static_cast<std::string*>(file->UserData);
    const std::size_t taken = std::min(rest.size(), static_cast<std::size_t>(count));
    std::memcpy(out, rest.data(), taken);
    rest.erase(0, taken);
    return static_cast<int>(taken);
  }

  std::string rest;
  int width = 0;
  int height = 0;
  bool loops = false;
  std::vector<int> delays;
  std::vector<std::vector<std::uint8_t>> frames;
};

/// `colours` of them.
Animation animation(std::int64_t side, std::int64_t colours) {
  Animation animation{.width = side, .height = side + 1, .frames = {}, .centiseconds = 7};
  for (int number = 0; number < 3; ++number) {
    auto& frame = animation.frames.emplace_back();
    for (std::int64_t at = 0; at < side * (side + 1); ++at) {
      const std::int64_t colour = (at + number) % colours;
      frame.insert(frame.end(), {static_cast<std::uint8_t>(colour % 256),
                                 static_cast<std::uint8_t>(colour / 16 % 256),
                                 static_cast<std::uint8_t>(255 - colour % 256)});
    }
  }
  return animation;
}

TEST_CASE("gif: up to 256 colours come back as they were, and the picture begins again") {
  for (const std::int64_t colours : {1, 2, 255, 256}) {
    const Animation original = animation(20, colours);
    const Decoded found(gif_bytes(original));
    CHECK(found.width == 20);
    CHECK(found.height == 21);
    CHECK(found.loops);
    CHECK(found.delays == std::vector<int>(3, 7));
    CHECK(found.frames == original.frames);
  }
}

TEST_CASE("gif: more colours come near") {
  const Animation original = animation(64, 4000);
  const Decoded found(gif_bytes(original));
  REQUIRE(found.frames.size() == 3);
  for (std::size_t frame = 0; frame < 3; ++frame) {
    double sum = 0;
    for (std::size_t i = 0; i < original.frames[frame].size(); ++i) {
      sum += std::abs(original.frames[frame][i] - found.frames[frame][i]);
    }
    CHECK(sum / static_cast<double>(original.frames[frame].size()) < 16);
  }
}

TEST_CASE("gif: what is none is refused") {
  CHECK_THROWS_AS(gif_bytes({}), base::InputError);
  CHECK_THROWS_AS(gif_bytes({.width = 2, .height = 2}), base::InputError);
  CHECK_THROWS_AS(gif_bytes({.width = 70000, .height = 1}), base::InputError);
  CHECK_THROWS_AS(gif_bytes({.width = 2, .height = 2, .frames = {{1, 2, 3}}}), base::InternalError);
}

}  // namespace
}  // namespace longspan::data
