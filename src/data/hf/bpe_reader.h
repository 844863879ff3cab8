#pragma once

#include <vector>

#include "data/hf/added_tokens.h"
#include "data/hf/bpe.h"
#include "data/hf/json_node.h"

namespace longspan::data::hf {

/// The "added_tokens" of a tokenizer.json. Throws InputError naming the one that is not legal.
std::vector<AddedToken> read_added_tokens(const JsonNode& file);

/// Those that "added_tokens_decoder" of a tokenizer_config.json has beyond `tokens`, appended.
void read_added_tokens_decoder(const JsonNode& config, std::vector<AddedToken>& tokens);

/// The "model" of a tokenizer.json, which must be byte-pair encoding. The ids of vocabulary and
/// added tokens together must be 0 to their number less one. Throws InputError naming the place of
/// what is not supported, not known (a merge's tokens) or there twice.
BpeParts read_bpe(const JsonNode& model, const std::vector<AddedToken>& added, bool byte_level);

}  // namespace longspan::data::hf
