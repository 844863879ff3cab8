#include "data/encode_behind.h"

#include <algorithm>

namespace longspan::data {

std::vector<TokenId> encode_behind(const Tokenizer& tokenizer, const std::string& lead,
                                   const std::vector<TokenId>& lead_ids, const std::string& text) {
  if (lead.empty() || text.empty()) return tokenizer.encode(text);
  const std::vector<TokenId> both = tokenizer.encode(lead + text);
  if (both.size() < lead_ids.size() ||
      !std::equal(lead_ids.begin(), lead_ids.end(), both.begin())) {
    return tokenizer.encode(text);
  }
  return {both.begin() + static_cast<std::ptrdiff_t>(lead_ids.size()), both.end()};
}

}  // namespace longspan::data
