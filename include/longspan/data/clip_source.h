#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace longspan::data {

/// Extents of a clip: frames over time (or any axis that has a direction), each an image (or a grid
/// of a map) of `channels` numbers at height x width points.
struct ClipShape {
  std::int64_t frames = 0;
  std::int64_t channels = 0;
  std::int64_t height = 0;
  std::int64_t width = 0;

  std::int64_t elements() const { return frames * channels * height * width; }
  bool operator==(const ClipShape&) const = default;
};

/// A box of a clip: half-open ranges of frames, rows and columns; all channels.
struct ClipBox {
  std::int64_t first_frame = 0, frames = 0;
  std::int64_t first_row = 0, rows = 0;
  std::int64_t first_column = 0, columns = 0;
};

/// Clips, of which any part can be had by itself, on any rank. Thread-safe.
class ClipSource {
 public:
  virtual ~ClipSource() = default;
  ClipSource() = default;
  ClipSource(const ClipSource&) = delete;
  ClipSource& operator=(const ClipSource&) = delete;

  virtual std::int64_t count() const = 0;
  virtual ClipShape shape(std::int64_t clip) const = 0;
  /// Which class it is of, in [0, classes()); 0 where there is one alone.
  virtual std::int64_t classes() const = 0;
  virtual std::int64_t label(std::int64_t clip) const = 0;
  /// out [frames, rows, columns, channels] of the box, which must lie within the clip.
  virtual void read(std::int64_t clip, const ClipBox& box, float* out) const = 0;
  /// What its clips depend on, for checkpoints: the same text, the same clips.
  virtual std::string fingerprint() const = 0;
};

}  // namespace longspan::data
