#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "longspan/data/token_range.h"
#include "longspan/data/tokenizer.h"

namespace longspan::data {

/// What files of tokens alone do not say themselves: llm.c's, and those without even a header
/// (nanoGPT's).
struct FlatTokens {
  /// Of one token in a file without a header: "uint16" or "uint32"; empty: such files are refused.
  std::string type;
  /// The id that ends each document; -1: a file is one document.
  TokenId document_end = -1;
};

/// A memory-mapped corpus: tokens of all documents, one after another. Opened from our `.tokens`
/// files (format: docs/formats.md), from Megatron's `.bin` with its `.idx` beside it (name either),
/// from llm.c's `.bin`, or from a `.bin` of tokens alone. Every structural fault (truncation,
/// offsets that run backwards or out of the file, wrong magic or version) is found at opening and
/// throws InputError naming file and place. Thread-safe for reading.
class TokenFile {
 public:
  virtual ~TokenFile() = default;
  TokenFile() = default;
  TokenFile(const TokenFile&) = delete;
  TokenFile& operator=(const TokenFile&) = delete;

  static std::unique_ptr<TokenFile> open(const std::filesystem::path& path,
                                         const FlatTokens& flat = {});
  /// Whether `open` would look at `flat`: a `.bin` without an index beside it.
  static bool is_flat(const std::filesystem::path& path);

  virtual const std::filesystem::path& path() const = 0;
  /// The file that holds a document: `path()`, but for files opened together.
  virtual const std::filesystem::path& path_of(std::int64_t) const { return path(); }
  /// First document of each file that was opened together with others, and the number of all.
  virtual std::vector<std::int64_t> file_begins() const { return {0, documents()}; }
  virtual std::int64_t tokens() const = 0;
  virtual std::int64_t documents() const = 0;
  /// Tokens of document `document`: [document_begin(d), document_begin(d + 1)).
  virtual std::int64_t document_begin(std::int64_t document) const = 0;
  /// Bytes of text the document was made from; -1 when the format does not say (all but .tokens).
  virtual std::int64_t document_bytes(std::int64_t document) const = 0;
  /// Empty when the format does not say (all but .tokens).
  virtual std::string tokenizer_hash() const = 0;
  /// Copies tokens [begin, end) to `out`.
  virtual void read(std::int64_t begin, std::int64_t end, TokenId* out) const = 0;

  /// Whether there are tokens that are not to be predicted, as in chats those of the user (.tokens
  /// of version 2 alone).
  virtual bool is_masked() const { return false; }
  /// How many of the tokens [begin, end) are to be predicted.
  virtual std::int64_t loss_tokens(std::int64_t begin, std::int64_t end) const {
    return end - begin;
  }
  /// The ranges of tokens within [begin, end) that are to be predicted: ascending, none empty.
  virtual std::vector<TokenRange> loss_ranges(std::int64_t begin, std::int64_t end) const {
    if (begin == end) return {};
    return {{begin, end}};
  }

  /// Reads the `part`-th of `parts` shares of the tokens and throws InputError naming the first
  /// token that is not in [0, vocab_size), its place and document. Ranks share the work.
  void check_range(std::int64_t vocab_size, int part, int parts) const;
};

}  // namespace longspan::data
