#pragma once

#include <filesystem>
#include <memory>
#include <vector>

#include "longspan/base/dtype.h"
#include "longspan/data/clip_source.h"

namespace longspan::data {

/// Clips in NumPy's files of arrays (.npy, versions 1 to 3), such as latents of videos or fields of
/// the weather: [frames, channels, height, width], or [clips, frames, channels, height, width]; in
/// C order, little-endian float16, float32 or float64, or bytes, of which 0 to 255 become -1 to 1.
/// All clips, file after file, are of one class. Each may be of a size of its own.
class NpyClips : public ClipSource {
 public:
  /// Throws InputError that names file, reason and what is legal.
  explicit NpyClips(const std::vector<std::filesystem::path>& paths);
  ~NpyClips() override;

  std::int64_t count() const override;
  ClipShape shape(std::int64_t clip) const override;
  std::int64_t classes() const override { return 1; }
  std::int64_t label(std::int64_t /*clip*/) const override { return 0; }
  /// Throws InputError when the file was cut since.
  void read(std::int64_t clip, const ClipBox& box, float* out) const override;
  std::string fingerprint() const override;

 private:
  class File;
  const File& file_of(std::int64_t& clip) const;

  std::vector<std::unique_ptr<File>> files_;
};

/// Writes clips of one shape as such a file of float32, [clips, frames, channels, height, width];
/// each of `clips` is [frames, height, width, channels]. Throws InputError.
void write_npy_clips(const std::filesystem::path& path, const ClipShape& shape,
                     const std::vector<const float*>& clips);

/// The header of a .npy file.
struct NpyHeader {
  std::string descr;  ///< "<f4"
  bool fortran_order = false;
  std::vector<std::int64_t> shape;
  std::uint64_t data_begin = 0;  ///< byte of the first element

  /// `bytes`: the file's beginning, all of it or at least kMostBytes. Throws InputError, naming
  /// `file`, for what is no such header, or one of more than that.
  static NpyHeader parse(const std::string& bytes, const std::string& file);
  static constexpr std::size_t kMostBytes = 65536;
  /// As `parse` reads it: version 1, padded so that elements begin at a multiple of 64.
  std::string bytes() const;
};

}  // namespace longspan::data
