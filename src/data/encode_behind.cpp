#include "data/encode_behind.h"

#include <algorithm>

namespace longspan::data {

std::vector<TokenId> encode_behind(const Tokenizer& tokenizer, const std::string& lead,
                                   const std::string& text) {
  if (lead.empty() || text.empty()) return tokenizer.encode(text);
  const std::vector<TokenId> first = tokenizer.encode(lead);
  const std::vector<TokenId> both = tokenizer.encode(lead + text);
  if (both.size() < first.size() || !std::equal(first.begin(), first.end(), both.begin())) {
    return tokenizer.encode(text);
  }
  return {both.begin() + static_cast<std::ptrdiff_t>(first.size()), both.end()};
}

}  // namespace longspan::data
