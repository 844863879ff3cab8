#include <fmt/format.h>

#include <algorithm>

#include "train/document_lengths.h"

namespace longspan::train {
namespace {

constexpr int kLabelColumns = 16;
constexpr int kShareColumns = 8;  // " 12.34% "
constexpr int kFewestBarColumns = 4;

double share_of(std::int64_t part, std::int64_t whole) {
  return whole == 0 ? 0 : static_cast<double>(part) / static_cast<double>(whole);
}

/// A bar of so many eighths of a column, at least one where there is anything.
std::string bar(double share, double largest, int columns) {
  constexpr std::array kEighths = {"", "▏", "▎", "▍", "▌", "▋", "▊", "▉"};
  if (share <= 0) return {};
  const int eighths = std::max(1, static_cast<int>(share / largest * 8 * columns));
  std::string text;
  for (int i = 0; i < eighths / 8; ++i) text += "█";
  return text + kEighths[static_cast<std::size_t>(eighths % 8)];
}

/// Characters, each of which takes a column.
int width_of(const std::string& text) {
  return static_cast<int>(std::count_if(text.begin(), text.end(), [](char byte) {
    return (static_cast<unsigned char>(byte) & 0xC0U) != 0x80U;
  }));
}

std::string padded(std::string text, int columns) {
  text.append(static_cast<std::size_t>(std::max(0, columns - width_of(text))), ' ');
  return text;
}

std::string bin_name(const LengthBin& bin) {
  if (bin.end - bin.from == 1) return power_text(bin.from);
  return fmt::format("{} to {}", power_text(bin.from), power_text(bin.end));
}

std::string without_trailing_spaces(std::string line) {
  while (!line.empty() && line.back() == ' ') line.pop_back();
  return line + "\n";
}

std::string chart(const DocumentLengths& lengths, int columns) {
  const int bars =
      std::max(kFewestBarColumns, (columns - kLabelColumns - 2 * kShareColumns - 1) / 2);
  double most_documents = 0;
  double most_tokens = 0;
  for (const LengthBin& bin : lengths.bins) {
    most_documents = std::max(most_documents, share_of(bin.documents, lengths.documents));
    most_tokens = std::max(most_tokens, share_of(bin.tokens, lengths.tokens));
  }
  std::string text = fmt::format("{:<{}}{:<{}}{}\n", "tokens", kLabelColumns, "documents",
                                 kShareColumns + bars + 1, "their tokens");
  for (const LengthBin& bin : lengths.bins) {
    const double documents = share_of(bin.documents, lengths.documents);
    const double tokens = share_of(bin.tokens, lengths.tokens);
    text += without_trailing_spaces(fmt::format("{:<{}}{:>6.2f}% {} {:>6.2f}% {}", bin_name(bin),
                                                kLabelColumns, 100 * documents,
                                                padded(bar(documents, most_documents, bars), bars),
                                                100 * tokens, bar(tokens, most_tokens, bars)));
  }
  return text + "(K is 1024; a range's end is not in it)\n";
}

}  // namespace

std::string lengths_text(const DocumentLengths& lengths, int columns) {
  if (lengths.documents == 0) return {};
  std::string text = fmt::format("\nTokens of a document: mean {:.1f}\n", lengths.mean());
  std::string names;
  std::string values;
  for (std::size_t i = 0; i < DocumentLengths::kPercents.size(); ++i) {
    const std::string value = std::to_string(lengths.percentiles[i]);
    const std::string name = percentile_name(DocumentLengths::kPercents[i]);
    const auto width = std::max(value.size(), name.size()) + 2;
    names += fmt::format("{:>{}}", name, width);
    values += fmt::format("{:>{}}", value, width);
  }
  text += names + "\n" + values + "\n\n";
  for (const LengthBin& above : lengths.above) {
    text += fmt::format(
        "Above {:>5}: {} document(s), {:.3g}% of them, with {:.3g}% of the tokens\n",
        power_text(above.from), above.documents, 100 * share_of(above.documents, lengths.documents),
        100 * share_of(above.tokens, lengths.tokens));
  }
  return text + "\n" + chart(lengths, columns);
}

}  // namespace longspan::train
