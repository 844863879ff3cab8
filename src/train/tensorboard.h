#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "longspan/base/file.h"

namespace longspan::train {

/// CRC-32C (Castagnoli), as TensorBoard's records are guarded with.
std::uint32_t crc32c(std::string_view bytes);

/// One value of one step.
struct Scalar {
  std::string_view tag;
  double value = 0;  ///< stored as float32
};

/// A TensorBoard event file of scalars: records of u64 length, masked CRC of the length, an `Event`
/// protocol buffer, masked CRC of it.
class EventFile {
 public:
  /// Creates a new file in `directory`. With `resumed_step` above 0, readers drop what earlier
  /// files of the directory hold for later steps. Throws InputError.
  EventFile(const std::filesystem::path& directory, std::int64_t resumed_step);

  /// Appends one event and hands it to the system.
  void write(std::int64_t step, std::span<const Scalar> scalars);
  void sync() { writer_->sync(); }
  const std::filesystem::path& path() const { return path_; }

 private:
  void append(std::string_view event);

  std::filesystem::path path_;
  std::unique_ptr<base::FileWriter> writer_;
};

}  // namespace longspan::train
