#include "longspan/base/file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <system_error>

#include "longspan/base/error.h"

namespace longspan::base {
namespace {

constexpr std::size_t kBufferBytes = std::size_t{1} << 20U;

std::string reason() { return std::strerror(errno); }

std::string hex_of(XXH128_hash_t hash) {
  return fmt::format("{:016x}{:016x}", hash.high64, hash.low64);
}

/// Does not wait for the writer of what turns out to be a pipe.
int open_regular(const std::filesystem::path& path, std::uint64_t& size) {
  const int descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (descriptor < 0) {
    throw InputError(fmt::format("cannot open {}: {}", path.string(), reason()));
  }
  struct stat status {};
  if (::fstat(descriptor, &status) != 0 || !S_ISREG(status.st_mode)) {
    ::close(descriptor);
    throw InputError(fmt::format("cannot read {}: not a regular file", path.string()));
  }
  size = static_cast<std::uint64_t>(status.st_size);
  return descriptor;
}

}  // namespace

MappedFile::MappedFile(const std::filesystem::path& path) : path_(path) {
  const int descriptor = open_regular(path, size_);
  if (size_ > 0) {
    void* mapping = ::mmap(nullptr, size_, PROT_READ, MAP_PRIVATE, descriptor, 0);
    if (mapping == MAP_FAILED) {
      const std::string why = reason();
      ::close(descriptor);
      throw InputError(fmt::format("cannot map {}: {}", path.string(), why));
    }
    data_ = static_cast<const std::byte*>(mapping);
  }
  ::close(descriptor);
}

MappedFile::~MappedFile() {
  if (data_ != nullptr) ::munmap(const_cast<std::byte*>(data_), size_);
}

InputFile::InputFile(std::filesystem::path path) : path_(std::move(path)) {
  descriptor_ = open_regular(path_, size_);
}

InputFile::~InputFile() { ::close(descriptor_); }

void InputFile::read(std::uint64_t offset, std::uint64_t count, void* out) const {
  auto* at = static_cast<std::byte*>(out);
  while (count > 0) {
    const ssize_t got = ::pread(descriptor_, at, count, static_cast<off_t>(offset));
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) {
      throw InputError(fmt::format("cannot read {} at byte {}: {}", path_.string(), offset,
                                   got < 0 ? reason() : "the file ends there"));
    }
    at += got;
    offset += static_cast<std::uint64_t>(got);
    count -= static_cast<std::uint64_t>(got);
  }
}

FileWriter::FileWriter(const std::filesystem::path& path, bool append) : path_(path) {
  const int flags = O_WRONLY | O_CREAT | O_CLOEXEC | (append ? O_APPEND : O_TRUNC);
  descriptor_ = ::open(path.c_str(), flags, 0644);
  if (descriptor_ < 0) raise("create");
  buffer_.reserve(kBufferBytes);
}

FileWriter::~FileWriter() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

void FileWriter::raise(const char* operation) const {
  throw InputError(fmt::format("cannot {} {}: {}", operation, path_.string(), reason()));
}

void FileWriter::write(const void* bytes, std::size_t count) {
  buffer_.append(static_cast<const char*>(bytes), count);
  written_ += count;
  if (buffer_.size() >= kBufferBytes) flush();
}

void FileWriter::flush() {
  std::size_t done = 0;
  while (done < buffer_.size()) {
    const ssize_t count = ::write(descriptor_, buffer_.data() + done, buffer_.size() - done);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) raise("write");
    done += static_cast<std::size_t>(count);
  }
  buffer_.clear();
}

void FileWriter::sync() {
  flush();
  if (::fsync(descriptor_) != 0) raise("sync");
}

void FileWriter::commit() {
  sync();
  const int descriptor = descriptor_;
  descriptor_ = -1;
  if (::close(descriptor) != 0) raise("close");
}

std::string read_text(const std::filesystem::path& path) {
  return std::string(MappedFile(path).text());
}

void replace_file(const std::filesystem::path& path, std::string_view text) {
  std::filesystem::path temporary = path;
  temporary += ".tmp";
  FileWriter writer(temporary);
  writer.write(text);
  writer.commit();
  if (::rename(temporary.c_str(), path.c_str()) != 0) {
    throw InputError(fmt::format("cannot replace {}: {}", path.string(), reason()));
  }
  sync_directory(path.has_parent_path() ? path.parent_path() : ".");
}

void sync_directory(const std::filesystem::path& directory) {
  const int descriptor = ::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (descriptor < 0) {
    throw InputError(fmt::format("cannot open directory {}: {}", directory.string(), reason()));
  }
  const int result = ::fsync(descriptor);
  const std::string why = reason();
  ::close(descriptor);
  if (result != 0) {
    throw InputError(fmt::format("cannot sync directory {}: {}", directory.string(), why));
  }
}

void make_directories(const std::filesystem::path& directory) {
  std::error_code error;
  std::filesystem::create_directories(directory, error);
  if (error) {
    throw InputError(
        fmt::format("cannot create directory {}: {}", directory.string(), error.message()));
  }
}

std::string xxh3_hex(const void* bytes, std::size_t count) {
  return hex_of(XXH3_128bits(bytes, count));
}

Xxh3Stream::Xxh3Stream() : state_(XXH3_createState()) {
  XXH3_128bits_reset(static_cast<XXH3_state_t*>(state_));
}

Xxh3Stream::~Xxh3Stream() { XXH3_freeState(static_cast<XXH3_state_t*>(state_)); }

void Xxh3Stream::update(const void* bytes, std::size_t count) {
  XXH3_128bits_update(static_cast<XXH3_state_t*>(state_), bytes, count);
}

std::string Xxh3Stream::hex() const {
  return hex_of(XXH3_128bits_digest(static_cast<const XXH3_state_t*>(state_)));
}

std::string format_bytes(std::uint64_t bytes) {
  static constexpr std::array<const char*, 6> kUnits = {"B", "KiB", "MiB", "GiB", "TiB", "PiB"};
  double value = static_cast<double>(bytes);
  std::size_t unit = 0;
  while (value >= 1000.0 && unit + 1 < kUnits.size()) {
    value /= 1024.0;
    ++unit;
  }
  if (unit == 0) return fmt::format("{} B", bytes);
  const int decimals = value < 9.995 ? 2 : (value < 99.95 ? 1 : 0);
  return fmt::format("{:.{}f} {}", value, decimals, kUnits[unit]);
}

}  // namespace longspan::base
