#include "longspan/data/gif.h"

#include <fmt/format.h>
#include <gif_lib.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <limits>
#include <map>
#include <memory>
#include <utility>

#include "longspan/base/error.h"

namespace longspan::data {
namespace {

constexpr std::size_t kColours = 256;
constexpr std::size_t kLevels =
    5;  ///< of red, green and blue, in the part of a palette for all else
constexpr std::int64_t kMostSide = 65535;

using Colour = std::array<std::uint8_t, 3>;

Colour colour_at(const std::vector<std::uint8_t>& frame, std::size_t point) {
  return {frame[3 * point], frame[3 * point + 1], frame[3 * point + 2]};
}

/// One for all frames, so that nothing flickers: all colours where they are few; else those that
/// most points have, and a grid of the colours there can be, of which each other one takes the
/// nearest.
class Palette {
 public:
  explicit Palette(const Animation& animation) {
    std::map<Colour, std::int64_t> counts;
    for (const auto& frame : animation.frames) {
      for (std::size_t at = 0; at < frame.size() / 3; ++at) ++counts[colour_at(frame, at)];
    }
    std::vector<std::pair<std::int64_t, Colour>> popular;
    for (const auto& [colour, count] : counts) popular.emplace_back(-count, colour);
    std::sort(popular.begin(), popular.end());
    const bool is_exact = popular.size() <= kColours;
    const std::size_t taken = is_exact ? popular.size() : kColours - kLevels * kLevels * kLevels;
    for (std::size_t i = 0; i < taken; ++i) colours_.push_back(popular[i].second);
    if (!is_exact) add_grid();
    for (const auto& [colour, count] : counts) numbers_[colour] = nearest(colour);
  }

  GifByteType number_of(const Colour& colour) const { return numbers_.at(colour); }
  /// As the format has it, filled up with black.
  std::vector<GifColorType> colours() const {
    std::vector<GifColorType> all(kColours);
    for (std::size_t i = 0; i < colours_.size(); ++i) {
      all[i] = {colours_[i][0], colours_[i][1], colours_[i][2]};
    }
    return all;
  }

 private:
  void add_grid() {
    const auto level = [](std::size_t i) {
      return static_cast<std::uint8_t>(i * 255 / (kLevels - 1));
    };
    for (std::size_t i = 0; i < kLevels * kLevels * kLevels; ++i) {
      colours_.push_back(
          {level(i % kLevels), level(i / kLevels % kLevels), level(i / kLevels / kLevels)});
    }
  }

  GifByteType nearest(const Colour& colour) const {
    std::size_t best = 0;
    int least = std::numeric_limits<int>::max();
    for (std::size_t i = 0; i < colours_.size(); ++i) {
      int distance = 0;
      for (std::size_t part = 0; part < 3; ++part) {
        const int apart = int{colour[part]} - int{colours_[i][part]};
        distance += apart * apart;
      }
      if (distance < least) best = i;
      least = std::min(least, distance);
    }
    return static_cast<GifByteType>(best);
  }

  std::vector<Colour> colours_;
  std::map<Colour, GifByteType> numbers_;
};

struct FreeMap {
  void operator()(ColorMapObject* map) const { GifFreeMapObject(map); }
};

/// giflib's writer into a string.
class Writer {
 public:
  explicit Writer(const Animation& animation) : animation_(&animation), palette_(animation) {
    int error = 0;
    file_ = EGifOpen(&bytes_, &Writer::append, &error);
    if (file_ == nullptr) refuse(error);
    EGifSetGifVersion(file_, true);
    const std::unique_ptr<ColorMapObject, FreeMap> map(
        GifMakeMapObject(static_cast<int>(kColours), palette_.colours().data()));
    if (!map) throw base::OutOfMemoryError("no memory for a palette");
    check(EGifPutScreenDesc(file_, width(), height(), 8, 0, map.get()));
  }
  ~Writer() {
    int ignored = 0;
    if (file_ != nullptr) EGifCloseFile(file_, &ignored);
  }
  Writer(const Writer&) = delete;
  Writer& operator=(const Writer&) = delete;

  /// Without it a picture moves once.
  void put_loop() {
    constexpr unsigned char kForEver[] = {1, 0, 0};
    check(EGifPutExtensionLeader(file_, APPLICATION_EXT_FUNC_CODE));
    check(EGifPutExtensionBlock(file_, 11, "NETSCAPE2.0"));
    check(EGifPutExtensionBlock(file_, sizeof(kForEver), kForEver));
    check(EGifPutExtensionTrailer(file_));
  }

  void put(const std::vector<std::uint8_t>& frame) {
    const GraphicsControlBlock control{
        DISPOSE_DO_NOT, false, static_cast<int>(animation_->centiseconds), NO_TRANSPARENT_COLOR};
    std::array<GifByteType, 4> extension{};
    const std::size_t size = EGifGCBToExtension(&control, extension.data());
    check(
        EGifPutExtension(file_, GRAPHICS_EXT_FUNC_CODE, static_cast<int>(size), extension.data()));
    check(EGifPutImageDesc(file_, 0, 0, width(), height(), false, nullptr));
    std::vector<GifByteType> row(static_cast<std::size_t>(width()));
    for (std::size_t y = 0; y < static_cast<std::size_t>(height()); ++y) {
      for (std::size_t x = 0; x < row.size(); ++x) {
        row[x] = palette_.number_of(colour_at(frame, y * row.size() + x));
      }
      check(EGifPutLine(file_, row.data(), width()));
    }
  }

  std::string close() {
    GifFileType* const file = std::exchange(file_, nullptr);
    int error = 0;
    if (EGifCloseFile(file, &error) != GIF_OK) refuse(error);
    return std::move(bytes_);
  }

 private:
  static int append(GifFileType* file, const GifByteType* bytes, int count) {
    static_cast<std::string*>(file->UserData)
        ->append(reinterpret_cast<const char*>(bytes), static_cast<std::size_t>(count));
    return count;
  }
  [[noreturn]] static void refuse(int error) {
    const char* const text = GifErrorString(error);
    throw base::InternalError(
        fmt::format("giflib: {}", text == nullptr ? fmt::format("error {}", error) : text));
  }
  void check(int result) const {
    if (result != GIF_OK) refuse(file_->Error);
  }
  int width() const { return static_cast<int>(animation_->width); }
  int height() const { return static_cast<int>(animation_->height); }

  const Animation* animation_;
  Palette palette_;
  std::string bytes_;
  GifFileType* file_ = nullptr;
};

}  // namespace

std::string gif_bytes(const Animation& animation) {
  const std::int64_t side = std::max(animation.width, animation.height);
  if (std::min(animation.width, animation.height) < 1 || side > kMostSide) {
    throw base::InputError(fmt::format("a GIF of {} x {} points; legal: sides from 1 to {}",
                                       animation.width, animation.height, kMostSide));
  }
  if (animation.frames.empty()) throw base::InputError("a GIF without frames; legal: at least one");
  for (const auto& frame : animation.frames) {
    if (static_cast<std::int64_t>(frame.size()) == 3 * animation.width * animation.height) continue;
    throw base::InternalError("a frame is not of its animation's size");
  }
  Writer writer(animation);
  writer.put_loop();
  for (const auto& frame : animation.frames) writer.put(frame);
  return writer.close();
}

}  // namespace longspan::data
