#pragma once

#include <cstdint>

namespace longspan::data {

/// Tokens [begin, end) of a list or a file.
struct TokenRange {
  std::int64_t begin = 0;
  std::int64_t end = 0;

  bool operator==(const TokenRange&) const = default;
};

}  // namespace longspan::data
