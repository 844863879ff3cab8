#include "longspan/data/bpe_trainer.h"

#include <catch2/catch.hpp>
#include <map>
#include <nlohmann/json.hpp>

#include "data/hf/bpe.h"
#include "data/hf/pair_counter.h"
#include "longspan/base/error.h"
#include "longspan/base/file.h"
#include "longspan/data/decode_corpus.h"
#include "longspan/data/token_file.h"
#include "longspan/data/tokenizer.h"
#include "sample_text.h"
#include "tests/support/temporary_directory.h"

namespace longspan::data {
namespace {

using longspan::test::TemporaryDirectory;

constexpr std::int32_t kVocabulary = 320;

std::string train(const TemporaryDirectory& directory, const std::string& name) {
  const std::string text = directory.write("text.txt", sample_text(60000, 1));
  train_bpe({text}, {.text = {}, .vocab_size = kVocabulary}, directory.file(name));
  return directory.file(name);
}

TEST_CASE("the same text trains the same tokenizer.json, which gives back every byte") {
  const TemporaryDirectory directory;
  const std::string first = train(directory, "first.json");
  CHECK((base::read_text(first) == base::read_text(train(directory, "second.json"))));
  const auto tokenizer = load_tokenizer(first);
  CHECK(tokenizer->name() == "bpe");
  CHECK(tokenizer->vocab_size() == kVocabulary);
  CHECK(tokenizer->eos_id() == kVocabulary - 1);
  CHECK(tokenizer->bos_id() == kVocabulary - 1);
  const std::string text = sample_text(10000, 7);
  CHECK(2 * tokenizer->encode(text).size() < text.size());
  std::mt19937 random(3);
  for (int round = 0; round < 300; ++round) {
    std::string bytes(random() % 60, ' ');
    for (char& byte : bytes) byte = static_cast<char>(random());
    REQUIRE(tokenizer->decode(tokenizer->encode(bytes)) == bytes);
  }
}

/// The pair to join and its count, from the definition.
std::pair<std::pair<TokenId, TokenId>, std::int64_t> plain_most_frequent(
    const std::vector<std::pair<std::vector<TokenId>, std::int64_t>>& words) {
  std::map<std::pair<TokenId, TokenId>, std::int64_t> counts;
  for (const auto& [tokens, count] : words) {
    for (std::size_t at = 0; at + 1 < tokens.size(); ++at) {
      counts[{tokens[at], tokens[at + 1]}] += count;
    }
  }
  std::pair<std::pair<TokenId, TokenId>, std::int64_t> best{{0, 0}, 0};
  for (const auto& [pair, count] : counts) {
    if (count > best.second) best = {pair, count};
  }
  return best;
}

TEST_CASE("pairs are joined in the order of their counts, as counting anew each time has it") {
  std::mt19937 random(1);
  std::vector<std::pair<std::vector<TokenId>, std::int64_t>> words;
  hf::PairCounter pairs;
  for (int word = 0; word < 300; ++word) {
    std::vector<TokenId> tokens(2 + random() % 12);
    for (TokenId& token : tokens) token = static_cast<TokenId>(random() % 4);
    const auto count = static_cast<std::int64_t>(1 + random() % 5);
    words.emplace_back(tokens, count);
    pairs.add_word(tokens, count);
  }
  TokenId next = 4;
  for (;; ++next) {
    const auto [wanted, count] = plain_most_frequent(words);
    hf::PairCounter::Pair pair;
    const bool found = pairs.most_frequent(pair);
    REQUIRE(found == (count > 0));
    if (!found) break;
    REQUIRE(std::pair(pair.left, pair.right) == wanted);
    pairs.join(pair, next);
    for (auto& [tokens, ignored] : words) {
      for (std::size_t at = 0; at + 1 < tokens.size(); ++at) {
        if (tokens[at] != pair.left || tokens[at + 1] != pair.right) continue;
        tokens[at] = next;
        tokens.erase(tokens.begin() + static_cast<std::ptrdiff_t>(at) + 1);
      }
    }
  }
  CHECK(next > 500);
}

TEST_CASE("a text too small for the vocabulary is refused") {
  const TemporaryDirectory directory;
  const std::string text = directory.write("in.txt", "hello hello");
  CHECK_THROWS_WITH(train_bpe({text}, {.text = {}, .vocab_size = 400}, directory.file("out.json")),
                    Catch::Contains("400 ids on 11 bytes"));
  CHECK_FALSE(std::filesystem::exists(directory.path() / "out.json"));
}

/// Byte-pair encoding as it is defined.
std::vector<TokenId> plain_merge(const hf::MergeTable& merges, std::vector<TokenId> symbols) {
  for (;;) {
    const hf::MergeTable::Rule* best = nullptr;
    std::size_t place = 0;
    for (std::size_t at = 0; at + 1 < symbols.size(); ++at) {
      const auto* const rule = merges.find(symbols[at], symbols[at + 1]);
      if (rule != nullptr && (best == nullptr || rule->rank < best->rank)) best = rule, place = at;
    }
    if (best == nullptr) return symbols;
    symbols[place] = best->joined;
    symbols.erase(symbols.begin() + static_cast<std::ptrdiff_t>(place) + 1);
  }
}

TEST_CASE("long pieces are merged as the definition has it, whatever the order of the merges") {
  std::mt19937 random(2);
  for (int round = 0; round < 200; ++round) {
    // Ranks in any order: a merge may make a pair that ranks before it.
    std::vector<hf::MergeRule> rules;
    for (TokenId joined = 3; joined < 30; ++joined) {
      const auto pick = [&] { return static_cast<TokenId>(random() % joined); };
      rules.push_back({pick(), pick(), joined});
    }
    std::shuffle(rules.begin(), rules.end(), random);
    std::map<std::pair<TokenId, TokenId>, hf::MergeRule> unique;
    for (const auto& rule : rules) unique.emplace(std::pair(rule.left, rule.right), rule);
    rules.clear();
    for (const auto& [pair, rule] : unique) rules.push_back(rule);
    std::shuffle(rules.begin(), rules.end(), random);
    const hf::MergeTable merges(rules);
    std::vector<TokenId> symbols(random() % 200);
    for (TokenId& symbol : symbols) symbol = static_cast<TokenId>(random() % 3);
    std::vector<TokenId> merged = symbols;
    hf::merge_long(merges, merged);
    REQUIRE(merged == plain_merge(merges, symbols));
  }
}

TEST_CASE("a token file is decoded to the text it was made from") {
  const TemporaryDirectory directory;
  const auto tokenizer = load_tokenizer(train(directory, "a.json"));
  const auto writer = TokenFileWriter::create(directory.path() / "a.tokens", TokenFormat::kTokens,
                                              tokenizer->vocab_size(), tokenizer->hash());
  const std::vector<std::string> texts = {sample_text(1000, 3), "\xff\xfe\n", "the end"};
  for (const std::string& text : texts) {
    std::vector<TokenId> ids = tokenizer->encode(text);
    ids.insert(ids.begin(), tokenizer->bos_id());
    ids.push_back(tokenizer->eos_id());
    writer->add_document(ids, static_cast<std::int64_t>(text.size()));
  }
  writer->finish();
  const auto tokens = TokenFile::open(directory.path() / "a.tokens");
  const CorpusCounts counts = decode_corpus(*tokens, *tokenizer, directory.path() / "out.txt");
  CHECK(counts.documents == 3);
  CHECK((base::read_text(directory.path() / "out.txt") == texts[0] + texts[1] + texts[2]));
  CHECK_THROWS_WITH(decode_corpus(*tokens, *tokenizer, directory.path() / "out.jsonl"),
                    Catch::Contains("document 1") && Catch::Contains("UTF-8"));
  CHECK_FALSE(std::filesystem::exists(directory.path() / "out.jsonl"));
  CHECK_FALSE(std::filesystem::exists(directory.path() / "out.jsonl.tmp"));
  CHECK_THROWS_WITH(decode_corpus(*tokens, *load_tokenizer("bytes"), directory.path() / "out.txt"),
                    Catch::Contains("another tokenizer"));
}

}  // namespace
}  // namespace longspan::data
