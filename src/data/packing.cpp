#include "data/packing.h"

#include <algorithm>
#include <array>
#include <map>
#include <numeric>
#include <utility>

#include "longspan/base/random.h"

namespace longspan::data {
namespace {

std::vector<Span> cut_documents(const TokenFile& file, const std::vector<std::int64_t>& documents,
                                std::int64_t row_tokens) {
  std::vector<Span> spans;
  spans.reserve(documents.size());
  for (const std::int64_t document : documents) {
    const std::int64_t end = file.document_begin(document + 1);
    for (std::int64_t begin = file.document_begin(document); begin < end; begin += row_tokens) {
      spans.push_back({document, begin, std::min(begin + row_tokens, end)});
    }
  }
  return spans;
}

}  // namespace

std::vector<std::int64_t> shuffled(std::int64_t count, std::uint64_t seed, std::uint64_t epoch,
                                   Shuffle what) {
  const base::RandomStream random(seed, base::Purpose::kDocumentOrder, epoch,
                                  static_cast<std::uint64_t>(what));
  std::vector<std::pair<std::uint64_t, std::int64_t>> keys(static_cast<std::size_t>(count));
  for (std::int64_t index = 0; index < count; ++index) {
    keys[static_cast<std::size_t>(index)] = {random.bits(static_cast<std::uint64_t>(index)), index};
  }
  std::sort(keys.begin(), keys.end());
  std::vector<std::int64_t> order(keys.size());
  std::transform(keys.begin(), keys.end(), order.begin(),
                 [](const auto& key) { return key.second; });
  return order;
}

std::vector<std::int64_t> best_fit(const std::vector<std::int64_t>& lengths,
                                   std::int64_t row_tokens) {
  using Open = std::multimap<std::int64_t, std::int64_t>;  // room left -> row
  Open open;
  std::array<Open::iterator, kOpenRows> recent;  // of row r at r % kOpenRows; end: it is full
  recent.fill(open.end());
  std::vector<std::int64_t> row_of(lengths.size());
  std::int64_t rows = 0;
  for (std::size_t item = 0; item < lengths.size(); ++item) {
    const auto fit = open.lower_bound(lengths[item]);
    const bool fits = fit != open.end();
    const std::int64_t row = fits ? fit->second : rows++;
    const std::int64_t room = (fits ? fit->first : row_tokens) - lengths[item];
    Open::iterator& slot = recent[static_cast<std::size_t>(row) % kOpenRows];
    if (slot != open.end()) open.erase(slot);
    slot = room > 0 ? open.emplace(room, row) : open.end();
    row_of[item] = row;
  }
  return row_of;
}

PackedRows single_rows(const TokenFile& file, const std::vector<std::int64_t>& documents,
                       std::int64_t row_tokens) {
  PackedRows rows;
  rows.spans = cut_documents(file, documents, row_tokens);
  rows.row_begin.resize(rows.spans.size() + 1);
  std::iota(rows.row_begin.begin(), rows.row_begin.end(), 0);
  return rows;
}

PackedRows pack_documents(const TokenFile& file, const std::vector<std::int64_t>& documents,
                          const SamplerOptions& options) {
  std::vector<Span> spans = cut_documents(file, documents, options.row_tokens);
  if (options.shuffle) {
    std::vector<Span> mixed;
    mixed.reserve(spans.size());
    const auto count = static_cast<std::int64_t>(spans.size());
    for (const std::int64_t index : shuffled(count, options.seed, 0, Shuffle::kSpans)) {
      mixed.push_back(spans[static_cast<std::size_t>(index)]);
    }
    spans = std::move(mixed);
  }
  std::vector<std::int64_t> lengths(spans.size());
  std::transform(spans.begin(), spans.end(), lengths.begin(),
                 [](const Span& span) { return span.end - span.begin; });
  const std::vector<std::int64_t> row_of = best_fit(lengths, options.row_tokens);
  // Counting sort by row; within a row the order of the items stays.
  PackedRows packed;
  const std::int64_t rows =
      row_of.empty() ? 0 : *std::max_element(row_of.begin(), row_of.end()) + 1;
  packed.row_begin.assign(static_cast<std::size_t>(rows) + 1, 0);
  for (const std::int64_t row : row_of) ++packed.row_begin[static_cast<std::size_t>(row) + 1];
  std::partial_sum(packed.row_begin.begin(), packed.row_begin.end(), packed.row_begin.begin());
  std::vector<std::int64_t> next = packed.row_begin;
  packed.spans.resize(spans.size());
  for (std::size_t item = 0; item < spans.size(); ++item) {
    const auto slot = next[static_cast<std::size_t>(row_of[item])]++;
    packed.spans[static_cast<std::size_t>(slot)] = spans[item];
  }
  return packed;
}

}  // namespace longspan::data
