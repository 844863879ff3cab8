#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace longspan::data {

using TokenId = std::int32_t;

/// Text to token ids and back. Thread-safe after construction.
class Tokenizer {
 public:
  virtual ~Tokenizer() = default;
  Tokenizer() = default;
  Tokenizer(const Tokenizer&) = delete;
  Tokenizer& operator=(const Tokenizer&) = delete;

  /// "bytes" or "sentencepiece".
  virtual std::string name() const = 0;
  /// Ids are in [0, vocab_size).
  virtual TokenId vocab_size() const = 0;
  /// What a document starts and ends with.
  virtual TokenId bos_id() const = 0;
  virtual TokenId eos_id() const = 0;
  /// Content hash (xxh3-128, hex): equal hashes mean equal ids for every text.
  virtual std::string hash() const = 0;

  /// Ids of the text alone, without bos and eos. Any bytes are legal.
  virtual std::vector<TokenId> encode(std::string_view text) const = 0;
  /// The bytes of the ids; bos, eos and other control ids give nothing. Ids out of range throw
  /// InputError.
  virtual std::string decode(const std::vector<TokenId>& ids) const = 0;

  /// Writes the files with which `transformers` loads this tokenizer (AutoTokenizer) and
  /// `load_tokenizer` does: tokenizer_config.json and what it needs.
  virtual void save(const std::filesystem::path& directory) const = 0;
};

/// "bytes", a sentencepiece `.model` file, or a directory written by Tokenizer::save. Throws
/// InputError naming the file.
std::unique_ptr<Tokenizer> load_tokenizer(const std::string& name_or_path);

}  // namespace longspan::data
