#include "longspan/checkpoint/safetensors.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <set>
#include <system_error>

#include "checkpoint/safetensors_header.h"
#include "longspan/base/error.h"
#include "longspan/base/file.h"

namespace longspan::checkpoint {
namespace {

static_assert(std::endian::native == std::endian::little, "safetensors is little-endian");

constexpr std::size_t kPrefixBytes = 8;

void check_names(const std::vector<TensorSource>& tensors) {
  std::set<std::string_view> names;
  for (const TensorSource& tensor : tensors) {
    const std::string& name = tensor.info.name;
    if (name.empty() || name.size() > kMaxNameBytes || name == kMetadataName ||
        !names.insert(name).second) {
      throw base::InternalError(fmt::format(
          "safetensors: tensor name '{}' is empty, too long, reserved or used twice", name));
    }
  }
}

/// Descending alignment, so that every tensor is aligned in the file; then by name.
std::vector<const TensorSource*> in_file_order(const std::vector<TensorSource>& tensors) {
  std::vector<const TensorSource*> order;
  order.reserve(tensors.size());
  for (const TensorSource& tensor : tensors) order.push_back(&tensor);
  std::sort(order.begin(), order.end(), [](const TensorSource* a, const TensorSource* b) {
    const std::size_t left = base::size_of(a->info.dtype);
    const std::size_t right = base::size_of(b->info.dtype);
    return left != right ? left > right : a->info.name < b->info.name;
  });
  return order;
}

/// Length and header, padded so that the data starts at a multiple of 8 bytes.
std::string render_prefix(const std::vector<const TensorSource*>& order,
                          const std::map<std::string, std::string>& metadata) {
  std::vector<const TensorInfo*> infos;
  infos.reserve(order.size());
  for (const TensorSource* tensor : order) infos.push_back(&tensor->info);
  std::string header = render_header(infos, metadata);
  header.resize((header.size() + 7) / 8 * 8, ' ');
  const std::uint64_t length = header.size();
  std::string prefix(kPrefixBytes, '\0');
  std::memcpy(prefix.data(), &length, kPrefixBytes);
  return prefix + header;
}

FileDigest write_stream(const std::filesystem::path& path,
                        const std::vector<const TensorSource*>& order, const std::string& prefix) {
  base::FileWriter writer(path);
  base::Xxh3Stream hash;
  const auto put = [&](const void* bytes, std::size_t count) {
    writer.write(bytes, count);
    hash.update(bytes, count);
  };
  put(prefix.data(), prefix.size());
  std::vector<std::byte> chunk;
  for (const TensorSource* tensor : order) {
    const std::uint64_t bytes = tensor->info.bytes();
    if (chunk.size() < bytes) chunk.resize(std::min(kMostBytesRead, bytes));
    for (std::uint64_t first = 0; first < bytes; first += kMostBytesRead) {
      const std::uint64_t count = std::min(kMostBytesRead, bytes - first);
      tensor->read(first, count, chunk.data());
      put(chunk.data(), count);
    }
  }
  writer.commit();
  return {writer.written(), hash.hex()};
}

}  // namespace

std::uint64_t TensorInfo::bytes() const {
  std::uint64_t total = base::size_of(dtype);
  for (const std::int64_t extent : shape) {
    if (extent < 0 || __builtin_mul_overflow(total, static_cast<std::uint64_t>(extent), &total)) {
      throw base::InternalError(fmt::format("tensor '{}': shape [{}] is negative or overflows",
                                            name, fmt::join(shape, ", ")));
    }
  }
  return total;
}

std::uint64_t safetensors_bytes(const std::vector<TensorSource>& tensors,
                                const std::map<std::string, std::string>& metadata) {
  std::uint64_t total = render_prefix(in_file_order(tensors), metadata).size();
  for (const TensorSource& tensor : tensors) total += tensor.info.bytes();
  return total;
}

FileDigest write_safetensors(const std::filesystem::path& path,
                             const std::vector<TensorSource>& tensors,
                             const std::map<std::string, std::string>& metadata) {
  check_names(tensors);
  const std::vector<const TensorSource*> order = in_file_order(tensors);
  try {
    return write_stream(path, order, render_prefix(order, metadata));
  } catch (...) {
    std::error_code ignored;
    std::filesystem::remove(path, ignored);
    throw;
  }
}

class SafetensorsFile::Impl {
 public:
  explicit Impl(const std::filesystem::path& path) : file_(path) {
    const std::string name = path.string();
    if (file_.size() < kPrefixBytes) {
      throw base::InputError(
          fmt::format("{} is not a valid safetensors file: it has {} bytes, at least {} are needed",
                      name, file_.size(), kPrefixBytes));
    }
    std::uint64_t length = 0;
    file_.read(0, kPrefixBytes, &length);
    if (length > kMaxHeaderBytes || length > file_.size() - kPrefixBytes) {
      throw base::InputError(
          fmt::format("{} is not a valid safetensors file: its header claims {} bytes, the file "
                      "has {} (at most "
                      "{} are read)",
                      name, length, file_.size(), kMaxHeaderBytes));
    }
    data_ = kPrefixBytes + length;
    std::string json(length, '\0');
    file_.read(kPrefixBytes, length, json.data());
    header_ = parse_header(json, file_.size() - data_, name);
  }

  const Header& header() const { return header_; }
  const base::InputFile& file() const { return file_; }
  std::uint64_t data() const { return data_; }

 private:
  base::InputFile file_;
  Header header_;
  std::uint64_t data_ = 0;  ///< where it begins in the file
};

SafetensorsFile::SafetensorsFile(const std::filesystem::path& path)
    : impl_(std::make_unique<Impl>(path)) {}

SafetensorsFile::~SafetensorsFile() = default;

const std::map<std::string, TensorInfo>& SafetensorsFile::tensors() const {
  return impl_->header().tensors;
}

const std::map<std::string, std::string>& SafetensorsFile::metadata() const {
  return impl_->header().metadata;
}

const std::filesystem::path& SafetensorsFile::path() const { return impl_->file().path(); }

std::uint64_t SafetensorsFile::bytes() const { return impl_->file().size(); }

void SafetensorsFile::read(const std::string& name, std::uint64_t first, std::uint64_t count,
                           void* out) const {
  const auto found = impl_->header().ranges.find(name);
  if (found == impl_->header().ranges.end()) {
    throw base::InputError(fmt::format("{} holds no tensor '{}'", path().string(), name));
  }
  const TensorRange& range = found->second;
  if (first > range.end - range.begin || count > range.end - range.begin - first) {
    throw base::InternalError(fmt::format("safetensors: bytes {} to {} are beyond tensor '{}'",
                                          first, first + count, name));
  }
  impl_->file().read(impl_->data() + range.begin + first, count, out);
}

}  // namespace longspan::checkpoint
