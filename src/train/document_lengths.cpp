#include "train/document_lengths.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cmath>

#include "longspan/base/file.h"
#include "longspan/data/token_file.h"

namespace longspan::train {
namespace {

/// Calls `take` with the tokens of each document.
template <typename Take>
void for_each_length(const data::TokenFile& file, const Take& take) {
  std::int64_t begin = 0;
  for (std::int64_t document = 0; document < file.documents(); ++document) {
    const std::int64_t end = file.document_begin(document + 1);
    take(end - begin);
    begin = end;
  }
}

/// Lengths in order: the many short ones as how often each is there, the few long ones each.
class SortedLengths {
 public:
  explicit SortedLengths(const data::TokenFile& file) {
    for_each_length(file, [this](std::int64_t length) {
      if (length < kCounted) {
        ++counts_[static_cast<std::size_t>(length)];
      } else {
        long_.push_back(length);
      }
    });
    std::sort(long_.begin(), long_.end());
  }

  /// Calls `take` with each length and how many documents have it, from the shortest on.
  template <typename Take>
  void for_each(const Take& take) const {
    for (std::size_t length = 0; length < counts_.size(); ++length) {
      if (counts_[length] > 0) take(static_cast<std::int64_t>(length), counts_[length]);
    }
    for (const std::int64_t length : long_) take(length, std::int64_t{1});
  }

 private:
  static constexpr std::int64_t kCounted = std::int64_t{1} << 20U;
  std::vector<std::int64_t> counts_ = std::vector<std::int64_t>(kCounted);
  std::vector<std::int64_t> long_;
};

constexpr std::int64_t kFirstAbove = 8192;

/// The lower end of the bin of a length.
std::int64_t bin_of(std::int64_t length) {
  return length == 0
             ? 0
             : static_cast<std::int64_t>(std::bit_floor(static_cast<std::uint64_t>(length)));
}

void add_to_bins(std::vector<LengthBin>& bins, std::int64_t length, std::int64_t count) {
  const std::int64_t from = bin_of(length);
  if (bins.empty()) bins.push_back({from, std::max<std::int64_t>(1, 2 * from)});
  // Behind the documents without tokens the first bin is where it is needed.
  if (bins.size() == 1 && bins.back().from == 0 && from > 0) bins.push_back({from, 2 * from});
  while (bins.back().from < from) bins.push_back({bins.back().end, 2 * bins.back().end});
  bins.back().documents += count;
  bins.back().tokens += length * count;
}

void add_to_above(std::vector<LengthBin>& above, std::int64_t length, std::int64_t count) {
  while (length > 4 * above.back().from) above.push_back({4 * above.back().from});
  for (LengthBin& one : above) {
    if (length <= one.from) continue;
    one.documents += count;
    one.tokens += length * count;
  }
}

}  // namespace

DocumentLengths DocumentLengths::of(const data::TokenFile& file) {
  DocumentLengths lengths;
  lengths.documents = file.documents();
  lengths.tokens = file.tokens();
  lengths.above.push_back({kFirstAbove});
  std::int64_t seen = 0;
  std::size_t next = 0;
  SortedLengths(file).for_each([&](std::int64_t length, std::int64_t count) {
    add_to_bins(lengths.bins, length, count);
    add_to_above(lengths.above, length, count);
    seen += count;
    while (next < kPercents.size()) {
      const double share = kPercents[next] / 100 * static_cast<double>(lengths.documents);
      // What rounding adds to a whole number is no further document.
      constexpr double kRounding = 1e-6;
      if (static_cast<double>(seen) < share - kRounding) break;
      lengths.percentiles[next++] = length;
    }
  });
  return lengths;
}

std::string percentile_name(double percent) {
  return percent == 100 ? "max" : fmt::format("p{:g}", percent);
}

std::string power_text(std::int64_t tokens) {
  constexpr std::array kUnits = {"", "K", "M", "G", "T"};
  std::size_t unit = 0;
  while (tokens >= 1024 && tokens % 1024 == 0 && unit + 1 < kUnits.size()) {
    tokens /= 1024;
    ++unit;
  }
  return fmt::format("{}{}", tokens, kUnits[unit]);
}

void write_lengths(const data::TokenFile& file, const std::string& path) {
  base::FileWriter writer(path);
  for_each_length(file, [&](std::int64_t length) {
    const fmt::format_int digits(length);
    writer.write(digits.data(), digits.size());
    writer.write("\n", 1);
  });
  writer.commit();
}

}  // namespace longspan::train
