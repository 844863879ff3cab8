#include "train/length_source.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <filesystem>
#include <numeric>
#include <string_view>
#include <utility>

#include "longspan/base/error.h"
#include "longspan/base/file.h"
#include "longspan/base/random.h"
#include "longspan/data/token_file.h"

namespace longspan::train {
namespace {

constexpr double kMostTokens = 1099511627776.0;  // 2^40, as in cost files

/// The lines of a text, their ends left out; an empty one at the end does not count.
template <typename Use>
void for_each_line(std::string_view text, const Use& use) {
  for (std::size_t number = 1; !text.empty(); ++number) {
    const std::size_t end = std::min(text.find('\n'), text.size());
    std::string_view line = text.substr(0, end);
    if (line.ends_with('\r')) line.remove_suffix(1);
    use(line, number);
    text.remove_prefix(std::min(end + 1, text.size()));
  }
}

template <typename Number>
bool read_number(std::string_view text, Number& number) {
  const auto result = std::from_chars(text.data(), text.data() + text.size(), number);
  return result.ec == std::errc() && result.ptr == text.data() + text.size();
}

[[noreturn]] void refuse(const std::string& path, std::size_t line, std::string_view found,
                         const std::string& legal) {
  throw base::InputError(
      fmt::format("{}, line {}: \"{}\" is not {}", path, line, found.substr(0, 40), legal));
}

std::vector<std::int64_t> read_list(const std::string& path) {
  const base::MappedFile file(path);
  std::vector<std::int64_t> lengths;
  for_each_line(file.text(), [&](std::string_view line, std::size_t number) {
    std::int64_t tokens = 0;
    if (!read_number(line, tokens) || tokens < 1 || static_cast<double>(tokens) > kMostTokens) {
      refuse(path, number, line,
             "the length of a sequence, a whole number from 1 on; a file of quantiles is named "
             "*.csv, one of tokens *.tokens, *.bin or *.idx");
    }
    lengths.push_back(tokens);
  });
  return lengths;
}

std::vector<std::int64_t> read_documents(const std::string& path) {
  const auto file = data::TokenFile::open(path);
  std::vector<std::int64_t> lengths;
  for (std::int64_t document = 0; document < file->documents(); ++document) {
    const std::int64_t tokens = file->document_begin(document + 1) - file->document_begin(document);
    if (tokens > 0) lengths.push_back(tokens);
  }
  return lengths;
}

}  // namespace

/// Reads a file of quantiles line by line.
class QuantileReader {
 public:
  explicit QuantileReader(const std::string& path) : path_(path) {}

  std::vector<LengthSource::Quantile> read() {
    const base::MappedFile file(path_);
    for_each_line(file.text(),
                  [&](std::string_view line, std::size_t number) { read_line(line, number); });
    if (quantiles_.size() < 2 || quantiles_.back().part != 1) {
      throw base::InputError(path_ +
                             ": the last line of a file of quantiles is for 1, the longest "
                             "sequence, and there are two or more");
    }
    return std::move(quantiles_);
  }

 private:
  void read_line(std::string_view line, std::size_t number) {
    if (number == 1) {
      if (line != "quantile,tokens") refuse(path_, 1, line, "\"quantile,tokens\"");
      return;
    }
    const std::size_t comma = line.find(',');
    double part = 0;
    double tokens = 0;
    if (comma == std::string_view::npos || !read_number(line.substr(0, comma), part) ||
        !read_number(line.substr(comma + 1), tokens) || !(part >= 0 && part <= 1) ||
        !(tokens >= 1 && tokens <= kMostTokens)) {
      refuse(path_, number, line, "a number from 0 to 1 and a length in tokens");
    }
    const bool is_first = quantiles_.empty();
    if (is_first ? part != 0
                 : part <= quantiles_.back().part || tokens < quantiles_.back().tokens) {
      refuse(path_, number, line,
             "further than the line before: quantiles rise from 0 to 1, and their lengths with "
             "them");
    }
    quantiles_.push_back({part, tokens});
  }

  std::string path_;
  std::vector<LengthSource::Quantile> quantiles_;
};

LengthSource LengthSource::open(const std::string& path) {
  const std::string ending = std::filesystem::path(path).extension().string();
  if (ending == ".csv") {
    LengthSource source;
    source.quantiles_ = QuantileReader(path).read();
    return source;
  }
  const bool is_tokens = ending == ".tokens" || ending == ".bin" || ending == ".idx";
  LengthSource source = of(is_tokens ? read_documents(path) : read_list(path));
  if (source.list_.empty()) throw base::InputError(path + " has no sequences");
  return source;
}

LengthSource LengthSource::of(std::vector<std::int64_t> lengths) {
  LengthSource source;
  source.list_ = std::move(lengths);
  return source;
}

std::int64_t LengthSource::length(std::uint64_t seed, std::uint64_t number) {
  if (is_distribution()) return draw(seed, number);
  const auto size = static_cast<std::uint64_t>(list_.size());
  shuffle(seed, number / size);
  return list_[static_cast<std::size_t>(order_[static_cast<std::size_t>(number % size)])];
}

bool LengthSource::has_any(std::int64_t most_tokens) const {
  if (is_distribution()) return quantiles_.front().tokens <= static_cast<double>(most_tokens);
  return std::any_of(list_.begin(), list_.end(),
                     [&](std::int64_t tokens) { return tokens <= most_tokens; });
}

std::int64_t LengthSource::draw(std::uint64_t seed, std::uint64_t number) const {
  const base::RandomStream random(seed, base::Purpose::kDocumentOrder, 0, 1);
  const double part = random.uniform(number);
  const auto above = std::upper_bound(
      quantiles_.begin() + 1, quantiles_.end() - 1, part,
      [](double value, const Quantile& quantile) { return value < quantile.part; });
  const Quantile& low = *(above - 1);
  const double share = (part - low.part) / (above->part - low.part);
  // Lengths spread over orders of magnitude: between quantiles their logarithms are even.
  const double tokens = low.tokens * std::pow(above->tokens / low.tokens, share);
  return std::max<std::int64_t>(1, std::llround(tokens));
}

void LengthSource::shuffle(std::uint64_t seed, std::uint64_t epoch) {
  if (!order_.empty() && shuffled_seed_ == seed && shuffled_epoch_ == epoch) return;
  shuffled_seed_ = seed;
  shuffled_epoch_ = epoch;
  order_.resize(list_.size());
  std::iota(order_.begin(), order_.end(), std::int64_t{0});
  const base::RandomStream random(seed, base::Purpose::kDocumentOrder, epoch, 0);
  for (std::size_t left = order_.size(); left > 1; --left) {
    const auto chosen = static_cast<std::size_t>(random.bits(left) % left);
    std::swap(order_[left - 1], order_[chosen]);
  }
}

}  // namespace longspan::train
