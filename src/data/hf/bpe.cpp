#include "data/hf/bpe.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <map>

#include "data/hf/byte_level.h"
#include "data/hf/json_node.h"
#include "data/utf8.h"
#include "longspan/base/error.h"

namespace longspan::data::hf {
namespace {

/// Up to this many symbols it is quickest to look through all pairs for the one to join.
constexpr std::size_t kShortSymbols = 48;
constexpr std::uint32_t kNoRank = std::numeric_limits<std::uint32_t>::max();

unsigned char to_byte(char byte) { return static_cast<unsigned char>(byte); }

}  // namespace

MergeTable::MergeTable(const std::vector<MergeRule>& merges) {
  std::size_t size = 64;
  while (size < 2 * merges.size()) size *= 2;
  slots_.resize(size);
  mask_ = size - 1;
  for (std::size_t rank = 0; rank < merges.size(); ++rank) {
    const std::uint64_t key = key_of(merges[rank].left, merges[rank].right);
    std::size_t slot = place(key);
    while (slots_[slot].key != kFree) slot = (slot + 1) & mask_;
    slots_[slot] = {key, {static_cast<std::uint32_t>(rank), merges[rank].joined}};
  }
}

BpeModel::BpeModel(BpeParts parts) : parts_(std::move(parts)), merges_(parts_.merges) {
  byte_ids_.fill(-1);
  if (parts_.byte_level) {
    read_bytes();
  } else {
    read_characters();
  }
}

void BpeModel::read_bytes() {
  for (std::size_t id = 0; id < parts_.tokens.size(); ++id) {
    // A token with other characters is an added one: no piece is ever spelled so.
    const std::optional<std::string> bytes = token_to_bytes(parts_.tokens[id]);
    if (!bytes || bytes->empty()) continue;
    if (bytes->size() == 1) byte_ids_[to_byte(bytes->front())] = static_cast<TokenId>(id);
    if (!parts_.ignore_merges) continue;
    ids_.emplace(*bytes, static_cast<TokenId>(id));
    longest_ = std::max(longest_, bytes->size());
  }
}

void BpeModel::read_characters() {
  for (std::size_t id = 0; id < parts_.tokens.size(); ++id) {
    const std::string& token = parts_.tokens[id];
    if (token.empty()) continue;
    ids_.emplace(token, static_cast<TokenId>(id));
    longest_ = std::max(longest_, token.size());
  }
  bool all_bytes = true;
  for (unsigned byte = 0; parts_.byte_fallback && byte < 256; ++byte) {
    const auto found = ids_.find(fmt::format("<0x{:02X}>", byte));
    all_bytes = all_bytes && found != ids_.end();
    if (found != ids_.end()) byte_ids_[byte] = found->second;
  }
  // Cutting is exact when no merge begins or ends in a token that is not its characters.
  const auto is_spelled = [&](TokenId id) {
    return id != parts_.unknown &&
           std::find(byte_ids_.begin(), byte_ids_.end(), id) == byte_ids_.end();
  };
  bool spelled = true;
  for (const MergeRule& merge : parts_.merges) {
    spelled = spelled && is_spelled(merge.left) && is_spelled(merge.right);
  }
  if (!spelled || parts_.ignore_merges || (parts_.byte_fallback && !all_bytes)) return;
  cutter_ = std::make_unique<PieceCutter>(parts_.fuse_unknown && !parts_.byte_fallback);
  for (const std::string& token : parts_.tokens) cutter_->add_piece(token);
  cutter_->finish();
}

void BpeModel::refuse(std::string_view bytes) const {
  throw base::InputError(fmt::format(
      "cannot tokenize {}: the tokenizer has no token for it, and none for what is unknown",
      shown(bytes)));
}

std::optional<TokenId> BpeModel::whole(std::string_view word) const {
  if (!parts_.ignore_merges || word.size() > longest_) return std::nullopt;
  const auto found = ids_.find(std::string(word));
  if (found == ids_.end()) return std::nullopt;
  return found->second;
}

void BpeModel::encode(std::string_view piece, WordCache& cache, std::vector<TokenId>& ids) const {
  if (!cutter_) return encode_word(piece, cache, ids);
  std::size_t begin = 0;
  char32_t left = 0;
  for (std::size_t at = 0; at < piece.size();) {
    const Character character = character_at(piece, at);
    if (begin < at && cutter_->may_cut(left, character.code)) {
      encode_word(piece.substr(begin, at - begin), cache, ids);
      begin = at;
    }
    left = character.code;
    at += character.bytes;
  }
  if (begin < piece.size()) encode_word(piece.substr(begin), cache, ids);
}

void BpeModel::encode_word(std::string_view word, WordCache& cache,
                           std::vector<TokenId>& ids) const {
  const bool kept = WordCache::takes(word);
  if (kept && cache.find(word, ids)) return;
  const std::size_t before = ids.size();
  if (const std::optional<TokenId> id = whole(word)) {
    ids.push_back(*id);
  } else {
    Symbols symbols;
    add_symbols(word, symbols);
    if (symbols.size() <= kShortSymbols) {
      merge_short(symbols);
    } else {
      merge_long(merges_, symbols);
    }
    ids.insert(ids.end(), symbols.begin(), symbols.end());
  }
  if (kept) cache.keep(word, ids.data() + before, ids.size() - before);
}

void BpeModel::encode_bytes(std::string_view bytes, std::vector<TokenId>& ids) const {
  Symbols symbols;
  for (const char byte : bytes) {
    const TokenId id = byte_ids_[to_byte(byte)];
    if (id < 0 && parts_.unknown < 0) refuse(std::string_view(&byte, 1));
    symbols.push_back(id < 0 ? parts_.unknown : id);
  }
  if (parts_.byte_level) merge_long(merges_, symbols);
  ids.insert(ids.end(), symbols.begin(), symbols.end());
}

void BpeModel::add_symbols(std::string_view word, Symbols& symbols) const {
  if (!parts_.byte_level) return add_character_symbols(word, symbols);
  bool after_unknown = false;
  for (const char byte : word) {
    const TokenId id = byte_ids_[to_byte(byte)];
    if (id >= 0) {
      symbols.push_back(id);
    } else if (parts_.unknown < 0) {
      refuse(word);
    } else if (!after_unknown || !parts_.fuse_unknown) {
      symbols.push_back(parts_.unknown);
    }
    after_unknown = id < 0;
  }
}

void BpeModel::add_character_symbols(std::string_view word, Symbols& symbols) const {
  // As in the reference, an unknown token is put only before the next token that has its own
  // characters, so behind the bytes of characters in between.
  bool waiting = false;
  const auto put_unknown = [&] {
    if (waiting) symbols.push_back(parts_.unknown);
    waiting = false;
  };
  for (std::size_t at = 0; at < word.size();) {
    const std::string_view character = word.substr(at, character_at(word, at).bytes);
    at += character.size();
    const auto found = ids_.find(std::string(character));
    if (found != ids_.end()) {
      put_unknown();
      symbols.push_back(found->second);
    } else if (std::all_of(character.begin(), character.end(),
                           [&](char byte) { return byte_ids_[to_byte(byte)] >= 0; })) {
      for (const char byte : character) symbols.push_back(byte_ids_[to_byte(byte)]);
    } else if (parts_.unknown < 0) {
      refuse(character);
    } else {
      if (!parts_.fuse_unknown) put_unknown();
      waiting = true;
    }
  }
  put_unknown();
}

void BpeModel::merge_short(Symbols& symbols) const {
  std::array<MergeTable::Rule, kShortSymbols> rules;  // of each symbol with the next
  const auto rule_at = [&](std::size_t at) {
    const auto* const rule =
        at + 1 < symbols.size() ? merges_.find(symbols[at], symbols[at + 1]) : nullptr;
    return rule == nullptr ? MergeTable::Rule{kNoRank, 0} : *rule;
  };
  for (std::size_t at = 0; at < symbols.size(); ++at) rules[at] = rule_at(at);
  for (;;) {
    const auto end = rules.begin() + static_cast<std::ptrdiff_t>(symbols.size());
    const auto best = std::min_element(
        rules.begin(), end, [](const auto& a, const auto& b) { return a.rank < b.rank; });
    if (best == end || best->rank == kNoRank) return;
    const auto at = best - rules.begin();
    const auto index = static_cast<std::size_t>(at);
    symbols[index] = best->joined;
    symbols.erase(symbols.begin() + at + 1);
    std::copy(rules.begin() + at + 2, end, rules.begin() + at + 1);
    rules[index] = rule_at(index);
    if (index > 0) rules[index - 1] = rule_at(index - 1);
  }
}

namespace {

using Place = std::uint32_t;

/// Places of one rank, the leftmost first. Nearly all come in order and stay in a list; the others
/// go on a heap.
class Places {
 public:
  void add(Place place) {
    if (ordered_.empty() || place >= ordered_.back()) return ordered_.push_back(place);
    late_.push_back(place);
    std::push_heap(late_.begin(), late_.end(), std::greater<>());
  }
  bool empty() const { return taken_ == ordered_.size() && late_.empty(); }
  Place take() {
    if (late_.empty() || (taken_ < ordered_.size() && ordered_[taken_] <= late_.front())) {
      return ordered_[taken_++];
    }
    std::pop_heap(late_.begin(), late_.end(), std::greater<>());
    const Place place = late_.back();
    late_.pop_back();
    return place;
  }

