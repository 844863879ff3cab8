#pragma once

#include <vector>

#include "longspan/data/clip_source.h"

namespace longspan::data {

/// Clips of coloured sprites that move straight ahead and bounce off the walls, made on the spot: a
/// clip is a function of the seed and its number, and every element of it one of its own place
/// alone. Numbers lie in [-1, 1]; the ground is -1. Sprites are soft at their edges, so that they
/// move by parts of a pixel; one with a higher number lies above. Its class is their form.
class Sprites : public ClipSource {
 public:
  enum class Form { kDisc, kSquare, kDiamond };
  static constexpr std::int64_t kForms = 3;

  struct Options {
    std::uint64_t seed = 1;
    std::int64_t clips = 0;
    std::vector<ClipShape> shapes;  ///< of which each clip has one, by chance
    std::int64_t most_sprites = 3;  ///< a clip has from 1 to so many
    double speed = 1.5;             ///< points a frame at most along either axis; at least a third
  };
  /// Throws InputError for sizes of which no clip can be made.
  explicit Sprites(Options options);

  std::int64_t count() const override { return options_.clips; }
  ClipShape shape(std::int64_t clip) const override;
  std::int64_t classes() const override { return kForms; }
  std::int64_t label(std::int64_t clip) const override;
  void read(std::int64_t clip, const ClipBox& box, float* out) const override;
  std::string fingerprint() const override;

 private:
  struct Sprite;
  std::vector<Sprite> sprites_of(std::int64_t clip, const ClipShape& shape) const;

  Options options_;
};

}  // namespace longspan::data
