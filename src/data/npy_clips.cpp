#include "longspan/data/npy_clips.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <limits>
#include <optional>
#include <utility>

#include "longspan/base/error.h"
#include "longspan/base/file.h"
#include "longspan/base/float16.h"

namespace longspan::data {
namespace {

using base::InputError;

/// How elements are stored.
enum class Stored : std::uint8_t { kHalf, kFloat, kDouble, kByte };

struct Kind {
  const char* descr;
  Stored stored;
  std::uint64_t size;
};
constexpr Kind kKinds[] = {{"<f2", Stored::kHalf, 2},
                           {"<f4", Stored::kFloat, 4},
                           {"<f8", Stored::kDouble, 8},
                           {"|u1", Stored::kByte, 1}};

template <typename T>
T load(const std::byte* from) {
  T value;
  std::memcpy(&value, from, sizeof(T));
  return value;
}

float value_of(Stored stored, const std::byte* from) {
  switch (stored) {
    case Stored::kHalf: {
      base::Float16 half;
      half.bits = load<std::uint16_t>(from);
      return static_cast<float>(half);
    }
    case Stored::kFloat:
      return load<float>(from);
    case Stored::kDouble:
      return static_cast<float>(load<double>(from));
    case Stored::kByte:
      break;
  }
  return static_cast<float>(load<std::uint8_t>(from)) / 127.5F - 1.0F;
}

const Kind& kind_of(const NpyHeader& header, const std::string& file) {
  for (const Kind& kind : kKinds) {
    if (header.descr == kind.descr) return kind;
  }
  throw InputError(fmt::format(
      "{} has elements \"{}\"; legal: \"<f2\", \"<f4\", \"<f8\" (little-endian floats), \"|u1\" "
      "(bytes)",
      file, header.descr));
}

/// Bytes of all elements; nothing if they cannot be counted.
std::optional<std::uint64_t> bytes_of(const std::vector<std::int64_t>& shape, std::uint64_t size) {
  std::uint64_t bytes = size;
  for (const std::int64_t extent : shape) {
    if (__builtin_mul_overflow(bytes, static_cast<std::uint64_t>(extent), &bytes)) return {};
  }
  return bytes;
}

}  // namespace

class NpyClips::File {
 public:
  explicit File(const std::filesystem::path& path) : file_(path) {
    const std::string name = path.string();
    std::string begin(std::min<std::uint64_t>(file_.size(), NpyHeader::kMostBytes), '\0');
    file_.read(0, begin.size(), begin.data());
    const NpyHeader header = NpyHeader::parse(begin, name);
    kind_ = kind_of(header, name);
    begin_ = header.data_begin;
    const std::vector<std::int64_t>& shape = header.shape;
    const bool has_clips = shape.size() == 5;
    const bool is_empty = std::find(shape.begin(), shape.end(), 0) != shape.end();
    if (header.fortran_order || (shape.size() != 4 && !has_clips) || is_empty) {
      throw InputError(fmt::format(
          "{} is an array [{}]{}; legal: [frames, channels, height, width] or [clips, frames, "
          "channels, height, width], none of them 0, in C order",
          name, fmt::join(shape, ", "), header.fortran_order ? " in Fortran order" : ""));
    }
    const auto bytes = bytes_of(shape, kind_.size);
    if (!bytes || *bytes > file_.size() - begin_) {
      throw InputError(fmt::format("{} is shorter than its array [{}] of {}", name,
                                   fmt::join(shape, ", "), header.descr));
    }
    const std::size_t first = has_clips ? 1 : 0;
    clips_ = has_clips ? shape[0] : 1;
    shape_ = {shape[first], shape[first + 1], shape[first + 2], shape[first + 3]};
  }

  std::int64_t clips() const { return clips_; }
  const ClipShape& shape() const { return shape_; }
  std::string fingerprint() const {
    return fmt::format("{} {} {}x{}x{}x{}x{}", file_.path().filename().string(), kind_.descr,
                       clips_, shape_.frames, shape_.channels, shape_.height, shape_.width);
  }

  /// Row by row of what is asked for, which lies together within a channel of a frame.
  void read(std::int64_t clip, const ClipBox& box, float* out) const {
    const auto size = static_cast<std::int64_t>(kind_.size);
    std::vector<std::byte> rows(static_cast<std::size_t>(box.rows * shape_.width * size));
    for (std::int64_t t = 0; t < box.frames; ++t) {
      for (std::int64_t channel = 0; channel < shape_.channels; ++channel) {
        const std::int64_t image =
            (clip * shape_.frames + box.first_frame + t) * shape_.channels + channel;
        const std::int64_t first = (image * shape_.height + box.first_row) * shape_.width;
        file_.read(begin_ + static_cast<std::uint64_t>(first * size), rows.size(), rows.data());
        for (std::int64_t y = 0; y < box.rows; ++y) {
          const std::byte* from = rows.data() + (y * shape_.width + box.first_column) * size;
          float* to = out + ((t * box.rows + y) * box.columns) * shape_.channels + channel;
          for (std::int64_t x = 0; x < box.columns; ++x) {
            to[x * shape_.channels] = value_of(kind_.stored, from + x * size);
          }
        }
      }
    }
  }

 private:
  base::InputFile file_;
  Kind kind_{};
  std::uint64_t begin_ = 0;
  std::int64_t clips_ = 0;
  ClipShape shape_;
};

NpyClips::NpyClips(const std::vector<std::filesystem::path>& paths) {
  for (const std::filesystem::path& path : paths) files_.push_back(std::make_unique<File>(path));
  if (files_.empty()) throw InputError("no .npy file of clips is named");
}

NpyClips::~NpyClips() = default;

std::int64_t NpyClips::count() const {
  std::int64_t count = 0;
  for (const auto& file : files_) count += file->clips();
  return count;
}

/// `clip` becomes the number in the file.
const NpyClips::File& NpyClips::file_of(std::int64_t& clip) const {
  for (const auto& file : files_) {
    if (clip < file->clips()) return *file;
    clip -= file->clips();
  }
  throw base::InternalError("a clip is asked for that no file has");
}

ClipShape NpyClips::shape(std::int64_t clip) const { return file_of(clip).shape(); }

void NpyClips::read(std::int64_t clip, const ClipBox& box, float* out) const {
  const File& file = file_of(clip);
  file.read(clip, box, out);
}

std::string NpyClips::fingerprint() const {
  std::string text = "npy";
  for (const auto& file : files_) text += " " + file->fingerprint();
  return text;
}

}  // namespace longspan::data
