#include "data/hf/hf_tokenizer.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/parallel.h"
#include "data/hf/word_cache.h"
#include "data/utf8.h"
#include "longspan/base/error.h"
#include "longspan/base/file.h"

namespace longspan::data::hf {
namespace {

constexpr std::size_t kParallelBytes = std::size_t{1} << 20U;
constexpr std::size_t kPartBytes = std::size_t{256} << 10U;
constexpr std::size_t kNotedPlaces = 1024;

/// What this thread remembers of a tokenizer's words.
WordCache& cache_of(std::uint64_t instance) {
  thread_local WordCache cache;
  thread_local std::uint64_t owner = 0;
  if (owner != instance) {
    cache = WordCache();
    owner = instance;
  }
  return cache;
}

/// A part of a text that is cut by several threads at once, each from a place that need not be the
/// end of a match. The places where its matches begin are noted: once the part before arrives at
/// one of them, all that follows is as if one thread had done it.
struct Part {
  std::size_t end = 0;      ///< the last match begins before it
  std::size_t reached = 0;  ///< where that match ended
  std::vector<TokenId> ids;
  std::vector<std::pair<std::size_t, std::size_t>> places;  ///< and how many ids there were

  /// How many ids there were at a noted place; none for another place.
  std::optional<std::size_t> ids_at(std::size_t place) const {
    const auto found =
        std::lower_bound(places.begin(), places.end(), std::pair(place, std::size_t{0}));
    if (found == places.end() || found->first != place) return std::nullopt;
    return found->second;
  }
};

bool is_space(char byte) { return byte == ' ' || byte == '\n' || byte == '\r' || byte == '\t'; }

/// The first place in [begin, end) where white space ends; `end` when there is none. There matches
/// of the patterns in use begin or end soon. In a run of one kind, where one match may go on to the
/// end of the text, no part begins: it would only repeat the work of the part before.
std::size_t part_begin(std::string_view text, std::size_t begin, std::size_t end) {
  if (begin == 0) return 0;
  for (std::size_t at = begin; at < end; ++at) {
    if (is_space(text[at - 1]) && !is_space(text[at])) return at;
  }
  return end;
}

}  // namespace

std::vector<TokenId> HfTokenizer::encode(std::string_view text) const {
  return encode_text(text, /*with_special=*/false);
}

std::vector<TokenId> HfTokenizer::encode_with_special(std::string_view text) const {
  return encode_text(text, /*with_special=*/true);
}

std::vector<TokenId> HfTokenizer::encode_text(std::string_view text, bool with_special) const {
  std::vector<TokenId> ids;
  ids.reserve(text.size() / 4);
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t end = valid_end(text, at);
    if (at < end) encode_valid(text.substr(at, end - at), at == 0, with_special, ids);
    at = end;
    while (at < text.size() && character_at(text, at).code >= kInvalidByte) ++at;
    if (end < at) model_->encode_bytes(text.substr(end, at - end), ids);
  }
  return ids;
}

void HfTokenizer::encode_valid(std::string_view text, bool first, bool with_special,
                               std::vector<TokenId>& ids) const {
  for (const auto& section : finder_.sections(text, with_special)) {
    if (section.token != nullptr) {
      ids.push_back(section.token->id);
      continue;
    }
    const bool at_begin = section.text.data() == text.data();
    if (normalizer_.changes_nothing()) {
      encode_normalized(section.text, first && at_begin, with_special, ids);
    } else {
      const std::string normalized = normalizer_.apply(section.text, first || !at_begin);
      encode_normalized(normalized, first && at_begin, with_special, ids);
    }
  }
}

void HfTokenizer::encode_normalized(std::string_view text, bool first, bool with_special,
                                    std::vector<TokenId>& ids) const {
  for (const auto& section : normalized_finder_.sections(text, with_special)) {
    if (section.token != nullptr) {
      ids.push_back(section.token->id);
    } else {
      encode_section(section.text, first && section.text.data() == text.data(), ids);
    }
  }
}

void HfTokenizer::encode_section(std::string_view text, bool first,
                                 std::vector<TokenId>& ids) const {
  if (text.size() >= kParallelBytes && pre_tokenizer_.resumable() != nullptr &&
      base::worker_threads() > 1) {
    return encode_parallel(text, first, ids);
  }
  WordCache& cache = cache_of(instance_);
  pre_tokenizer_.split(text, first,
                       [&](std::string_view piece, bool) { model_->encode(piece, cache, ids); });
}

void HfTokenizer::encode_parallel(std::string_view text, bool first,
                                  std::vector<TokenId>& ids) const {
  const Splitter& splitter = *pre_tokenizer_.resumable();
  const AgedText aged(text);
  // Pieces from `begin` on, while `go_on` says so.
  const auto run = [&](std::size_t begin, const std::function<bool(std::size_t)>& go_on,
                       std::vector<TokenId>& result) {
    MatchScratch scratch;
    WordCache& cache = cache_of(instance_);
    const PieceSink encode = [&](std::string_view piece, bool) {
      model_->encode(piece, cache, result);
    };
    return splitter.split_from(aged, begin, first, scratch, go_on,
                               pre_tokenizer_.behind_first(scratch, encode));
  };
  std::vector<Part> parts((text.size() + kPartBytes - 1) / kPartBytes);
  base::parallel_for(static_cast<std::int64_t>(parts.size()), base::worker_threads(),
                     [&](std::int64_t number) {
                       Part& part = parts[static_cast<std::size_t>(number)];
                       const std::size_t begin = static_cast<std::size_t>(number) * kPartBytes;
                       part.end = std::min(text.size(), begin + kPartBytes);
                       const auto go_on = [&](std::size_t at) {
                         if (part.places.size() < kNotedPlaces)
                           part.places.emplace_back(at, part.ids.size());
                         return at < part.end;
                       };
                       const std::size_t from = part_begin(text, begin, part.end);
                       if (from < part.end) part.reached = run(from, go_on, part.ids);
                     });
  std::size_t at = 0;
  for (const Part& part : parts) {
    const auto go_on = [&](std::size_t place) {
      return place < part.end && !part.ids_at(place).has_value();
    };
    at = run(at, go_on, ids);
    const std::optional<std::size_t> known = part.ids_at(at);
    if (!known) continue;
    ids.insert(ids.end(), part.ids.begin() + static_cast<std::ptrdiff_t>(*known), part.ids.end());
    at = part.reached;
  }
}

std::string HfTokenizer::decode(const std::vector<TokenId>& ids) const {
  std::string text;
  for (const TokenId id : ids) {
    if (id < 0 || id >= vocab_size()) {
      throw base::InputError(
          fmt::format("cannot decode token {}: the tokenizer has {} ids", id, vocab_size()));
    }
    text += decoded_[static_cast<std::size_t>(id)];
  }
  std::size_t spaces = 0;
  while (spaces < static_cast<std::size_t>(prefix_spaces_) && spaces < text.size() &&
         text[spaces] == ' ') {
    ++spaces;
  }
  return text.erase(0, spaces);
}

std::optional<TokenId> HfTokenizer::special_id(std::string_view content) const {
  const auto found = special_ids_.find(std::string(content));
  if (found == special_ids_.end()) return std::nullopt;
  return found->second;
}

std::string HfTokenizer::hash() const {
  const std::string all = files_.at("tokenizer.json") + hashed_extra_;
  return base::xxh3_hex(all.data(), all.size());
}

void HfTokenizer::save(const std::filesystem::path& directory) const {
  base::make_directories(directory);
  for (const auto& [name, contents] : files_) base::replace_file(directory / name, contents);
}

}  // namespace longspan::data::hf
