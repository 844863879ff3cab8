#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace longspan::data {

/// A picture that moves: frames of width x height points, each of three bytes, red, green, blue.
struct Animation {
  std::int64_t width = 0;
  std::int64_t height = 0;
  std::vector<std::vector<std::uint8_t>> frames = {};  ///< each [height, width, 3]
  std::int64_t centiseconds = 10;                      ///< that a frame is shown
};

/// As a GIF that begins again for ever. All frames share a palette of 256 colours: all there are if
/// they are no more, else those that most points have, and others to come near the rest. Throws
/// InputError for sides beyond 65535, or no frame.
std::string gif_bytes(const Animation& animation);

}  // namespace longspan::data
