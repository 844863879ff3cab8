#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "longspan/data/chat.h"
#include "longspan/data/tokenizer.h"

namespace longspan::data {

enum class TokenFormat : std::uint8_t { kTokens, kMegatron };

/// Writes a token file document by document. The file appears under its name only with `finish`;
/// a writer destroyed before leaves nothing, a killed process at most a file ending in ".tmp".
class TokenFileWriter {
 public:
  virtual ~TokenFileWriter() = default;
  TokenFileWriter() = default;
  TokenFileWriter(const TokenFileWriter&) = delete;
  TokenFileWriter& operator=(const TokenFileWriter&) = delete;

  /// kTokens: 2 bytes a token when vocab_size <= 65536, else 4. kMegatron: `path` may end in .bin,
  /// .idx or neither, both files are made; 2 bytes when vocab_size < 65500, else 4;
  /// `tokenizer_hash` (32 hex digits, or empty) is not stored. Throws InputError when the file
  /// cannot be made.
  static std::unique_ptr<TokenFileWriter> create(const std::filesystem::path& path,
                                                 TokenFormat format, std::int64_t vocab_size,
                                                 const std::string& tokenizer_hash);

  /// `text_bytes`: of the text that the document was made from. Throws InputError for a token that
  /// is not in [0, vocab_size), or a document too long for the format (Megatron: 2^31 - 1 tokens).
  virtual void add_document(const std::vector<TokenId>& tokens, std::int64_t text_bytes) = 0;
  /// The same of a document of which only some tokens are to be predicted; of those added without
  /// saying so, all are. Throws InputError when the format cannot say it (Megatron's).
  virtual void add_masked_document(const MaskedTokens& document, std::int64_t text_bytes) = 0;
  virtual void finish() = 0;
};

}  // namespace longspan::data
