#include "data/training_text.h"

#include <algorithm>
#include <cmath>

namespace longspan::data {
namespace {

constexpr std::size_t kStretchBytes = 4096;

/// Up to the first newline, else space, after kStretchBytes, at most twice that. Runs of newlines
/// stay whole, so that they can become pieces.
std::size_t stretch_end(std::string_view text, std::size_t begin) {
  if (text.size() - begin <= kStretchBytes) return text.size();
  const std::size_t from = begin + kStretchBytes;
  const std::size_t limit = std::min(text.size(), from + kStretchBytes);
  const std::string_view window = text.substr(from, limit - from);
  std::size_t newline = window.find('\n');
  while (newline + 1 < window.size() && window[newline + 1] == '\n') ++newline;
  if (newline != window.npos) return from + newline + 1;
  const std::size_t space = window.find(' ');
  return space == window.npos ? limit : from + space;
}

}  // namespace

TrainingText::TrainingText(const std::vector<std::string>& inputs, const TextOptions& options,
                           std::uint64_t max_bytes)
    : source_(inputs, options),
      fraction_(std::min(
          1.0, static_cast<double>(max_bytes) /
                   static_cast<double>(std::max<std::uint64_t>(source_.total_bytes(), 1)))) {}

/// Whether the next stretch is among the evenly spaced `fraction_` of all.
bool TrainingText::is_chosen() {
  const double before = std::floor(static_cast<double>(count_) * fraction_);
  ++count_;
  return std::floor(static_cast<double>(count_) * fraction_) > before;
}

bool TrainingText::next(std::string_view& stretch) {
  for (;;) {
    while (position_ == document_.text().size()) {
      position_ = 0;
      if (!source_.next(document_)) return false;
    }
    const std::size_t begin = position_;
    position_ = stretch_end(document_.text(), begin);
    if (!is_chosen()) continue;
    stretch = document_.text().substr(begin, position_ - begin);
    return true;
  }
}

}  // namespace longspan::data
