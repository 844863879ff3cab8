#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "data/hf/word_cache.h"
#include "data/piece_cutter.h"
#include "longspan/data/tokenizer.h"

namespace longspan::data::hf {

/// The tokens that two tokens become, in the order of their ranks.
struct MergeRule {
  TokenId left = 0;
  TokenId right = 0;
  TokenId joined = 0;
};

/// What a model of byte-pair encoding consists of.
struct BpeParts {
  std::vector<std::string> tokens;  ///< by id, as the file spells them; no token is spelled twice
  std::vector<MergeRule> merges;    ///< the first has the lowest rank; no pair twice
  TokenId unknown = -1;             ///< for a character that no token has; -1: none
  bool byte_level = false;          ///< tokens spell bytes (see byte_level.h)
  bool byte_fallback = false;       ///< tokens <0x00> to <0xFF> stand for bytes of other characters
  bool fuse_unknown = false;        ///< several unknown characters give one token
  bool ignore_merges = false;       ///< a piece that is a token is that token
};

/// Merge rules by pair: a hash table with open addresses.
class MergeTable {
 public:
  struct Rule {
    std::uint32_t rank;
    TokenId joined;
  };
  explicit MergeTable(const std::vector<MergeRule>& merges);
  /// Null when the pair does not merge.
  const Rule* find(TokenId left, TokenId right) const {
    const std::uint64_t key = key_of(left, right);
    for (std::size_t slot = place(key);; slot = (slot + 1) & mask_) {
      if (slots_[slot].key == key) return &slots_[slot].rule;
      if (slots_[slot].key == kFree) return nullptr;
    }
  }

 private:
  struct Slot {
    std::uint64_t key = kFree;
    Rule rule{};
  };
  static constexpr std::uint64_t kFree = ~std::uint64_t{0};
  static std::uint64_t key_of(TokenId left, TokenId right) {
    return (static_cast<std::uint64_t>(left) << 32U) | static_cast<std::uint32_t>(right);
  }
  std::size_t place(std::uint64_t key) const {
    return static_cast<std::size_t>((key * 0x9e3779b97f4a7c15U) >> 20U) & mask_;
  }

  std::vector<Slot> slots_;
  std::size_t mask_ = 0;
};

/// Byte-pair encoding: of the pairs of neighbours, the one with the lowest rank is joined, the
/// leftmost first, until no pair has a rank. Time n log n in the length of a piece. Thread-safe.
class BpeModel {
 public:
  explicit BpeModel(BpeParts parts);

  /// The ids of a piece, which is valid UTF-8. Throws InputError for a character that no token
  /// has, when there is neither fallback nor a token for unknown ones.
  void encode(std::string_view piece, WordCache& cache, std::vector<TokenId>& ids) const;
  /// Those of bytes that are not valid UTF-8: merged when the model reads bytes, else one a byte.
  void encode_bytes(std::string_view bytes, std::vector<TokenId>& ids) const;

 private:
  using Symbols = std::vector<TokenId>;

  void read_bytes();
  void read_characters();
  void encode_word(std::string_view word, WordCache& cache, std::vector<TokenId>& ids) const;
  void add_symbols(std::string_view word, Symbols& symbols) const;
  void add_character_symbols(std::string_view word, Symbols& symbols) const;
  std::optional<TokenId> whole(std::string_view word) const;
  void merge_short(Symbols& symbols) const;
  [[noreturn]] void refuse(std::string_view bytes) const;

  BpeParts parts_;
  MergeTable merges_;
  std::unordered_map<std::string, TokenId> ids_;  ///< by the bytes that pieces have
  std::size_t longest_ = 0;                       ///< of them, bytes
  std::array<TokenId, 256> byte_ids_{};           ///< of bytes or of <0x..>; -1: none
  std::unique_ptr<PieceCutter> cutter_;           ///< where long pieces may be cut; null: nowhere
};

/// Merges symbols in place; for long pieces. Exposed for its test against the plain definition.
void merge_long(const MergeTable& merges, std::vector<TokenId>& symbols);

}  // namespace longspan::data::hf
