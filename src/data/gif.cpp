#include "longspan/data/gif.h"

#include <fmt/format.h>
#include <gif_lib.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <map>
#include <memory>
#include <utility>

#include "longspan/base/error.h"

namespace longspan::data {
namespace {

constexpr int kColours = 256;
constexpr std::int64_t kMostSide = 65535;

using Colour = std::array<std::uint8_t, 3>;

/// A frame as the format has it.
struct Indexed {
  std::vector<GifColorType> palette = std::vector<GifColorType>(kColours);
  std::vector<GifByteType> points;
};

/// Exact, where there are colours enough; else false.
bool index_exactly(Indexed& out, const std::vector<std::uint8_t>& frame) {
  std::map<Colour, std::size_t> numbers;
  for (std::size_t at = 0; at < out.points.size(); ++at) {
    const Colour colour{frame[3 * at], frame[3 * at + 1], frame[3 * at + 2]};
    const std::size_t next = numbers.size();
    const std::size_t number = numbers.try_emplace(colour, next).first->second;
    if (number >= kColours) return false;
    out.palette[number] = {colour[0], colour[1], colour[2]};
    out.points[at] = static_cast<GifByteType>(number);
  }
  return true;
}

Indexed indexed(const Animation& animation, std::size_t number) {
  const std::vector<std::uint8_t>& frame = animation.frames[number];
  Indexed out;
  out.points.resize(static_cast<std::size_t>(animation.width * animation.height));
  if (frame.size() != 3 * out.points.size()) {
    throw base::InternalError("a frame is not of its animation's size");
  }
  if (index_exactly(out, frame)) return out;
  std::array<std::vector<GifByteType>, 3> planes;
  for (std::size_t plane = 0; plane < planes.size(); ++plane) {
    for (std::size_t at = plane; at < frame.size(); at += 3) planes[plane].push_back(frame[at]);
  }
  int colours = kColours;
  if (GifQuantizeBuffer(static_cast<unsigned>(animation.width),
                        static_cast<unsigned>(animation.height), &colours, planes[0].data(),
                        planes[1].data(), planes[2].data(), out.points.data(),
                        out.palette.data()) != GIF_OK) {
    throw base::InternalError("giflib found no palette for a frame");
  }
  return out;
}

struct FreeMap {
  void operator()(ColorMapObject* map) const { GifFreeMapObject(map); }
};

/// giflib's writer into a string.
class Writer {
 public:
  explicit Writer(const Animation& animation) : animation_(&animation) {
    int error = 0;
    file_ = EGifOpen(&bytes_, &Writer::append, &error);
    if (file_ == nullptr) refuse(error);
    EGifSetGifVersion(file_, true);
    check(EGifPutScreenDesc(file_, width(), height(), 8, 0, nullptr));
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

  void put(Indexed frame) {
    const GraphicsControlBlock control{
        DISPOSE_DO_NOT, false, static_cast<int>(animation_->centiseconds), NO_TRANSPARENT_COLOR};
    std::array<GifByteType, 4> extension{};
    const std::size_t size = EGifGCBToExtension(&control, extension.data());
    check(
        EGifPutExtension(file_, GRAPHICS_EXT_FUNC_CODE, static_cast<int>(size), extension.data()));
    const std::unique_ptr<ColorMapObject, FreeMap> map(
        GifMakeMapObject(kColours, frame.palette.data()));
    if (!map) throw base::OutOfMemoryError("no memory for a palette");
    check(EGifPutImageDesc(file_, 0, 0, width(), height(), false, map.get()));
    for (int row = 0; row < height(); ++row) {
      check(EGifPutLine(file_, frame.points.data() + static_cast<std::ptrdiff_t>(row) * width(),
                        width()));
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
  Writer writer(animation);
  writer.put_loop();
  for (std::size_t frame = 0; frame < animation.frames.size(); ++frame) {
    writer.put(indexed(animation, frame));
  }
  return writer.close();
}

}  // namespace longspan::data
