#include <fmt/format.h>
#include <fmt/ranges.h>

#include <string>
#include <string_view>

#include "longspan/base/file.h"
#include "longspan/data/npy_clips.h"

namespace longspan::data {

std::string NpyHeader::bytes() const {
  constexpr std::size_t kBefore = 10;  // magic, version and length
  constexpr std::size_t kMultiple = 64;
  std::string text = fmt::format("{{'descr': '{}', 'fortran_order': {}, 'shape': ({},), }}", descr,
                                 fortran_order ? "True" : "False", fmt::join(shape, ", "));
  while ((kBefore + text.size() + 1) % kMultiple != 0) text += ' ';
  text += '\n';
  std::string bytes("\x93NUMPY\x01", 7);
  bytes += '\0';
  bytes += static_cast<char>(text.size() & 0xffU);
  bytes += static_cast<char>(text.size() >> 8U);
  return bytes + text;
}

void write_npy_clips(const std::filesystem::path& path, const ClipShape& shape,
                     const std::vector<const float*>& clips) {
  NpyHeader header;
  header.descr = "<f4";
  header.shape = {static_cast<std::int64_t>(clips.size()), shape.frames, shape.channels,
                  shape.height, shape.width};
  base::FileWriter writer(path);
  writer.write(header.bytes());
  const std::int64_t points = shape.height * shape.width;
  std::vector<float> image(static_cast<std::size_t>(points));
  for (const float* clip : clips) {
    for (std::int64_t frame = 0; frame < shape.frames; ++frame) {
      for (std::int64_t channel = 0; channel < shape.channels; ++channel) {
        for (std::int64_t point = 0; point < points; ++point) {
          image[static_cast<std::size_t>(point)] =
              clip[(frame * points + point) * shape.channels + channel];
        }
        writer.write(image.data(), image.size() * sizeof(float));
      }
    }
  }
  writer.commit();
}

}  // namespace longspan::data
