#include "longspan/data/sprites.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "longspan/base/error.h"
#include "longspan/base/random.h"

namespace longspan::data {
namespace {

constexpr std::int64_t kMostChannels = 16;
constexpr std::int64_t kLeastExtent = 4;

/// What is drawn of a clip itself, and from kFirstSprite on of its sprites.
enum Draw : std::uint64_t { kShape, kLabel, kSprites, kFirstSprite };
/// And of a sprite, with kColour + channel.
enum SpriteDraw : std::uint64_t { kSize, kRow, kColumn, kRowSpeed, kColumnSpeed, kColour };
constexpr std::uint64_t kSpriteDraws = kColour + kMostChannels;

base::RandomStream stream_of(std::uint64_t seed, std::int64_t clip) {
  const auto number = static_cast<std::uint64_t>(clip);
  return {seed, base::Purpose::kSprites, number & 0xffffffffU, number >> 32U};
}

std::int64_t choice(double uniform, std::int64_t count) {
  return std::min(count - 1, static_cast<std::int64_t>(uniform * static_cast<double>(count)));
}

/// Where something is that moves without end between two walls.
double bounced(double place, double low, double high) {
  const double span = high - low;
  const double period = 2.0 * span;
  double along = std::fmod(place - low, period);
  if (along < 0) along += period;
  return low + (along <= span ? along : period - along);
}

double speed_of(double uniform, double most) {
  const double size = most / 3.0 + std::abs(2.0 * uniform - 1.0) * most * 2.0 / 3.0;
  return uniform < 0.5 ? -size : size;
}

}  // namespace

struct Sprites::Sprite {
  double radius;
  double row, column;  ///< of its centre in frame 0
  double row_speed, column_speed;
  double colour[kMostChannels];

  /// How much of a point it covers, its centre being so far away.
  double coverage(Form form, double rows, double columns) const {
    double outside = 0;
    switch (form) {
      case Form::kDisc:
        outside = std::hypot(rows, columns) - radius;
        break;
      case Form::kSquare:
        outside = std::max(std::abs(rows), std::abs(columns)) - radius;
        break;
      case Form::kDiamond:
        outside = (std::abs(rows) + std::abs(columns) - 1.4 * radius) / std::sqrt(2.0);
        break;
    }
    return std::clamp(0.5 - outside, 0.0, 1.0);
  }
};

Sprites::Sprites(Options options) : options_(std::move(options)) {
  const auto refuse = [](const std::string& what) { throw base::InputError("sprites: " + what); };
  if (options_.clips < 1) refuse(fmt::format("{} clips; expected 1 or more", options_.clips));
  if (options_.shapes.empty()) refuse("no size of clips");
  for (const ClipShape& shape : options_.shapes) {
    const bool is_legal = shape.frames >= 1 && shape.channels >= 1 &&
                          shape.channels <= kMostChannels &&
                          std::min(shape.height, shape.width) >= kLeastExtent;
    if (is_legal) continue;
    refuse(
        fmt::format("{} frames of {} x {} with {} channels; legal: 1 frame or more, of {} x {} "
                    "or more, 1 to {} channels",
                    shape.frames, shape.height, shape.width, shape.channels, kLeastExtent,
                    kLeastExtent, kMostChannels));
  }
  if (options_.most_sprites < 1) refuse("no sprite; expected 1 or more");
  if (!(options_.speed > 0) || !std::isfinite(options_.speed)) {
    refuse(fmt::format("a speed of {}; expected one above 0", options_.speed));
  }
}

ClipShape Sprites::shape(std::int64_t clip) const {
  const double draw = stream_of(options_.seed, clip).uniform(kShape);
  return options_.shapes[static_cast<std::size_t>(
      choice(draw, static_cast<std::int64_t>(options_.shapes.size())))];
}

std::int64_t Sprites::label(std::int64_t clip) const {
  return choice(stream_of(options_.seed, clip).uniform(kLabel), kForms);
}

std::vector<Sprites::Sprite> Sprites::sprites_of(std::int64_t clip, const ClipShape& shape) const {
  const base::RandomStream stream = stream_of(options_.seed, clip);
  const auto count =
      static_cast<std::size_t>(1 + choice(stream.uniform(Draw::kSprites), options_.most_sprites));
  const double least = static_cast<double>(std::min(shape.height, shape.width));
  std::vector<Sprite> sprites(count);
  for (std::size_t i = 0; i < count; ++i) {
    const auto draw = [&](std::uint64_t what) {
      return stream.uniform(kFirstSprite + i * kSpriteDraws + what);
    };
    const auto between = [](double low, double high, double part) {
      return low + (high - low) * part;
    };
    Sprite& sprite = sprites[i];
    sprite.radius = between(0.1, 0.2, draw(kSize)) * least;
    sprite.row =
        between(sprite.radius, static_cast<double>(shape.height) - sprite.radius, draw(kRow));
    sprite.column =
        between(sprite.radius, static_cast<double>(shape.width) - sprite.radius, draw(kColumn));
    sprite.row_speed = speed_of(draw(kRowSpeed), options_.speed);
    sprite.column_speed = speed_of(draw(kColumnSpeed), options_.speed);
    for (std::int64_t channel = 0; channel < shape.channels; ++channel) {
      sprite.colour[channel] = draw(kColour + static_cast<std::uint64_t>(channel)) * 1.5 - 0.5;
    }
  }
  return sprites;
}

void Sprites::read(std::int64_t clip, const ClipBox& box, float* out) const {
  const ClipShape whole = shape(clip);
  const auto form = static_cast<Form>(label(clip));
  const std::vector<Sprite> sprites = sprites_of(clip, whole);
  std::fill_n(out, box.frames * box.rows * box.columns * whole.channels, -1.0F);
  for (std::int64_t t = 0; t < box.frames; ++t) {
    const auto time = static_cast<double>(box.first_frame + t);
    for (const Sprite& sprite : sprites) {
      const double radius = sprite.radius;
      const double row = bounced(sprite.row + time * sprite.row_speed, radius,
                                 static_cast<double>(whole.height) - radius);
      const double column = bounced(sprite.column + time * sprite.column_speed, radius,
                                    static_cast<double>(whole.width) - radius);
      float* point = out + t * box.rows * box.columns * whole.channels;
      for (std::int64_t y = 0; y < box.rows; ++y) {
        for (std::int64_t x = 0; x < box.columns; ++x, point += whole.channels) {
          // Points are at the middle of their squares.
          const double part =
              sprite.coverage(form, static_cast<double>(box.first_row + y) + 0.5 - row,
                              static_cast<double>(box.first_column + x) + 0.5 - column);
          if (part == 0.0) continue;
          for (std::int64_t channel = 0; channel < whole.channels; ++channel) {
            point[channel] = static_cast<float>((1.0 - part) * static_cast<double>(point[channel]) +
                                                part * sprite.colour[channel]);
          }
        }
      }
    }
  }
}

std::string Sprites::fingerprint() const {
  std::string text = fmt::format("sprites 1, seed {}, {} clips, up to {} at {}", options_.seed,
                                 options_.clips, options_.most_sprites, options_.speed);
  for (const ClipShape& shape : options_.shapes) {
    text += fmt::format(", {}x{}x{}x{}", shape.frames, shape.channels, shape.height, shape.width);
  }
  return text;
}

}  // namespace longspan::data
