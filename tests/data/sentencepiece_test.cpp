#include <sentencepiece_processor.h>
#include <sentencepiece_trainer.h>

#include <catch2/catch.hpp>
#include <map>
#include <nlohmann/json.hpp>

#include "data/utf8.h"
#include "longspan/base/error.h"
#include "longspan/base/file.h"
#include "longspan/data/sentencepiece_trainer.h"
#include "longspan/data/tokenizer.h"
#include "sample_text.h"
#include "tests/support/temporary_directory.h"

namespace longspan::data {
namespace {

using longspan::test::TemporaryDirectory;

constexpr std::int32_t kVocabulary = 340;

/// A model of our own making, in a file.
std::string train(const TemporaryDirectory& directory, const std::string& name) {
  const std::string text = directory.write("text.txt", sample_text(60000, 1));
  train_sentencepiece({text}, {.text = {}, .vocab_size = kVocabulary}, directory.file(name));
  return directory.file(name);
}

/// Ids of the whole text by the library alone.
std::vector<TokenId> library_ids(const std::string& model, const std::string& text) {
  sentencepiece::SentencePieceProcessor processor;
  REQUIRE(processor.Load(model).ok());
  return processor.EncodeAsIds(text);
}

TEST_CASE("the same text trains the same model") {
  const TemporaryDirectory directory;
  const std::string first = train(directory, "first.model");
  const std::string second = train(directory, "second.model");
  CHECK(base::read_text(first) == base::read_text(second));
  const auto tokenizer = load_tokenizer(first);
  CHECK(tokenizer->name() == "sentencepiece");
  CHECK(tokenizer->vocab_size() == kVocabulary);
  CHECK(tokenizer->bos_id() == 1);
  CHECK(tokenizer->eos_id() == 2);
  CHECK(tokenizer->hash() == load_tokenizer(second)->hash());
  const std::string text = sample_text(10000, 7);
  CHECK(2 * tokenizer->encode(text).size() < text.size());  // words became pieces
}

TEST_CASE("a trained tokenizer gives back every text") {
  const TemporaryDirectory directory;
  const auto tokenizer = load_tokenizer(train(directory, "a.model"));
  const auto comes_back = [&](const std::string& text) {
    const std::vector<TokenId> ids = tokenizer->encode(text);
    for (const TokenId id : ids) {
      if (id < 3 || id >= kVocabulary) return false;
    }
    return tokenizer->decode(ids) == text;
  };
  using namespace std::string_literals;
  for (const std::string& text :
       {""s, " "s, "  the   light  "s, "\n\n\tthe\r\n"s, "the\0light"s, "\xe2\x96\x81the"s,
        "\xe2\x96\x85 \xe2\x81\x87"s, "<s></s><unk><0x41>"s, "\xff\xfe the"s, "\xe2\x96"s,
        "\xc0\x80\xed\xa0\x80\xf4\x90\x80\x80"s, "\xef\xbb\xbfthe\xef\xbf\xbd"s}) {
    CAPTURE(text);
    CHECK(comes_back(text));
  }
  std::mt19937 random(3);
  bool all = true;
  for (int round = 0; round < 300; ++round) {
    all = all && comes_back(random_unicode(random() % 60, random));
    std::string bytes(random() % 60, ' ');
    for (char& byte : bytes) byte = static_cast<char>(random());
    all = all && comes_back(bytes);
  }
  CHECK(all);
  CHECK(comes_back(sample_text(1500000, 4)));  // on several threads
}

TEST_CASE("runs of one character are encoded in blocks and come back") {
  const TemporaryDirectory directory;
  const auto tokenizer = load_tokenizer(train(directory, "a.model"));
  for (const auto& [letter, count] :
       {std::pair(' ', 5000000), {'e', 1000000}, {'\n', 300000}, {'\xff', 300000}}) {
    const std::string text(static_cast<std::size_t>(count), letter);
    CHECK((tokenizer->decode(tokenizer->encode(text)) == text));
  }
}

TEST_CASE("ids are those of the library for the whole text") {
  const TemporaryDirectory directory;
  std::unordered_map<std::string, std::string> settings = {
      {"input", directory.write("text.txt", sample_text(60000, 1))},
      {"model_prefix", directory.file("other")},
      {"vocab_size", "340"},
      {"num_threads", "1"},
      {"minloglevel", "3"}};
  SECTION("byte-pair encoding, a space before the text, byte pieces, as Llama 2") {
    settings.insert({{"model_type", "bpe"},
                     {"byte_fallback", "true"},
                     {"normalization_rule_name", "identity"},
                     {"remove_extra_whitespaces", "false"}});
  }
  SECTION("without byte pieces: unknown characters are merged") {
    settings.insert({{"model_type", "bpe"},
                     {"normalization_rule_name", "identity"},
                     {"remove_extra_whitespaces", "false"},
                     {"add_dummy_prefix", "false"}});
    settings["vocab_size"] = "90";
  }
  SECTION("unigram with the library's own normalisation") {
    settings.insert({{"model_type", "unigram"}});
    settings["vocab_size"] = "60";
  }
  SECTION("normalisation without a space before the text") {
    settings.insert({{"model_type", "bpe"}, {"add_dummy_prefix", "false"}});
    settings["vocab_size"] = "90";
  }
  REQUIRE(sentencepiece::SentencePieceTrainer::Train(settings).ok());
  const std::string model = directory.file("other.model");
  const auto tokenizer = load_tokenizer(model);
  std::string text = sample_text(300000, 9);
  CHECK((tokenizer->encode(text) == library_ids(model, text)));
  for (std::size_t at = text.find(' '); at != text.npos; at = text.find(' ', at + 997)) {
    text.insert(at, "\xc3\x9f\xf0\x9f\x98\x80 \xe1\xb8\x9b");  // unknown to the model
  }
  CHECK((tokenizer->encode(text) == library_ids(model, text)));
  CHECK(tokenizer->encode("  the light") == library_ids(model, "  the light"));
}

/// Byte-pair encoding straight from tokenizer.json: the first merge of the list that applies, at
/// its leftmost place, until none does.
std::vector<TokenId> plain_bpe(const nlohmann::json& file, const std::string& word) {
  std::map<std::pair<std::string, std::string>, std::size_t> ranks;
  for (const auto& merge : file["model"]["merges"]) {
    ranks.emplace(std::pair(merge[0].get<std::string>(), merge[1].get<std::string>()),
                  ranks.size());
  }
  std::vector<std::string> parts;
  for (std::size_t at = 0; at < word.size();) {
    const std::size_t bytes = character_at(word, at).bytes;
    parts.push_back(word.substr(at, bytes));
    at += bytes;
  }
  for (;;) {
    std::size_t best = ranks.size();
    std::size_t place = 0;
    for (std::size_t at = 0; at + 1 < parts.size(); ++at) {
      const auto rank = ranks.find({parts[at], parts[at + 1]});
      if (rank != ranks.end() && rank->second < best) best = rank->second, place = at;
    }
    if (best == ranks.size()) break;
    parts[place] += parts[place + 1];
    parts.erase(parts.begin() + static_cast<std::ptrdiff_t>(place) + 1);
  }
  std::vector<TokenId> ids;
  for (const std::string& part : parts) ids.push_back(file["model"]["vocab"][part]);
  return ids;
}

TEST_CASE("a saved tokenizer loads as the same, and tokenizer.json says the same") {
  const TemporaryDirectory directory;
  const auto tokenizer = load_tokenizer(train(directory, "a.model"));
  tokenizer->save(directory.path() / "saved");
  CHECK(load_tokenizer(directory.file("saved"))->hash() == tokenizer->hash());
  const auto file =
      nlohmann::json::parse(base::read_text(directory.path() / "saved" / "tokenizer.json"));
  CHECK(file["model"]["vocab"].size() == kVocabulary);
  CHECK(file["model"]["byte_fallback"] == true);
  for (const std::string word :
       {"heaven", "heavenearth", "lightdeepLORD", "thththee", ".,.\n\n."}) {
    CHECK(plain_bpe(file, word) == tokenizer->encode(word));
  }
}

TEST_CASE("impossible trainings are refused") {
  const TemporaryDirectory directory;
  const auto attempt = [&](std::string_view text, std::int32_t vocabulary) {
    train_sentencepiece({directory.write("in.txt", text)}, {.text = {}, .vocab_size = vocabulary},
                        directory.file("out.model"));
  };
  CHECK_THROWS_AS(attempt("", 300), base::InputError);
  CHECK_THROWS_AS(attempt("\xff\xff", 300), base::InputError);
  CHECK_THROWS_WITH(attempt("hello world", 5000), Catch::Contains("too high"));
  CHECK_THROWS_WITH(attempt("hello world", 261), Catch::Contains("smaller"));
  CHECK_FALSE(std::filesystem::exists(directory.path() / "out.model"));
}

TEST_CASE("a damaged model is refused or still works, but never crashes") {
  const TemporaryDirectory directory;
  const std::string model = base::read_text(train(directory, "a.model"));
  std::mt19937 random(5);
  int refused = 0;
  for (int round = 0; round < 150; ++round) {
    std::string damaged = model;
    if (round % 2 == 0) {
      damaged.resize(random() % model.size());
    } else {
      damaged[random() % std::min<std::size_t>(model.size(), round % 4 == 1 ? 40 : 100000)] ^=
          static_cast<char>(1U << (random() % 8));
    }
    try {
      const auto tokenizer = load_tokenizer(directory.write("damaged.model", damaged));
      tokenizer->decode(tokenizer->encode("the light of heaven"));
    } catch (const base::InputError&) {
      ++refused;
    }
  }
  CHECK(refused >= 50);
}

}  // namespace
}  // namespace longspan::data
