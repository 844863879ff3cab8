#pragma once

#include <cstddef>
#include <filesystem>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>

namespace longspan::base {

/// Brackets that may be open at once in a JSON text.
inline constexpr std::size_t kMaxJsonDepth = 64;
/// Bytes of a JSON text unless the caller knows better.
inline constexpr std::size_t kMaxJsonBytes = std::size_t{16} << 20U;

/// Parses JSON text that nobody vouches for. Stricter than the JSON library alone: refuses a key
/// that an object has twice, more than kMaxJsonDepth nested brackets, numbers beyond double, more
/// than `max_bytes`, comments, text that is not UTF-8, and anything behind the value. Throws
/// InputError with `file` (a name for messages), line and column (from 1, in characters).
nlohmann::json parse_json(std::string_view text, const std::string& file,
                          std::size_t max_bytes = kMaxJsonBytes);

/// The same of a whole file. Throws InputError when it cannot be read, too.
nlohmann::json read_json(const std::filesystem::path& file, std::size_t max_bytes = kMaxJsonBytes);

// The JSON library's parser and writer are templates that take seconds to compile: json.cpp does so
// for all others.

/// As the library parses, with none of the above: for files that this program wrote. Throws
/// nlohmann::json::exception.
nlohmann::json parse_plain_json(std::string_view text);
/// The same, but what is not JSON gives a discarded value, which is of no type.
nlohmann::json try_parse_json(std::string_view text);

/// The value's `dump`.
std::string json_text(const nlohmann::json& value, int indent = -1);
std::string json_text(const nlohmann::ordered_json& value, int indent = -1);

}  // namespace longspan::base
