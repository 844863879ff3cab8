#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "longspan/data/text_source.h"
#include "longspan/data/token_file_writer.h"
#include "longspan/data/tokenizer.h"

namespace longspan::data {

struct CorpusOptions {
  bool bos = true;  ///< before each document but chats
  bool eos = true;  ///< after it
  /// The template of chats, and of prompts with completions, too. Empty: of chats that which the
  /// tokenizer tells (ChatTemplate::detect), and a completion just follows its prompt.
  std::string chat_template;
};

struct CorpusCounts {
  std::int64_t documents = 0;
  std::int64_t empty_documents = 0;  ///< left out
  std::int64_t tokens = 0;
  std::int64_t loss_tokens = 0;  ///< of these, the ones to be predicted
  std::int64_t chats = 0;        ///< among the documents, those of turns or a completion
  std::int64_t unmarked = 0;     ///< among them, those without a token to be predicted
  std::int64_t text_bytes = 0;
};

/// Turns every document of `source` into tokens, on all cores, and adds it to `writer` in order
/// (without `finish`). Of chats the answers are to be predicted (see ChatTemplate::encode), of a
/// prompt with its completion the completion and eos, of texts all. Throws InputError naming the
/// line for a chat that cannot be written, or whose template is not known. Calls `progress` after
/// every batch of about 8 MB. Memory: a batch of text and its tokens, or the longest document and
/// its.
CorpusCounts tokenize_corpus(TextSource& source, const Tokenizer& tokenizer,
                             const CorpusOptions& options, TokenFileWriter& writer,
                             const std::function<void(const CorpusCounts&)>& progress);

}  // namespace longspan::data
