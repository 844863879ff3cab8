#include <catch2/catch.hpp>

#include "longspan/base/error.h"
#include "longspan/data/token_file.h"
#include "longspan/data/tokenize_corpus.h"
#include "tests/support/temporary_directory.h"

namespace longspan::data {
namespace {

using longspan::test::TemporaryDirectory;

std::vector<std::string> read_all(const std::vector<std::string>& inputs,
                                  const TextOptions& options = {}) {
  TextSource source(inputs, options);
  std::vector<std::string> texts;
  TextDocument document;
  while (source.next(document)) texts.emplace_back(document.text());
  CHECK(source.bytes_read() == source.total_bytes());
  return texts;
}

TEST_CASE("a file is a document, bytes as they are; of JSON lines each line is one") {
  const TemporaryDirectory directory;
  const std::string plain = directory.write("a.txt", std::string_view("one\r\n\0\xff two", 11));
  const std::string lines = directory.write(
      "b.jsonl",
      "{\"text\": \"first\\nline \\u00e9\\ud83d\\ude00\", \"id\": [1, {\"text\": 2}]}\n"
      " \r\n"
      "{\"meta\": {\"text\": \"inner\"}, \"text\": \"\"}\r\n"
      "{\"id\": 1e5, \"text\": \"last\", \"ok\": true, \"no\": null}");
  const std::vector<std::string> expected = {std::string("one\r\n\0\xff two", 11),
                                             "first\nline \xc3\xa9\xf0\x9f\x98\x80", "", "last",
                                             std::string("one\r\n\0\xff two", 11)};
  CHECK(read_all({plain, lines, plain}) == expected);
  const std::string other = directory.write("c.ndjson", R"({"text": 1, "body": "x"})");
  CHECK(read_all({other}, {.text_field = "body", .extensions = {}}) ==
        std::vector<std::string>{"x"});
  CHECK(read_all({directory.write("empty.jsonl", "")}).empty());
}

TEST_CASE("a bad JSON line is refused with its file and number") {
  const TemporaryDirectory directory;
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"{\"text\": 3}", "must be a string, found a number"},
      {"{\"text\": null}", "found null"},
      {"{\"text\": [\"a\"]}", "found an array"},
      {"{\"text\": {}}", "found an object"},
      {"{\"txt\": \"a\"}", "no field \"text\""},
      {"{\"text\": \"a\", \"text\": \"b\"}", "twice"},
      {"[\"text\"]", "expected an object, found an array"},
      {"\"text\"", "expected an object, found a string"},
      {"{\"text\": \"a\"", "not JSON"},
      {"{\"text\": \"a\"} x", "not JSON"},
      {"{\"text\": \"\xff\"}", "not JSON"},
      {"{\"text\": \"a\", \"n\": 1e999}", "not JSON"},
      {"{\"text\": \"\\ud800\"}", "not JSON"},
      {std::string(1000000, '['), "expected an object"},
      {"{\"a\":" + std::string(1000000, '['), "not JSON"},
  };
  for (const auto& [line, message] : cases) {
    const std::string path =
        directory.write("bad.jsonl", "{\"text\": \"good\"}\n\n" + line + "\n{}\n");
    CAPTURE(message);
    CHECK_THROWS_AS(read_all({path}), base::InputError);
    CHECK_THROWS_WITH(read_all({path}),
                      Catch::StartsWith(path + ":3: ") && Catch::Contains(message));
  }
}

TEST_CASE("a folder gives its text files in order and survives loops of links") {
  const TemporaryDirectory directory;
  directory.write("in/b.md", "b");
  directory.write("in/a/z.txt", "z");
  directory.write("in/a/lines.jsonl", "{\"text\": \"l\"}");
  directory.write("in/picture.png", "no");
  directory.write("in/.hidden.txt", "no");
  directory.write("in/.git/x.txt", "no");
  std::filesystem::create_directory_symlink(directory.path() / "in", directory.path() / "in/loop");
  std::filesystem::create_symlink(directory.path() / "in/b.md", directory.path() / "in/c.txt");
  const std::string folder = directory.file("in");
  CHECK(read_all({folder}) == std::vector<std::string>{"l", "z", "b", "b"});
  CHECK(read_all({folder}, {.text_field = "text", .extensions = {".png"}}) ==
        std::vector<std::string>{"no"});
  CHECK_THROWS_WITH(read_all({folder}, {.text_field = "text", .extensions = {".xyz"}}),
                    Catch::Contains("no text") && Catch::Contains(".xyz"));
  std::filesystem::create_symlink("absent", directory.path() / "in/dangling.txt");
  CHECK_THROWS_WITH(read_all({folder}), Catch::Contains("dangling.txt"));
}

TEST_CASE("what is not there or not text is refused") {
  const TemporaryDirectory directory;
  CHECK_THROWS_WITH(read_all({directory.file("absent")}), Catch::Contains("absent"));
  CHECK_THROWS_WITH(read_all({directory.write("a.txt.gz", "x")}), Catch::Contains("unpack"));
  CHECK_THROWS_AS(read_all({"/dev/null"}), base::InputError);
}

TEST_CASE("a corpus becomes a token file: bos, ids, eos, in order, empty documents left out") {
  const TemporaryDirectory directory;
  std::string lines;
  std::vector<std::string> texts;
  for (int number = 0; number < 5000; ++number) {
    const std::string text(static_cast<std::size_t>(number % 50),
                           static_cast<char>('a' + number % 26));
    lines += "{\"text\": \"" + text + "\"}\n";
    if (!text.empty()) texts.push_back(text);
  }
  texts.push_back(std::string(3000000, 'x'));
  TextSource source({directory.write("in.jsonl", lines), directory.write("long.txt", texts.back())},
                    {});
  const auto tokenizer = load_tokenizer("bytes");
  const bool bos = GENERATE(true, false);
  const auto writer = TokenFileWriter::create(directory.file("out.tokens"), TokenFormat::kTokens,
                                              tokenizer->vocab_size(), tokenizer->hash());
  std::int64_t calls = 0;
  const CorpusCounts counts =
      tokenize_corpus(source, *tokenizer, {.bos = bos, .eos = true, .chat_template = ""}, *writer,
                      [&](const CorpusCounts&) { ++calls; });
  writer->finish();
  CHECK(counts.documents == static_cast<std::int64_t>(texts.size()));
  CHECK(counts.empty_documents == 100);
  CHECK(counts.tokens == counts.text_bytes + counts.documents * (bos ? 2 : 1));
  CHECK(calls == 2);
  const auto file = TokenFile::open(directory.file("out.tokens"));
  CHECK(file->tokens() == counts.tokens);
  CHECK(file->tokenizer_hash() == tokenizer->hash());
  bool same = file->documents() == counts.documents;
  for (std::int64_t document = 0; same && document < file->documents(); ++document) {
    std::vector<TokenId> ids(static_cast<std::size_t>(file->document_begin(document + 1) -
                                                      file->document_begin(document)));
    file->read(file->document_begin(document), file->document_begin(document + 1), ids.data());
    const std::string& text = texts[static_cast<std::size_t>(document)];
    same = ids.back() == 1 && (ids.front() == 1) == bos && tokenizer->decode(ids) == text &&
           file->document_bytes(document) == static_cast<std::int64_t>(text.size());
  }
  CHECK(same);
}

}  // namespace
}  // namespace longspan::data
