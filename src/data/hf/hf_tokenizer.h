#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "data/hf/added_tokens.h"
#include "data/hf/bpe.h"
#include "data/hf/decoder.h"
#include "data/hf/document_marks.h"
#include "data/hf/normalizer.h"
#include "data/hf/pre_tokenizer.h"
#include "longspan/data/tokenizer.h"

namespace longspan::data::hf {

/// A tokenizer.json of the `tokenizers` library whose model is byte-pair encoding; gives the ids
/// that the library gives. What of such a file is not understood is refused by name.
///
/// The library takes only valid UTF-8. Here every stretch of bytes that is not valid is encoded by
/// itself, without normalisation or pattern, and the text before and behind it as if it ended and
/// began there; a byte-level model, or one with byte fallback, gives such bytes back.
class HfTokenizer final : public Tokenizer {
 public:
  /// `file`: a tokenizer.json; tokenizer_config.json and special_tokens_map.json beside it are
  /// read, too. Throws InputError naming file and place.
  explicit HfTokenizer(const std::filesystem::path& file);
  /// Of a text that is in no file; `name` is for messages.
  HfTokenizer(std::string json, const std::string& name);

  std::string name() const override { return "bpe"; }
  TokenId vocab_size() const override { return static_cast<TokenId>(decoded_.size()); }
  TokenId bos_id() const override { return bos_; }
  TokenId eos_id() const override { return eos_; }
  std::string hash() const override;
  std::vector<TokenId> encode(std::string_view text) const override;
  std::vector<TokenId> encode_with_special(std::string_view text) const override;
  std::string decode(const std::vector<TokenId>& ids) const override;
  std::optional<TokenId> special_id(std::string_view content) const override;
  void save(const std::filesystem::path& directory) const override;

 private:
  void read_companions(const std::filesystem::path& directory);
  void read(const std::string& name);
  void read_marks(const DocumentMarks& from_template, const std::vector<std::string>& tokens,
                  const std::string& name);
  TokenFinder finder(bool normalized) const;
  std::vector<TokenId> encode_text(std::string_view text, bool with_special) const;
  void encode_valid(std::string_view text, bool first, bool with_special,
                    std::vector<TokenId>& ids) const;
  void encode_normalized(std::string_view text, bool first, bool with_special,
                         std::vector<TokenId>& ids) const;
  void encode_section(std::string_view text, bool first, std::vector<TokenId>& ids) const;
  void encode_parallel(std::string_view text, bool first, std::vector<TokenId>& ids) const;

  std::map<std::string, std::string> files_;  ///< contents by name, as `save` writes them
  std::string hashed_extra_;                  ///< added tokens that tokenizer.json does not have
  std::vector<AddedToken> added_;
  Normalizer normalizer_;
  PreTokenizer pre_tokenizer_;
  std::unique_ptr<BpeModel> model_;
  TokenFinder finder_;             ///< of the text as it is
  TokenFinder normalized_finder_;  ///< of the normalised text
  std::unordered_map<std::string, TokenId> special_ids_;
  std::vector<std::string> decoded_;  ///< bytes of each id; of special ones empty
  int prefix_spaces_ = 0;
  TokenId bos_ = 0;
  TokenId eos_ = 0;
  std::uint64_t instance_;  ///< tells apart what threads remember of several tokenizers
};

}  // namespace longspan::data::hf
