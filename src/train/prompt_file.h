#pragma once

#include <string>
#include <vector>

#include "longspan/data/chat.h"
#include "longspan/data/tokenizer.h"

namespace longspan::train {

/// A prompt of a file.
struct FilePrompt {
  std::string line;                ///< the JSON object that it is, or is made: what it hands on
  std::vector<data::TokenId> ids;  ///< what the model continues
  bool is_chat = false;
};

/// The template of this name, or if it is empty the one that the tokenizer tells. Throws
/// InputError.
data::ChatTemplate make_chat_template(const std::string& name, const data::Tokenizer& tokenizer);

/// Reads the prompts of a file (see generate_batch): in a .jsonl an object a line, else a text a
/// line. `chat_template`: for messages; empty: told by the tokenizer. Throws InputError naming file
/// and line.
std::vector<FilePrompt> read_prompts(const std::string& path, const data::Tokenizer& tokenizer,
                                     const std::string& chat_template);

}  // namespace longspan::train
