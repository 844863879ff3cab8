#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
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

  /// "bytes", "sentencepiece" or "bpe".
  virtual std::string name() const = 0;
  /// Ids are in [0, vocab_size).
  virtual TokenId vocab_size() const = 0;
  /// What a document starts and ends with.
  virtual TokenId bos_id() const = 0;
  virtual TokenId eos_id() const = 0;
  /// Content hash (xxh3-128, hex): equal hashes mean equal ids for every text.
  virtual std::string hash() const = 0;

  /// Ids of the text alone, without bos and eos. Any bytes are legal. Special tokens that the text
  /// spells out, such as "</s>", are text like any other: what a user writes cannot become a
  /// control token. Throws InputError for a character for which a "bpe" tokenizer has no token.
  virtual std::vector<TokenId> encode(std::string_view text) const = 0;
  /// The same, but special tokens that the text spells out become their ids, as `tokenizers` and
  /// `transformers` do by default: for chats and prompts that a program put together.
  virtual std::vector<TokenId> encode_with_special(std::string_view text) const = 0;
  /// The id of a special or added token, such as "<|im_end|>", by its content; none for others.
  virtual std::optional<TokenId> special_id(std::string_view content) const = 0;
  /// The bytes of the ids; bos, eos and other control ids give nothing. Ids out of range throw
  /// InputError.
  virtual std::string decode(const std::vector<TokenId>& ids) const = 0;

  /// Writes the files with which `transformers` loads this tokenizer (AutoTokenizer) and
  /// `load_tokenizer` does: tokenizer_config.json and what it needs.
  virtual void save(const std::filesystem::path& directory) const = 0;
};

/// "bytes", a sentencepiece `.model` file, a `tokenizer.json` (any name that ends in .json), or a
/// directory: a Hugging Face model's, or one written by Tokenizer::save. In a directory that has
/// both, tokenizer.json counts, as in `transformers`. Throws InputError naming the file.
std::unique_ptr<Tokenizer> load_tokenizer(const std::string& name_or_path);

}  // namespace longspan::data
