#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

namespace longspan::base {

/// The pattern, as an ECMAScript regular expression, of what `parse_size` takes.
inline constexpr std::string_view kSizePattern =
    "^[0-9]+(\\.[0-9]+)? ?(B|KiB|MiB|GiB|TiB|KB|MB|GB|TB)$";

/// Bytes of "512MiB", "1.5 GiB", "2GB" (units of 1024 with an i, of 1000 without); nothing when it
/// is written differently or beyond 2^53 bytes. Parts of a byte are dropped.
std::optional<std::uint64_t> parse_size(std::string_view text);

}  // namespace longspan::base
