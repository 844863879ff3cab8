#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "longspan/data/tokenizer.h"

namespace longspan::data {
class ChatTemplate;
}

namespace longspan::train {

/// A prompt of a file.
struct FilePrompt {
  std::string line;                ///< the JSON object that it is, or is made: what it hands on
  std::vector<data::TokenId> ids;  ///< what the model continues
};

/// Reads the prompts of a file (see generate_batch): in a .jsonl an object a line, else a text a
/// line. Throws InputError naming file and line.
std::vector<FilePrompt> read_prompts(const std::string& path, const data::Tokenizer& tokenizer);

}  // namespace longspan::train
