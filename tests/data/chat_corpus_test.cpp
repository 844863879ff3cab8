// Chats in JSON-lines files, and the token files made of them.

#include <catch2/catch.hpp>

#include "chat_tokenizers.h"
#include "longspan/base/error.h"
#include "longspan/data/token_file.h"
#include "longspan/data/tokenize_corpus.h"

namespace longspan::data {
namespace {

using longspan::test::TemporaryDirectory;

/// The only document of a JSON-lines file of one line.
TextDocument document_of(const std::string& line, const TextOptions& options = {}) {
  const TemporaryDirectory directory;
  TextSource source({directory.write("a.jsonl", line)}, options);
  TextDocument document;
  if (!source.next(document)) throw std::logic_error("no document");
  return document;
}

TextOptions content(LineContent what, const std::string& field = "text") {
  TextOptions options;
  options.line_content = what;
  options.text_field = field;
  return options;
}

TEST_CASE("a line of JSON is a text, a chat or a completion") {
  const TextDocument chat = document_of(
      R"({"id": 7, "tools": [], "prompt": "p", "messages": [{"role": "user", "content": "a", "name": null})"
      R"(, {"role": "assistant", "content": [{"type": "text", "text": "b"}, {"type": "text", "text": "c"}], "weight": 0})"
      R"(, {"content": "", "role": "user", "weight": 1}]})");
  CHECK(chat.kind() == DocumentKind::kChat);
  REQUIRE(chat.turns().size() == 3);
  CHECK(chat.turns()[0].role == "user");
  CHECK(chat.turns()[0].content == "a");
  CHECK(chat.turns()[0].train == std::nullopt);
  CHECK(chat.turns()[1].content == "bc");
  CHECK(chat.turns()[1].train == false);
  CHECK(chat.turns()[2].train == true);
  CHECK(chat.text() == "a\nbc\n");
  CHECK(chat.text_bytes() == 3);
  const TextDocument shared =
      document_of(R"({"conversations": [{"from": "system", "value": "s"})"
                  R"(, {"from": "human", "value": "u"}, {"from": "gpt", "value": "g"}]})");
  CHECK(shared.turns()[1].role == "user");
  CHECK(shared.turns()[2].role == "assistant");
  const TextDocument pair = document_of(R"({"completion": "c", "prompt": "p", "n": {"a": [1]}})");
  CHECK(pair.kind() == DocumentKind::kCompletion);
  CHECK(pair.text() == "p\nc");
  CHECK(document_of(R"({"text": "t", "prompt": "p"})").text() == "t");
  // Named, the text counts, or the chat.
  const std::string both = R"({"text": "t", "messages": [{"role": "user", "content": "a"}]})";
  CHECK(document_of(both, content(LineContent::kText)).kind() == DocumentKind::kText);
  CHECK(document_of(both, content(LineContent::kChat)).kind() == DocumentKind::kChat);
  CHECK(document_of(R"({"text": "t"})", content(LineContent::kChat)).text() == "t");
  CHECK(document_of(both, content(LineContent::kText, "text")).text() == "t");
}

TEST_CASE("a line that is no document is refused with what is wrong") {
  const std::vector<std::pair<std::string, std::string>> cases = {
      {R"({"prompt": "p"})", "no field \"text\""},
      {R"({"text": "t", "messages": []})", "more than one document"},
      {R"({"prompt": "p", "completion": "c", "messages": []})", "more than one document"},
      {R"({"messages": {}})", "must be a list of turns, found an object"},
      {R"({"messages": []})", "has no turns"},
      {R"({"messages": ["x"]})", "turn 1 must be an object, found a string"},
      {R"({"messages": [{"role": "user"}]})", "turn 1 has no \"content\""},
      {R"({"messages": [{"content": "user"}]})", "turn 1 has no \"role\""},
      {R"({"messages": [{"role": 1, "content": "x"}]})", "the role must be a string"},
      {R"({"messages": [{"role": "user", "content": null}]})", "found null"},
      {R"({"messages": [{"role": "user", "content": [{"type": "image", "text": "x"}]}]})",
       "read text alone"},
      {R"({"messages": [{"role": "user", "content": ["x"]}]})", "read text alone"},
      {R"({"messages": [{"role": "user", "content": "x", "weight": 0.5}]})", "must be 0 or 1"},
      {R"({"messages": [{"role": "user", "content": "x", "weight": true}]})", "must be 0 or 1"},
      {R"({"messages": [{"role": "user", "content": "x", "train": true}]})", "\"train\""},
      {R"({"messages": [{"role": "user", "content": "x", "tool_calls": []}]})", "\"tool_calls\""},
      {R"({"messages": [{"role": "user", "role": "user", "content": "x"}]})", "twice"},
      {R"({"messages": [], "messages": []})", "twice"},
      {R"({"messages": [{"role": "user", "content": "x"}], "tools": [{}]})", "\"tools\""},
      {R"({"conversations": [{"from": "bot", "value": "x"}]})", "\"from\" is \"bot\""},
      {R"({"conversations": [{"role": "user", "content": "x"}]})", "\"content\" is not supported"},
      {R"({"prompt": ["p"], "completion": "c"})", "\"prompt\" must be a string, found an array"},
      {"{\"messages\": " + std::string(100000, '['), "brackets"},
  };
  for (const auto& [line, message] : cases) {
    CAPTURE(line.substr(0, 100), message);
    CHECK_THROWS_AS(document_of(line), base::InputError);
    CHECK_THROWS_WITH(document_of(line),
                      Catch::Contains("a.jsonl:1: ") && Catch::Contains(message));
  }
}

struct Made {
  CorpusCounts counts;
  std::unique_ptr<TokenFile> file;

