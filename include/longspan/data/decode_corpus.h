#pragma once

#include <filesystem>

#include "longspan/data/token_file.h"
#include "longspan/data/tokenize_corpus.h"
#include "longspan/data/tokenizer.h"

namespace longspan::data {

/// Writes the text of all documents of a token file: a line {"text": ...} for each when `output`
/// ends in .jsonl or .ndjson, else one after another, byte for byte. The file appears under its
/// name when it is complete. Throws InputError when the tokens were made by another tokenizer, for
/// ids that it does not have, and for JSON of a document that is not valid UTF-8.
CorpusCounts decode_corpus(const TokenFile& tokens, const Tokenizer& tokenizer,
                           const std::filesystem::path& output);

}  // namespace longspan::data
