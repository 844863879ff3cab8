#pragma once

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <memory>

#include "longspan/data/token_file.h"
#include "longspan/data/token_file_writer.h"

// The layouts are in docs/formats.md.
namespace longspan::data {

static_assert(std::endian::native == std::endian::little, "token files are little-endian");

inline constexpr std::array<char, 8> kTokensMagic = {'L', 'S', 'T', 'O', 'K', 'E', 'N', 'S'};
inline constexpr std::uint32_t kTokensVersion = 1;
inline constexpr std::uint32_t kMaskedTokensVersion = 2;  ///< with ranges of the loss
inline constexpr std::uint64_t kTokensAlignment = 64;

/// The first 128 bytes of a `.tokens` file.
struct TokensHeader {
  std::array<char, 8> magic = kTokensMagic;
  std::uint32_t version = kTokensVersion;
  std::uint32_t token_bytes = 0;  ///< of one token: 2 or 4
  std::uint64_t vocab_size = 0;
  std::uint64_t tokens = 0;
  std::uint64_t documents = 0;
  std::array<char, 32> tokenizer_hash{};  ///< hex digits; all NUL: none
  std::uint64_t index_begin = 0;          ///< bytes from the start of the file
  std::array<char, 32> index_hash{};      ///< xxh3-128, hex, of the bytes above and the index
  std::array<char, 16> reserved{};        ///< NUL
};
static_assert(sizeof(TokensHeader) == 128);
inline constexpr std::size_t kTokensHashedBytes = offsetof(TokensHeader, index_hash);

inline constexpr std::array<char, 9> kMegatronMagic = {'M', 'M', 'I', 'D', 'I', 'D', 'X', 0, 0};
inline constexpr std::uint64_t kMegatronVersion = 1;
inline constexpr std::uint8_t kMegatronInt32 = 4;
inline constexpr std::uint8_t kMegatronUInt16 = 8;
inline constexpr std::uint64_t kMegatronHeaderBytes = 34;

/// llm.c's header: 256 numbers of 4 bytes, of which the first three say something.
inline constexpr std::uint64_t kLlmcHeaderBytes = 1024;
inline constexpr std::int32_t kLlmcMagic16 = 20240520;
inline constexpr std::int32_t kLlmcVersion16 = 1;
inline constexpr std::int32_t kLlmcMagic32 = 20240801;
inline constexpr std::int32_t kLlmcVersion32 = 7;
inline constexpr std::int32_t kLlmcEvaluationMagic = 20240522;

/// The value at a place of a mapped file that may not be aligned.
template <typename Value>
Value load(const std::byte* from, std::uint64_t index = 0) {
  Value value;
  std::memcpy(&value, from + index * sizeof(Value), sizeof(Value));
  return value;
}

/// Converts `count` stored tokens; values that no TokenId can be become -1, which no range has.
template <typename Stored>
void load_tokens(const std::byte* from, std::int64_t count, TokenId* out) {
  for (std::int64_t index = 0; index < count; ++index) {
    const auto value = load<Stored>(from, static_cast<std::uint64_t>(index));
    if constexpr (sizeof(Stored) > 4) {
      out[index] = static_cast<TokenId>(value) == value ? static_cast<TokenId>(value) : -1;
    } else {
      out[index] = static_cast<TokenId>(value);
    }
  }
}

bool is_megatron_name(const std::filesystem::path& path);
/// `path` with its .bin or .idx replaced, or added to when it has neither.
std::filesystem::path megatron_name(const std::filesystem::path& path, const char* extension);

std::unique_ptr<TokenFile> open_tokens_file(const std::filesystem::path& path);
std::unique_ptr<TokenFile> open_megatron_file(const std::filesystem::path& path);
std::unique_ptr<TokenFile> open_flat_file(const std::filesystem::path& path,
                                          const FlatTokens& flat);

}  // namespace longspan::data
