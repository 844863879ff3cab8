#pragma once

#include <cstdint>
#include <functional>

#include "longspan/data/text_source.h"
#include "longspan/data/token_file_writer.h"
#include "longspan/data/tokenizer.h"

namespace longspan::data {

struct CorpusOptions {
  bool bos = true;  ///< before each document
  bool eos = true;  ///< after it
};

struct CorpusCounts {
  std::int64_t documents = 0;
  std::int64_t empty_documents = 0;  ///< left out
  std::int64_t tokens = 0;
  std::int64_t text_bytes = 0;
};

/// Turns every document of `source` into tokens, on all cores, and adds it to `writer` in order
/// (without `finish`). Calls `progress` after every batch of about 8 MB. Memory: a batch of text
/// and its tokens, or the longest document and its.
CorpusCounts tokenize_corpus(TextSource& source, const Tokenizer& tokenizer,
                             const CorpusOptions& options, TokenFileWriter& writer,
                             const std::function<void(const CorpusCounts&)>& progress);

}  // namespace longspan::data