  std::vector<TokenId> ids(std::int64_t document) const {
    const std::int64_t begin = file->document_begin(document);
    std::vector<TokenId> ids(static_cast<std::size_t>(file->document_begin(document + 1) - begin));
    file->read(begin, file->document_begin(document + 1), ids.data());
    return ids;
  }
  /// Of the document's tokens, not the file's.
  std::vector<TokenRange> loss(std::int64_t document) const {
    const std::int64_t begin = file->document_begin(document);
    auto ranges = file->loss_ranges(begin, file->document_begin(document + 1));
    for (TokenRange& range : ranges) range = {range.begin - begin, range.end - begin};
    return ranges;
  }
};

Made tokenize(const TemporaryDirectory& directory, const std::string& lines,
              const Tokenizer& tokenizer, const CorpusOptions& options = {}) {
  TextOptions text;
  if (!options.chat_template.empty()) text.line_content = LineContent::kChat;
  TextSource source({directory.write("in.jsonl", lines)}, text);
  const auto writer = TokenFileWriter::create(directory.file("out.tokens"), TokenFormat::kTokens,
                                              tokenizer.vocab_size(), tokenizer.hash());
  Made made;
  made.counts = tokenize_corpus(source, tokenizer, options, *writer, [](const CorpusCounts&) {});
  writer->finish();
  made.file = TokenFile::open(directory.file("out.tokens"));
  return made;
}

const std::string kLines =
    R"({"messages": [{"role": "user", "content": "light"}, {"role": "assistant", "content": "wave"}]})"
    "\n"
    R"({"text": "plain"})"
    "\n"
    R"({"prompt": "in the", "completion": " beginning"})"
    "\n"
    R"({"messages": [{"role": "user", "content": "x"}, {"role": "assistant", "content": "y", "weight": 0}]})"
    "\n";

TEST_CASE("chats, texts and completions of one file become a masked corpus") {
  const TemporaryDirectory directory;
  const auto tokenizer = tokenizer_with(directory, "qwen", {}, "<|endoftext|>");
  const Made made = tokenize(directory, kLines, *tokenizer);
  REQUIRE(made.file->documents() == 4);
  CHECK(made.file->is_masked());
  const auto chat = ChatTemplate::make("chatml", *tokenizer);
  const MaskedTokens first = chat.encode({{"user", "light", {}}, {"assistant", "wave", {}}});
  CHECK(made.ids(0) == first.ids);
  CHECK(made.loss(0) == first.loss);
  CHECK(made.file->document_bytes(0) == 9);
  const TokenId eos = tokenizer->eos_id();
  const auto text = [&](const std::string& part, bool ends) {
    std::vector<TokenId> ids = tokenizer->encode(part);
    ids.insert(ids.begin(), tokenizer->bos_id());
    if (ends) ids.push_back(eos);
    return ids;
  };
  CHECK(made.ids(1) == text("plain", true));
  const auto length = [](const auto& list) { return static_cast<std::int64_t>(list.size()); };
  CHECK(made.loss(1) == std::vector<TokenRange>{{0, length(made.ids(1))}});
  CHECK(made.ids(2) == text("in the beginning", true));
  CHECK(made.loss(2) ==
        std::vector<TokenRange>{{length(text("in the", false)), length(made.ids(2))}});
  CHECK(made.loss(3).empty());
  CHECK(made.counts.chats == 3);
  CHECK(made.counts.unmarked == 1);
  CHECK(made.counts.loss_tokens == made.file->loss_tokens(0, made.file->tokens()));
  // With a template that was asked for, a completion is a chat, too.
  CorpusOptions options;
  options.chat_template = "chatml";
  const Made asked = tokenize(directory, kLines, *tokenizer, options);
  CHECK(asked.ids(2) == chat.encode({{"user", "in the", {}}, {"assistant", " beginning", {}}}).ids);
  CHECK(asked.ids(1) == made.ids(1));
}

TEST_CASE("without bos and eos a completion is its prompt's end and itself") {
  const TemporaryDirectory directory;
  const auto tokenizer = load_tokenizer("bytes");
  CorpusOptions options;
  options.bos = options.eos = false;
  const Made made = tokenize(directory,
                             "{\"prompt\": \"ab\", \"completion\": \"cde\"}\n"
                             "{\"prompt\": \"ab\", \"completion\": \"\"}\n",
                             *tokenizer, options);
  CHECK(tokenizer->decode(made.ids(0)) == "abcde");
  CHECK(made.loss(0) == std::vector<TokenRange>{{2, 5}});
  CHECK(made.loss(1).empty());
}

TEST_CASE("a chat that cannot be written is refused by its line, the first of several") {
  const TemporaryDirectory directory;
  const auto tokenizer = tokenizer_with(directory, "qwen", {}, "<|endoftext|>");
  std::string lines;
  for (int line = 0; line < 500; ++line) {
    lines += line % 100 == 42 ? "{\"messages\": [{\"role\": \"tool\", \"content\": \"4\"}]}\n"
                              : "{\"messages\": [{\"role\": \"user\", \"content\": \"" +
                                    std::string(99, 'x') + "\"}]}\n";
  }
  for (int round = 0; round < 5; ++round) {
    CHECK_THROWS_WITH(tokenize(directory, lines, *tokenizer),
                      Catch::Contains("in.jsonl:43: turn 1: the role \"tool\""));
  }
  CHECK_THROWS_WITH(tokenize(directory, "{\"text\": \"a\"}\n" + kLines, *load_tokenizer("bytes")),
                    Catch::Contains("in.jsonl:2: a chat") && Catch::Contains("--chat-template"));
  CHECK_THROWS_AS(tokenize(directory, kLines, *tokenizer, {true, true, "gemma"}), base::InputError);
}

TEST_CASE("the order of what several threads encode is the file's") {
  const TemporaryDirectory directory;
  const auto tokenizer = tokenizer_with(directory, "qwen", {}, "<|endoftext|>");
  const auto chat = ChatTemplate::make("chatml", *tokenizer);
  std::string lines;
  for (int line = 0; line < 9000; ++line) {
    lines += "{\"messages\": [{\"role\": \"user\", \"content\": \"" + std::to_string(line) +
             "\"}, {\"role\": \"assistant\", \"content\": \"" +
             std::string(static_cast<std::size_t>(line % 7), 'y') + "\"}]}\n";
  }
  const Made made = tokenize(directory, lines, *tokenizer);
  REQUIRE(made.file->documents() == 9000);
  bool same = true;
  for (int line = 0; line < 9000; ++line) {
    const MaskedTokens wanted =
        chat.encode({{"user", std::to_string(line), {}},
                     {"assistant", std::string(static_cast<std::size_t>(line % 7), 'y'), {}}});
    same = same && made.ids(line) == wanted.ids && made.loss(line) == wanted.loss;
  }
  CHECK(same);
}

}  // namespace
}  // namespace longspan::data