 private:
  std::vector<Place> ordered_;
  std::size_t taken_ = 0;
  std::vector<Place> late_;
};

}  // namespace

void merge_long(const MergeTable& merges, std::vector<TokenId>& symbols) {
  const std::size_t count = symbols.size();
  if (count >= std::numeric_limits<Place>::max()) {
    throw base::InputError("cannot tokenize a text that has no place to cut it for 4 GiB");
  }
  const auto end = static_cast<Place>(count);
  constexpr TokenId kGone = -1;
  std::vector<Place> next(count);
  std::vector<Place> previous(count);
  std::map<std::uint32_t, Places> waiting;
  const auto offer = [&](Place left) {
    if (next[left] == end) return;
    const auto* const rule = merges.find(symbols[left], symbols[next[left]]);
    if (rule != nullptr) waiting[rule->rank].add(left);
  };
  for (Place at = 0; at < end; ++at) {
    next[at] = at + 1;
    previous[at] = at == 0 ? end : at - 1;
  }
  for (Place at = 0; at < end; ++at) offer(at);
  while (!waiting.empty()) {
    const auto lowest = waiting.begin();
    const std::uint32_t rank = lowest->first;
    const Place left = lowest->second.take();
    if (lowest->second.empty()) waiting.erase(lowest);
    if (symbols[left] == kGone || next[left] == end) continue;
    const Place right = next[left];
    const auto* const rule = merges.find(symbols[left], symbols[right]);
    if (rule == nullptr || rule->rank != rank) continue;  // has changed since it was offered
    symbols[left] = rule->joined;
    symbols[right] = kGone;
    next[left] = next[right];
    if (next[left] != end) previous[next[left]] = left;
    if (previous[left] != end) offer(previous[left]);
    offer(left);
  }
  std::erase(symbols, kGone);
}

}  // namespace longspan::data::hf
