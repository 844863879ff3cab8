#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "longspan/checkpoint/safetensors.h"

namespace longspan::checkpoint {

/// Where a tensor lies: bytes [begin, end) after the header.
struct TensorRange {
  std::uint64_t begin = 0;
  std::uint64_t end = 0;
};

/// The JSON header of a safetensors file, checked.
struct Header {
  std::map<std::string, TensorInfo> tensors;
  std::map<std::string, TensorRange> ranges;  ///< the keys of `tensors`
  std::map<std::string, std::string> metadata;
};

/// Bounds on what a header may ask for, far above real files; they keep the memory that a hostile
/// one can cost near its own size.
constexpr std::uint64_t kMaxHeaderBytes = 100'000'000;
constexpr std::size_t kMaxTensors = 131'072;
constexpr std::size_t kMaxMetadata = 16'384;
constexpr std::size_t kMaxNameBytes = 1'024;
constexpr std::size_t kMaxRank = 32;
constexpr std::size_t kMaxTokenBytes = std::size_t{1} << 20U;
constexpr std::string_view kMetadataName = "__metadata__";

/// A piece of a file for a message: quoted, escaped, cut where it grows long.
std::string show(std::string_view text);

/// Finds a string, number or run of blanks beyond kMaxTokenBytes, which the parser would buffer
/// whole. Returns its offset.
std::optional<std::size_t> find_oversized_token(std::string_view json);

/// Reads the header's text. `data_bytes` is what follows it in the file. Throws InputError, with
/// `path` and the tensor at fault, for anything but a strict header whose tensors tile the data.
Header parse_header(std::string_view json, std::uint64_t data_bytes, const std::string& path);

/// Bytes of the file that write_safetensors makes.
std::uint64_t safetensors_bytes(const std::vector<TensorSource>& tensors,
                                const std::map<std::string, std::string>& metadata);

/// The header of tensors stored in the order given, without its length and padding.
std::string render_header(const std::vector<const TensorInfo*>& tensors,
                          const std::map<std::string, std::string>& metadata);

}  // namespace longspan::checkpoint
