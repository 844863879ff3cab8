#pragma once

#include <bitset>
#include <cstdint>
#include <string_view>
#include <unordered_set>
#include <vector>

#include "data/utf8.h"

namespace longspan::data {

/// Knows where a text may be cut so that encoding the parts gives the ids of the whole: between
/// two characters that no piece of the vocabulary holds side by side. A merge of byte-pair
/// encoding, or an edge of a unigram lattice, over such a place would be a piece.
class PieceCutter {
 public:
  /// `merges_unknown`: neighbouring unknown characters give one id (a model without byte pieces),
  /// so two characters that are both no pieces stay together as well.
  explicit PieceCutter(bool merges_unknown) : merges_unknown_(merges_unknown) {}

  /// A piece of the vocabulary, with spaces as spaces.
  void add_piece(std::string_view piece);

  /// May the text be cut between these neighbours?
  bool may_cut(char32_t left, char32_t right) const {
    if (left < 128 && right < 128) return !ascii_[left * 128 + right];
    return decide(left, right);
  }
  /// Call once, after the last piece.
  void finish();

 private:
  bool decide(char32_t left, char32_t right) const;

  bool merges_unknown_;
  std::unordered_set<std::uint64_t> pairs_;
  std::unordered_set<char32_t> single_;
  std::bitset<128 * 128> ascii_;  ///< the pairs that must stay together
};

/// Ends of the stretches that a text is encoded in, the last one its size. Each is the first place
/// where a cut is allowed after `kBlockBytes`; where there is none, up to 2 kBlockBytes, the text
/// is cut anyway, between two characters. That bounds time and memory on runs of one letter or of
/// spaces; only there may ids differ from those of the whole text in one piece.
inline constexpr std::size_t kBlockBytes = std::size_t{128} << 10U;
std::vector<std::size_t> block_ends(std::string_view text, const PieceCutter& cutter);

}  // namespace longspan::data
