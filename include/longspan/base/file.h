#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>

namespace longspan::base {

/// A read-only memory mapping of a whole file; unmapped on destruction. An empty file gives a null
/// `data` and size 0. Throws InputError, with the system's reason, when it cannot be opened.
class MappedFile {
 public:
  explicit MappedFile(const std::filesystem::path& path);
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  const std::byte* data() const { return data_; }
  std::size_t size() const { return size_; }
  std::string_view text() const { return {reinterpret_cast<const char*>(data_), size_}; }
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
  const std::byte* data_ = nullptr;
  std::size_t size_ = 0;
};

/// A regular file that is read here and there, without a mapping: what is not read takes no
/// addresses, and a file that is cut while it is read is an error, not a signal. Thread-safe.
class InputFile {
 public:
  /// Throws InputError, with the system's reason, when it cannot be opened.
  explicit InputFile(std::filesystem::path path);
  ~InputFile();
  InputFile(const InputFile&) = delete;
  InputFile& operator=(const InputFile&) = delete;

  std::uint64_t size() const { return size_; }
  const std::filesystem::path& path() const { return path_; }
  /// Copies bytes [offset, offset + count). Throws InputError when they are not there.
  void read(std::uint64_t offset, std::uint64_t count, void* out) const;

 private:
  std::filesystem::path path_;
  int descriptor_ = -1;
  std::uint64_t size_ = 0;
};

/// A file being written through a buffer of its own. `commit` flushes, fsyncs and closes; a writer
/// destroyed without it closes and leaves what was written. Every failure (disk full, no
/// permission) throws InputError with path and reason.
class FileWriter {
 public:
  /// Creates or truncates; with `append`, continues an existing file.
  explicit FileWriter(const std::filesystem::path& path, bool append = false);
  ~FileWriter();
  FileWriter(const FileWriter&) = delete;
  FileWriter& operator=(const FileWriter&) = delete;

  void write(const void* bytes, std::size_t count);
  void write(std::string_view text) { write(text.data(), text.size()); }
  /// Hands everything to the system (visible to readers), without waiting for the disk.
  void flush();
  /// flush, then waits for the disk.
  void sync();
  void commit();
  std::uint64_t written() const { return written_; }

 private:
  void raise(const char* operation) const;

  std::filesystem::path path_;
  int descriptor_ = -1;
  std::string buffer_;
  std::uint64_t written_ = 0;
};

/// The whole file as a string. Throws InputError.
std::string read_text(const std::filesystem::path& path);
/// Replaces `path` by `text` so that a reader, or a crash, sees the old or the new contents:
/// temporary file beside it, fsync, rename, fsync of the directory.
void replace_file(const std::filesystem::path& path, std::string_view text);
/// Makes renames and creations in a directory durable.
void sync_directory(const std::filesystem::path& directory);
/// create_directories with an InputError instead of a filesystem_error.
void make_directories(const std::filesystem::path& directory);

/// xxh3-128 as 32 hex digits.
std::string xxh3_hex(const void* bytes, std::size_t count);

/// The same, of a stream of pieces.
class Xxh3Stream {
 public:
  Xxh3Stream();
  ~Xxh3Stream();
  Xxh3Stream(const Xxh3Stream&) = delete;
  Xxh3Stream& operator=(const Xxh3Stream&) = delete;

  void update(const void* bytes, std::size_t count);
  std::string hex() const;

 private:
  void* state_;
};

/// "1.5 GiB", "312 B": three significant digits, binary units.
std::string format_bytes(std::uint64_t bytes);

}  // namespace longspan::base
