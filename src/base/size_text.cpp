#include "longspan/base/size_text.h"

#include <array>
#include <charconv>
#include <utility>

namespace longspan::base {
namespace {

constexpr double kLargest = 9007199254740992.0;  // 2^53: every whole number below is a double

constexpr std::array<std::pair<std::string_view, double>, 9> kUnits = {{
    {"B", 1.0},
    {"KiB", 1024.0},
    {"MiB", 1048576.0},
    {"GiB", 1073741824.0},
    {"TiB", 1099511627776.0},
    {"KB", 1e3},
    {"MB", 1e6},
    {"GB", 1e9},
    {"TB", 1e12},
}};

}  // namespace

std::optional<std::uint64_t> parse_size(std::string_view text) {
  const std::size_t digits = text.find_first_not_of("0123456789.");
  if (digits == 0 || digits == std::string_view::npos) return std::nullopt;
  if (text.front() == '.' || text[digits - 1] == '.') return std::nullopt;
  double number = 0;
  const char* const end = text.data() + digits;
  const auto [rest, error] = std::from_chars(text.data(), end, number, std::chars_format::fixed);
  if (error != std::errc() || rest != end) return std::nullopt;
  std::string_view unit = text.substr(digits);
  if (unit.starts_with(' ')) unit.remove_prefix(1);
  for (const auto& [name, bytes] : kUnits) {
    if (unit != name) continue;
    const double size = number * bytes;
    if (size > kLargest) return std::nullopt;
    return static_cast<std::uint64_t>(size);
  }
  return std::nullopt;
}

}  // namespace longspan::base
