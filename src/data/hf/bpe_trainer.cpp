#include "longspan/data/bpe_trainer.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <unordered_map>

#include "base/parallel.h"
#include "data/hf/byte_level.h"
#include "data/hf/pair_counter.h"
#include "data/hf/splitter.h"
#include "data/training_text.h"
#include "data/utf8.h"
#include "longspan/base/error.h"
#include "longspan/base/file.h"
#include "longspan/base/json.h"

namespace longspan::data {
namespace {

using Json = nlohmann::json;
using WordCounts = std::unordered_map<std::string, std::int64_t>;

constexpr std::int32_t kBytes = 256;
constexpr const char* kEndOfText = "<|endoftext|>";
/// Llama 3's: contractions, words with the character before them, up to three digits, runs of other
/// characters, ends of lines, white space but for the last before a word.
constexpr const char* kPattern =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*)"
    R"(|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr std::size_t kBatch = 4096;         ///< stretches that are cut at once
constexpr std::size_t kTaskStretches = 256;  ///< of them, in one thread

void count_words(std::string_view text, const hf::Splitter& splitter, hf::MatchScratch& scratch,
                 WordCounts& counts) {
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t end = valid_end(text, at);
    if (at == end) {
      ++at;
      continue;
    }
    splitter.split(text.substr(at, end - at), false, scratch,
                   [&](std::string_view word, bool) { ++counts[std::string(word)]; });
    at = end;
  }
}

/// Counts the words of a batch of stretches, on all cores, and adds them to `counts`.
void count_batch(const std::vector<std::string>& batch, const hf::Splitter& splitter,
                 WordCounts& counts) {
  const std::size_t tasks = (batch.size() + kTaskStretches - 1) / kTaskStretches;
  std::vector<WordCounts> found(tasks);
  base::parallel_for(static_cast<std::int64_t>(tasks), base::worker_threads(),
                     [&](std::int64_t number) {
                       const auto task = static_cast<std::size_t>(number);
                       hf::MatchScratch scratch;
                       const std::size_t end = std::min(batch.size(), (task + 1) * kTaskStretches);
                       for (std::size_t index = task * kTaskStretches; index < end; ++index) {
                         count_words(batch[index], splitter, scratch, found[task]);
                       }
                     });
  for (const WordCounts& part : found) {
    for (const auto& [word, count] : part) counts[word] += count;
  }
}

WordCounts count_corpus(TrainingText& text) {
  const hf::Splitter splitter(hf::Pattern::regex(kPattern), hf::SplitBehavior::kIsolated, false);
  WordCounts counts;
  std::vector<std::string> batch;
  for (std::string_view stretch; text.next(stretch);) {
    batch.emplace_back(stretch);
    if (batch.size() < kBatch) continue;
    count_batch(batch, splitter, counts);
    batch.clear();
  }
  count_batch(batch, splitter, counts);
  return counts;
}

/// Tokens by id, as bytes, and the pairs that were joined.
struct Vocabulary {
  std::vector<std::string> tokens;
  std::vector<hf::PairCounter::Pair> merges;
};

/// False when there was nothing left to join before there were `size` tokens.
bool join_pairs(const WordCounts& counts, std::size_t size, Vocabulary& vocabulary) {
  hf::PairCounter pairs;
  std::unordered_map<std::string, TokenId> ids;
  for (int byte = 0; byte < kBytes; ++byte) {
    vocabulary.tokens.emplace_back(1, static_cast<char>(byte));
    ids.emplace(vocabulary.tokens.back(), byte);
  }
  for (const auto& [word, count] : counts) {
    std::vector<TokenId> tokens;
    for (const char byte : word) tokens.push_back(static_cast<unsigned char>(byte));
    if (tokens.size() > 1) pairs.add_word(std::move(tokens), count);
  }
  while (vocabulary.tokens.size() < size) {
    hf::PairCounter::Pair pair;
    if (!pairs.most_frequent(pair)) return false;
    const std::string joined = vocabulary.tokens[static_cast<std::size_t>(pair.left)] +
                               vocabulary.tokens[static_cast<std::size_t>(pair.right)];
    // Two pairs may give the same bytes: one token.
    const auto [known, is_new] =
        ids.emplace(joined, static_cast<TokenId>(vocabulary.tokens.size()));
    if (is_new) vocabulary.tokens.push_back(joined);
    vocabulary.merges.push_back(pair);
    pairs.join(pair, known->second);
  }
  return true;
}

std::string spelled(std::string_view bytes) {
  std::string token;
  for (const char byte : bytes) token += hf::byte_to_character(static_cast<unsigned char>(byte));
  return token;
}

std::string file_of(const Vocabulary& vocabulary) {
  Json tokens = Json::object();
  for (std::size_t id = 0; id < vocabulary.tokens.size(); ++id) {
    tokens[spelled(vocabulary.tokens[id])] = id;
  }
  Json merges = Json::array();
  for (const auto& [left, right] : vocabulary.merges) {
    merges.push_back({spelled(vocabulary.tokens[static_cast<std::size_t>(left)]),
                      spelled(vocabulary.tokens[static_cast<std::size_t>(right)])});
  }
  const Json split = {{"type", "Split"},
                      {"pattern", {{"Regex", kPattern}}},
                      {"behavior", "Isolated"},
                      {"invert", false}};
  const Json byte_level = {{"type", "ByteLevel"},
                           {"add_prefix_space", false},
                           {"trim_offsets", true},
                           {"use_regex", false}};
  const Json end_of_text = {{"id", vocabulary.tokens.size()},
                            {"content", kEndOfText},
                            {"single_word", false},
                            {"lstrip", false},
                            {"rstrip", false},
                            {"normalized", false},
                            {"special", true}};
  const Json model = {{"type", "BPE"},
                      {"dropout", nullptr},
                      {"unk_token", nullptr},
                      {"continuing_subword_prefix", nullptr},
                      {"end_of_word_suffix", nullptr},
                      {"fuse_unk", false},
                      {"byte_fallback", false},
                      {"ignore_merges", false},
                      {"vocab", tokens},
                      {"merges", merges}};
  const Json file = {{"version", "1.0"},
                     {"truncation", nullptr},
                     {"padding", nullptr},
                     {"added_tokens", Json::array({end_of_text})},
                     {"normalizer", nullptr},
                     {"pre_tokenizer",
                      {{"type", "Sequence"}, {"pretokenizers", Json::array({split, byte_level})}}},
                     {"post_processor", nullptr},
                     {"decoder", byte_level},
                     {"model", model}};
  return base::json_text(file) + "\n";
}

}  // namespace

void train_bpe(const std::vector<std::string>& inputs, const BpeTraining& training,
               const std::filesystem::path& output) {
  TrainingText text(inputs, training.text, training.max_bytes);
  const WordCounts counts = count_corpus(text);
  Vocabulary vocabulary;
  if (!join_pairs(counts, static_cast<std::size_t>(training.vocab_size - 1), vocabulary)) {
    throw base::InputError(fmt::format(
        "cannot train a tokenizer of {} ids on {} bytes of text: all its words are tokens with {}",
        training.vocab_size, text.total_bytes(), vocabulary.tokens.size() + 1));
  }
  base::replace_file(output, file_of(vocabulary));
}

}  // namespace longspan::data
