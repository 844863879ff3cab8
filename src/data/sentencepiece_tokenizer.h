#pragma once

#include <sentencepiece_processor.h>

#include <array>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "data/hf/added_tokens.h"
#include "data/piece_cutter.h"
#include "data/sentencepiece_model.h"
#include "longspan/data/tokenizer.h"

namespace longspan::data {

/// Key of a tokenizer_config.json that `save` wrote: the file that is to be read, though there is a
/// tokenizer.json made from it, which knows less.
inline constexpr const char* kExactFile = "longspan_tokenizer_file";

/// A sentencepiece model (BPE or unigram). Long texts are encoded in blocks, on all cores.
///
/// A model that keeps the text as it is and has byte pieces (every model that
/// `train_sentencepiece` makes; Llama 2, Mistral and Gemma) gives back any bytes: what is not valid
/// UTF-8, and U+2581, which such models use for the space, go byte by byte into byte pieces.
/// Other models lose what their normalisation drops.
class SentencePieceTokenizer final : public Tokenizer {
 public:
  /// `source` names the model in messages.
  SentencePieceTokenizer(std::string model, const std::string& source);

  std::string name() const override { return "sentencepiece"; }
  TokenId vocab_size() const override { return static_cast<TokenId>(decoded_.size()); }
  TokenId bos_id() const override { return bos_; }
  TokenId eos_id() const override { return eos_; }
  std::string hash() const override;
  std::vector<TokenId> encode(std::string_view text) const override;
  /// Behind a special token no space is added.
  std::vector<TokenId> encode_with_special(std::string_view text) const override;
  std::optional<TokenId> special_id(std::string_view content) const override;
  std::string decode(const std::vector<TokenId>& ids) const override;
  void save(const std::filesystem::path& directory) const override;

 private:
  using Processor = sentencepiece::SentencePieceProcessor;
  using WordCache = std::unordered_map<std::string_view, std::vector<TokenId>>;

  void load_processors(const std::string& source);
  void read_vocabulary(const std::string& source);
  std::vector<TokenId> encode_kept(std::string_view text) const;
  void encode_block(std::string_view block, WordCache& cache, std::vector<TokenId>& ids) const;
  void add_special(std::string_view bytes, std::vector<TokenId>& ids) const;
  std::vector<TokenId> encode_normalised(std::string_view text) const;
  bool is_special(char32_t code) const;

  std::string model_;
  SentencePieceSettings settings_;
  Processor processor_;        ///< of a model that keeps the text: adds no prefix
  Processor later_processor_;  ///< of a normalising model: for blocks that follow a space
  std::unique_ptr<PieceCutter> cutter_;
  hf::TokenFinder special_;              ///< control pieces and the unknown one
  std::vector<std::string> decoded_;     ///< bytes of each id
  std::array<TokenId, 256> byte_ids_{};  ///< ids of the byte pieces
  bool has_byte_pieces_ = false;
  TokenId bos_ = 0;
  TokenId eos_ = 0;
};

/// The vocabulary as a tokenizer.json of the `tokenizers` library: byte-pair encoding with byte
/// fallback, and merges in the order of the scores.
std::string tokenizer_json(const sentencepiece::SentencePieceProcessor& processor,
                           const SentencePieceSettings& settings);

}  // namespace longspan::data
