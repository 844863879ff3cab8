#include "base/suggest.h"

#include <algorithm>
#include <cctype>

namespace longspan::base {
namespace {

constexpr std::size_t kLongestWord = 64;
constexpr std::size_t kShortestPart = 4;  // of a word that counts as being within another
constexpr std::size_t kPartCost = 3;

std::string plain(std::string_view word) {
  std::string result(word);
  for (char& letter : result) {
    letter =
        letter == '-' ? '_' : static_cast<char>(std::tolower(static_cast<unsigned char>(letter)));
  }
  return result;
}

std::size_t slips_allowed(std::size_t length) {
  if (length <= 2) return 0;
  if (length <= 4) return 1;
  return length <= 8 ? 2 : 3;
}

std::optional<std::size_t> cost_of(std::string_view found, std::string_view word) {
  const std::size_t slips = typing_slips(found, word);
  if (slips <= slips_allowed(std::min(found.size(), word.size()))) return slips;
  const std::string_view& part = found.size() < word.size() ? found : word;
  const std::string whole = plain(found.size() < word.size() ? word : found);
  if (part.size() >= kShortestPart && whole.find(plain(part)) != std::string::npos) {
    return kPartCost;
  }
  return std::nullopt;
}

}  // namespace

std::size_t typing_slips(std::string_view a, std::string_view b) {
  const std::string x = plain(a);
  const std::string y = plain(b);
  // Rows of the alignment table: of the last but one letter of x, the last, and the present.
  std::vector<std::size_t> two_back(y.size() + 1);
  std::vector<std::size_t> back(y.size() + 1);
  std::vector<std::size_t> row(y.size() + 1);
  for (std::size_t j = 0; j <= y.size(); ++j) row[j] = j;
  for (std::size_t i = 1; i <= x.size(); ++i) {
    two_back.swap(back);
    back.swap(row);
    row[0] = i;
    for (std::size_t j = 1; j <= y.size(); ++j) {
      const std::size_t wrong = back[j - 1] + (x[i - 1] == y[j - 1] ? 0 : 1);
      row[j] = std::min({back[j] + 1, row[j - 1] + 1, wrong});
      if (i > 1 && j > 1 && x[i - 1] == y[j - 2] && x[i - 2] == y[j - 1]) {
        row[j] = std::min(row[j], two_back[j - 2] + 1);
      }
    }
  }
  return row[y.size()];
}

std::optional<std::string> closest(std::string_view found,
                                   const std::vector<Suggestion>& candidates) {
  if (found.empty() || found.size() > kLongestWord) return std::nullopt;
  const Suggestion* best = nullptr;
  std::size_t best_cost = 0;
  for (const Suggestion& candidate : candidates) {
    const std::optional<std::size_t> slips = cost_of(found, candidate.word);
    if (!slips) continue;
    const std::size_t cost = 2 * *slips + (candidate.is_far ? 1 : 0);
    if (best == nullptr || cost < best_cost) {
      best = &candidate;
      best_cost = cost;
    }
  }
  if (best == nullptr) return std::nullopt;
  return best->answer;
}

}  // namespace longspan::base
