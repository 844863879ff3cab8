#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "longspan/base/dtype.h"

namespace longspan::checkpoint {

/// A tensor in a file: name, dtype, extents (any rank).
struct TensorInfo {
  std::string name;
  base::DType dtype = base::DType::kFloat32;
  std::vector<std::int64_t> shape;

  std::uint64_t bytes() const;
};

/// At most so many bytes of a tensor are asked for at once.
inline constexpr std::uint64_t kMostBytesRead = std::uint64_t{1} << 20U;

/// A tensor to be written: `read(first_byte, count, out)` copies a range of its dense bytes, so
/// that nothing is ever held twice in memory.
struct TensorSource {
  TensorInfo info;
  std::function<void(std::uint64_t first_byte, std::uint64_t count, void* out)> read;
};

/// Writes a safetensors file (sorted by descending alignment, then name; header padded to 8
/// bytes), calls fsync, and returns the xxh3-128 (hex) and size of what was written. Throws Error
/// with the system's reason when the disk refuses.
struct FileDigest {
  std::uint64_t bytes = 0;
  std::string xxh3;
};
FileDigest write_safetensors(const std::filesystem::path& path,
                             const std::vector<TensorSource>& tensors,
                             const std::map<std::string, std::string>& metadata);

/// A safetensors file, of which only the header is read at first. It is checked as strictly as the
/// format allows (size limits, duplicate names, overlap, holes, overflow, unknown dtypes); a fault
/// throws InputError naming file and tensor. Thread-safe.
class SafetensorsFile {
 public:
  explicit SafetensorsFile(const std::filesystem::path& path);
  ~SafetensorsFile();

  const std::filesystem::path& path() const;
  std::uint64_t bytes() const;  ///< of the whole file
  const std::map<std::string, TensorInfo>& tensors() const;
  const std::map<std::string, std::string>& metadata() const;
  /// Copies bytes [first, first + count) of a tensor's data, which must be in it. Throws InputError
  /// when the tensor is absent or the file cannot be read.
  void read(const std::string& name, std::uint64_t first, std::uint64_t count, void* out) const;

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace longspan::checkpoint
