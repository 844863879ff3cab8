#include "data/piece_cutter.h"

namespace longspan::data {
namespace {

std::uint64_t key(char32_t left, char32_t right) {
  return (static_cast<std::uint64_t>(left) << 32U) | right;
}

}  // namespace

void PieceCutter::add_piece(std::string_view piece) {
  char32_t left = 0;
  std::size_t characters = 0;
  for (std::size_t position = 0; position < piece.size(); ++characters) {
    const Character character = character_at(piece, position);
    if (characters > 0) pairs_.insert(key(left, character.code));
    left = character.code;
    position += character.bytes;
  }
  if (characters == 1) single_.insert(left);
}

bool PieceCutter::decide(char32_t left, char32_t right) const {
  if (pairs_.contains(key(left, right))) return false;
  return !merges_unknown_ || single_.contains(left) || single_.contains(right);
}

void PieceCutter::finish() {
  for (char32_t left = 0; left < 128; ++left) {
    for (char32_t right = 0; right < 128; ++right) {
      ascii_[left * 128 + right] = !decide(left, right);
    }
  }
}

std::vector<std::size_t> block_ends(std::string_view text, const PieceCutter& cutter) {
  std::vector<std::size_t> ends;
  std::size_t begin = 0;
  char32_t left = 0;
  for (std::size_t position = 0; position < text.size();) {
    const Character character = character_at(text, position);
    const std::size_t length = position - begin;
    if (length >= kBlockBytes &&
        (length >= 2 * kBlockBytes || cutter.may_cut(left, character.code))) {
      ends.push_back(position);
      begin = position;
    }
    left = character.code;
    position += character.bytes;
  }
  if (!text.empty()) ends.push_back(text.size());
  return ends;
}

}  // namespace longspan::data
