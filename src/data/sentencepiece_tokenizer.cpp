#include "data/sentencepiece_tokenizer.h"

#include <fmt/format.h>

#include <charconv>
#include <nlohmann/json.hpp>

#include "base/parallel.h"
#include "longspan/base/error.h"
#include "longspan/base/file.h"
#include "longspan/base/json.h"

namespace longspan::data {
namespace {

constexpr char32_t kSpaceMarkCode = 0x2581;
constexpr std::string_view kSpaceMark = "\xe2\x96\x81";
constexpr std::string_view kReplacement = "\xef\xbf\xbd";  // U+FFFD: what an unknown id decodes to
constexpr std::size_t kParallelBytes = std::size_t{1} << 20U;
constexpr std::size_t kCachedBytes = 32;  ///< longer words are not remembered
constexpr std::size_t kGroupBlocks = 8;   ///< blocks that share what is remembered

std::string replace_all(std::string_view text, std::string_view from, std::string_view to) {
  std::string result;
  std::size_t begin = 0;
  for (std::size_t at = text.find(from); at != text.npos; at = text.find(from, begin)) {
    result.append(text, begin, at - begin).append(to);
    begin = at + from.size();
  }
  return result.append(text, begin);
}

void append(std::vector<TokenId>& ids, const std::vector<TokenId>& more) {
  ids.insert(ids.end(), more.begin(), more.end());
}

std::vector<TokenId> encode_with(const sentencepiece::SentencePieceProcessor& processor,
                                 std::string_view text) {
  std::vector<TokenId> ids;
  const auto status = processor.Encode({text.data(), text.size()}, &ids);
  if (!status.ok()) {
    throw base::InternalError(fmt::format("sentencepiece cannot encode: {}", status.ToString()));
  }
  return ids;
}

bool is_word(char letter) {
  return (letter >= 'a' && letter <= 'z') || (letter >= 'A' && letter <= 'Z') ||
         (letter >= '0' && letter <= '9');
}

/// The value of a byte piece, spelled <0x41>; -1 for another spelling.
int byte_of(std::string_view piece) {
  if (piece.size() != 6 || !piece.starts_with("<0x") || piece[5] != '>') return -1;
  int value = -1;
  const auto end = std::from_chars(piece.data() + 3, piece.data() + 5, value, 16);
  return end.ptr == piece.data() + 5 ? value : -1;
}

/// Runs `encode` over the parts of a text, on all cores when it is long, and joins their ids.
template <typename Encode>
std::vector<TokenId> encode_parts(std::size_t bytes, std::size_t count, const Encode& encode) {
  std::vector<std::vector<TokenId>> parts(count);
  base::parallel_for(static_cast<std::int64_t>(count),
                     bytes < kParallelBytes ? 1 : base::worker_threads(), [&](std::int64_t part) {
                       encode(static_cast<std::size_t>(part),
                              parts[static_cast<std::size_t>(part)]);
                     });
  if (count == 1) return std::move(parts[0]);
  std::vector<TokenId> ids;
  std::size_t tokens = 0;
  for (const auto& part : parts) tokens += part.size();
  ids.reserve(tokens);
  for (const auto& part : parts) append(ids, part);
  return ids;
}

}  // namespace

SentencePieceTokenizer::SentencePieceTokenizer(std::string model, const std::string& source)
    : model_(std::move(model)) {
  try {
    settings_ = read_sentencepiece_settings(model_);
  } catch (const base::InputError& error) {
    throw base::InputError(fmt::format("cannot load the tokenizer {}: {}", source, error.what()));
  }
  load_processors(source);
  read_vocabulary(source);
}

void SentencePieceTokenizer::load_processors(const std::string& source) {
  using Algorithm = SentencePieceSettings::Algorithm;
  const auto refuse = [&](const std::string& why) {
    throw base::InputError(fmt::format("cannot load the tokenizer {}: {}", source, why));
  };
  if (settings_.algorithm != Algorithm::kBpe && settings_.algorithm != Algorithm::kUnigram) {
    refuse("sentencepiece models must be BPE or unigram, this one splits by word or character");
  }
  if (settings_.whitespace_suffix || !settings_.escape_whitespaces) {
    refuse("models with spaces as suffixes, or not marked by U+2581, are not supported");
  }
  const auto load = [&](Processor& processor, const std::string& bytes) {
    const auto status = processor.LoadFromSerializedProto(bytes);
    if (!status.ok()) refuse("not a sentencepiece model, or damaged: " + status.ToString());
  };
  if (settings_.keeps_text()) {
    load(processor_, with_dummy_prefix(model_, false));
  } else {
    load(processor_, model_);
    load(later_processor_, with_dummy_prefix(model_, true));
  }
  eos_ = processor_.eos_id();
  bos_ = processor_.bos_id() >= 0 ? processor_.bos_id() : eos_;
  if (eos_ < 0) refuse("it has no piece that ends a document (</s>)");
}

void SentencePieceTokenizer::read_vocabulary(const std::string& source) {
  const int size = processor_.GetPieceSize();
  decoded_.resize(static_cast<std::size_t>(size));
  for (int id = 0; id < size; ++id) has_byte_pieces_ = has_byte_pieces_ || processor_.IsByte(id);
  cutter_ = std::make_unique<PieceCutter>(!has_byte_pieces_);
  byte_ids_.fill(processor_.unk_id());
  std::vector<std::pair<TokenId, std::string>> special;
  for (int id = 0; id < size; ++id) {
    std::string& bytes = decoded_[static_cast<std::size_t>(id)];
    const std::string& piece = processor_.IdToPiece(id);
    const bool is_special = processor_.IsControl(id) || processor_.IsUnknown(id);
    if (is_special && !piece.empty()) special.emplace_back(id, piece);
    if (processor_.IsControl(id)) continue;
    if (processor_.IsUnknown(id)) {
      bytes = kReplacement;
    } else if (processor_.IsByte(id)) {
      const int byte = byte_of(piece);
      if (byte < 0) {
        throw base::InputError(fmt::format(
            "cannot load the tokenizer {}: piece {} is to be a byte but is no <0x00> to <0xFF>",
            source, id));
      }
      bytes.assign(1, static_cast<char>(byte));
      byte_ids_[static_cast<std::size_t>(byte)] = id;
    } else {
      bytes = replace_all(piece, kSpaceMark, " ");
      cutter_->add_piece(bytes);
    }
  }
  cutter_->finish();
  special_ = hf::TokenFinder::of_contents(special);
}

std::string SentencePieceTokenizer::hash() const {
  return base::xxh3_hex(model_.data(), model_.size());
}

std::vector<TokenId> SentencePieceTokenizer::encode(std::string_view text) const {
  if (text.empty()) return {};
  if (!settings_.keeps_text()) return encode_normalised(text);
  if (!settings_.add_dummy_prefix) return encode_kept(text);
  return encode_kept(std::string(" ").append(text));
}

std::vector<TokenId> SentencePieceTokenizer::encode_with_special(std::string_view text) const {
  return special_.encode(text, [&](std::string_view part, bool first) {
    return first || !settings_.keeps_text() ? encode(part) : encode_kept(part);
  });
}

std::optional<TokenId> SentencePieceTokenizer::special_id(std::string_view content) const {
  const int id = processor_.PieceToId({content.data(), content.size()});
  const bool is_it =
      processor_.IdToPiece(id) == content && (processor_.IsControl(id) || processor_.IsUnknown(id));
  return is_it ? std::optional<TokenId>(id) : std::nullopt;
}

/// A character that must not reach the library: it would come back as another one.
bool SentencePieceTokenizer::is_special(char32_t code) const {
  return code >= kInvalidByte || (code == kSpaceMarkCode && has_byte_pieces_);
}

std::vector<TokenId> SentencePieceTokenizer::encode_kept(std::string_view text) const {
  const std::vector<std::size_t> ends = block_ends(text, *cutter_);
  const std::size_t groups = (ends.size() + kGroupBlocks - 1) / kGroupBlocks;
  return encode_parts(text.size(), groups, [&](std::size_t group, std::vector<TokenId>& ids) {
    WordCache cache;
    const std::size_t last = std::min(ends.size(), (group + 1) * kGroupBlocks);
    for (std::size_t block = group * kGroupBlocks; block < last; ++block) {
      const std::size_t begin = block == 0 ? 0 : ends[block - 1];
      encode_block(text.substr(begin, ends[block] - begin), cache, ids);
    }
  });
}

void SentencePieceTokenizer::encode_block(std::string_view block, WordCache& cache,
                                          std::vector<TokenId>& ids) const {
  // Between two allowed cuts lies about a word; words recur, so most are encoded only once.
  const auto encode_word = [&](std::string_view word) {
    if (word.size() > kCachedBytes) return append(ids, encode_with(processor_, word));
    auto known = cache.find(word);
    if (known == cache.end()) {
      known = cache.emplace(word, encode_with(processor_, word)).first;
    }
    append(ids, known->second);
  };
  std::size_t begin = 0;
  char32_t left = 0;
  for (std::size_t position = 0; position < block.size();) {
    const Character character = character_at(block, position);
    const bool special = is_special(character.code);
    if (begin < position && (special || cutter_->may_cut(left, character.code))) {
      encode_word(block.substr(begin, position - begin));
      begin = position;
    }
    left = character.code;
    position += character.bytes;
    if (special) {
      add_special(block.substr(begin, character.bytes), ids);
      begin = position;
    }
  }
  if (begin < block.size()) encode_word(block.substr(begin));
}

void SentencePieceTokenizer::add_special(std::string_view bytes, std::vector<TokenId>& ids) const {
  for (const char byte : bytes) ids.push_back(byte_ids_[static_cast<unsigned char>(byte)]);
}

std::vector<TokenId> SentencePieceTokenizer::encode_normalised(std::string_view text) const {
  // A block ends before a single space between two ASCII words. The space is left out: the next
  // block gets it back as the prefix that the library adds. A block without such a place ends
  // after kParallelBytes all the same.
  std::vector<std::string_view> blocks;
  std::size_t begin = 0;
  for (std::size_t at = kBlockBytes; at + 1 < text.size(); ++at) {
    if (at - begin < kBlockBytes) continue;
    const char before = text[at - 1];
    const bool at_space = text[at] == ' ' && is_word(before) && is_word(text[at + 1]) &&
                          cutter_->may_cut(static_cast<unsigned char>(before), ' ');
    const bool inside = (static_cast<unsigned char>(text[at]) & 0xc0U) == 0x80;
    if (!at_space && (inside || at - begin < kParallelBytes)) continue;
    blocks.push_back(text.substr(begin, at - begin));
    begin = at_space ? at + 1 : at;
  }
  blocks.push_back(text.substr(begin));
  return encode_parts(text.size(), blocks.size(), [&](std::size_t block, auto& ids) {
    ids = encode_with(block == 0 ? processor_ : later_processor_, blocks[block]);
  });
}

std::string SentencePieceTokenizer::decode(const std::vector<TokenId>& ids) const {
  std::string text;
  for (const TokenId id : ids) {
    if (id < 0 || id >= vocab_size()) {
      throw base::InputError(
          fmt::format("cannot decode token {}: the tokenizer has {} ids", id, vocab_size()));
    }
    text += decoded_[static_cast<std::size_t>(id)];
  }
  const bool has_prefix = settings_.add_dummy_prefix || settings_.remove_extra_whitespaces;
  if (has_prefix && text.starts_with(' ')) text.erase(0, 1);
  return text;
}

void SentencePieceTokenizer::save(const std::filesystem::path& directory) const {
  base::make_directories(directory);
  base::replace_file(directory / "tokenizer.model", model_);
  const bool as_json =
      settings_.keeps_text() && settings_.algorithm == SentencePieceSettings::Algorithm::kBpe;
  // transformers turns a bare tokenizer.model into a tokenizer that always adds a space before
  // the text and needs the Python packages of sentencepiece; tokenizer.json is exact.
  nlohmann::json config = {
      {"tokenizer_class", as_json ? "PreTrainedTokenizerFast" : "LlamaTokenizer"},
      {"bos_token", processor_.IdToPiece(bos_)},
      {"eos_token", processor_.IdToPiece(eos_)},
      {"unk_token", processor_.IdToPiece(processor_.unk_id())},
      {"clean_up_tokenization_spaces", false},
      {kExactFile, "tokenizer.model"}};
  if (as_json) {
    base::replace_file(directory / "tokenizer.json", tokenizer_json(processor_, settings_));
  }
  base::replace_file(directory / "tokenizer_config.json", base::json_text(config, 2) + "\n");
}

}  // namespace longspan::data
