#pragma once

#include <string>
#include <vector>

#include "longspan/data/tokenizer.h"

namespace longspan::data {

/// Ids of `text` as it goes on from `lead`, of which those of `lead` alone come first: where the
/// ids of both together begin with them, the rest; else, as with white space that joins the lead's,
/// the ids of `text` alone. So a tokenizer that puts a space in front of each text puts none here.
/// `lead_ids` are those of `lead`.
std::vector<TokenId> encode_behind(const Tokenizer& tokenizer, const std::string& lead,
                                   const std::vector<TokenId>& lead_ids, const std::string& text);

}  // namespace longspan::data
