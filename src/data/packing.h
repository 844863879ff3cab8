#pragma once

#include <cstdint>
#include <vector>

#include "longspan/data/sampler.h"

namespace longspan::data {

/// Spans of all rows, one row after another.
struct PackedRows {
  std::vector<Span> spans;
  std::vector<std::int64_t> row_begin = {0};  ///< first span of each row, and the end
};

/// Items of `lengths[i]` <= row_tokens tokens into rows of at most that; returns the row of each
/// item. In the order given, an item goes into that one of the last kOpenRows rows which it fills
/// up best, else into a new row. Takes O(n log kOpenRows).
inline constexpr std::size_t kOpenRows = 256;
std::vector<std::int64_t> best_fit(const std::vector<std::int64_t>& lengths,
                                   std::int64_t row_tokens);

/// The documents cut into spans of at most `row_tokens` and packed, in the order of the documents
/// or in one drawn from `seed`. Documents without tokens leave nothing.
PackedRows pack_documents(const TokenFile& file, const std::vector<std::int64_t>& documents,
                          const SamplerOptions& options);

/// The same spans, in the documents' order, each a row of its own.
PackedRows single_rows(const TokenFile& file, const std::vector<std::int64_t>& documents,
                       std::int64_t row_tokens);

/// 0 .. count - 1 in an order drawn from (seed, epoch, purpose): sorted by a random key each.
enum class Shuffle : std::uint64_t { kSpans = 0, kRows = 1, kClips = 2 };
std::vector<std::int64_t> shuffled(std::int64_t count, std::uint64_t seed, std::uint64_t epoch,
                                   Shuffle what);

}  // namespace longspan::data
