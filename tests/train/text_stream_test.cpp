#include "train/text_stream.h"

#include <catch2/catch.hpp>
#include <string_view>

#include "longspan/base/random.h"

namespace longspan::train {
namespace {

using data::TokenId;

std::unique_ptr<data::Tokenizer> bytes() { return data::load_tokenizer("bytes"); }

std::vector<TokenId> ids_of(std::string_view text) { return bytes()->encode(text); }

/// Words with a space before them, of which the text's first one is taken off, as sentencepiece
/// does.
class WordTokenizer : public data::Tokenizer {
 public:
  std::string name() const override { return "words"; }
  TokenId vocab_size() const override { return 4; }
  TokenId bos_id() const override { return 0; }
  TokenId eos_id() const override { return 0; }
  std::string hash() const override { return {}; }
  std::vector<TokenId> encode(std::string_view) const override { return {}; }
  std::vector<TokenId> encode_with_special(std::string_view) const override { return {}; }
  std::optional<TokenId> special_id(std::string_view) const override { return {}; }
  void save(const std::filesystem::path&) const override {}
  std::string decode(const std::vector<TokenId>& ids) const override {
    std::string text;
    for (const TokenId id : ids) text += id == 0 ? "" : id == 1 ? " one" : id == 2 ? " two" : "s";
    return text.starts_with(' ') ? text.substr(1) : text;
  }
};

/// What goes out token by token, and at the end.
std::vector<std::string> pieces_of(TextStream& stream, const std::vector<TokenId>& ids) {
  std::vector<std::string> pieces;
  for (const TokenId id : ids) {
    if (!stream.stopped()) pieces.push_back(stream.add(id));
  }
  pieces.push_back(stream.finish());
  return pieces;
}

std::string joined(const std::vector<std::string>& pieces) {
  std::string text;
  for (const std::string& piece : pieces) text += piece;
  return text;
}

using Pieces = std::vector<std::string>;

TEST_CASE("characters of several tokens go out whole") {
  const auto tokenizer = bytes();
  TextStream stream(*tokenizer, {}, {});
  CHECK(pieces_of(stream, ids_of("aé€😀")) ==
        Pieces{"a", "", "é", "", "", "€", "", "", "", "😀", ""});
}

TEST_CASE("bytes that are no character become U+FFFD, once that is certain") {
  const auto tokenizer = bytes();
  TextStream stream(*tokenizer, {}, {});
  CHECK(pieces_of(stream, ids_of("\xF0\x9F"
                                 "a\xFF"
                                 "b\xE2\x82")) ==
        Pieces{"", "", "\uFFFD\uFFFDa", "\uFFFD", "b", "", "", "\uFFFD\uFFFD"});
  CHECK(as_utf8("\xED\xA0\x80 \xC0\xAF \xF4\x90\x80\x80 \xE0\x80\x80") ==
        "\uFFFD\uFFFD\uFFFD \uFFFD\uFFFD \uFFFD\uFFFD\uFFFD\uFFFD \uFFFD\uFFFD\uFFFD");
  CHECK(as_utf8("\xF4\x8F\xBF\xBF\xED\x9F\xBF\xC2\x80") == "\U0010FFFF\uD7FF\u0080");
}

TEST_CASE("whatever the bytes, the pieces make the whole text, and each is UTF-8") {
  const auto tokenizer = bytes();
  const base::RandomStream random(4, base::Purpose::kTest, 0, 0);
  for (std::uint64_t run = 0; run < 200; ++run) {
    std::string text;
    for (std::uint64_t i = 0; i < 40; ++i) {
      // Often bytes that begin or continue a character.
      const std::uint64_t bits = random.bits(100 * run + i);
      text += static_cast<char>(bits % 3 == 0 ? 0x80 + (bits >> 8U) % 128 : (bits >> 8U) % 256);
    }
    TextStream stream(*tokenizer, {}, {});
    const Pieces pieces = pieces_of(stream, ids_of(text));
    CHECK(joined(pieces) == as_utf8(text));
    for (const std::string& piece : pieces) CHECK(as_utf8(piece) == piece);
  }
}

TEST_CASE("a stop text never goes out, nor what may be its beginning") {
  const auto tokenizer = bytes();
  TextStream stream(*tokenizer, {}, {"END", "dé"});
  CHECK(pieces_of(stream, ids_of("xENENDabc")) == Pieces{"x", "", "", "EN", "", "", ""});
  CHECK(stream.stopped());

  TextStream other(*tokenizer, {}, {"END", "dé"});
  CHECK(joined(pieces_of(other, ids_of("anode: dés"))) == "anode: ");
  CHECK(other.stopped());

  TextStream third(*tokenizer, {}, {"END"});
  CHECK(joined(pieces_of(third, ids_of("the EN"))) == "the EN");
  CHECK(!third.stopped());
}

TEST_CASE("a space at the begin of a token depends on what comes before it") {
  const WordTokenizer tokenizer;
  TextStream fresh(tokenizer, {0}, {});
  CHECK(pieces_of(fresh, {1, 3, 2, 0, 1, 3}) == Pieces{"one", "s", " two", "", " one", "s", ""});
  TextStream going_on(tokenizer, {0, 1}, {});
  CHECK(pieces_of(going_on, {2, 1}) == Pieces{" two", " one", ""});
}

}  // namespace
}  // namespace longspan::train
