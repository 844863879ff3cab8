#include "longspan/data/decode_corpus.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "data/utf8.h"
#include "longspan/base/error.h"
#include "longspan/base/file.h"
#include "longspan/base/json.h"

namespace longspan::data {
namespace {

std::vector<TokenId> read_document(const TokenFile& tokens, std::int64_t document) {
  const std::int64_t begin = tokens.document_begin(document);
  const std::int64_t end = tokens.document_begin(document + 1);
  std::vector<TokenId> ids(static_cast<std::size_t>(end - begin));
  tokens.read(begin, end, ids.data());
  return ids;
}

std::string json_line(const std::string& text, const TokenFile& tokens, std::int64_t document) {
  const std::size_t valid = valid_end(text, 0);
  if (valid < text.size()) {
    throw base::InputError(fmt::format(
        "document {} of {} is not valid UTF-8 from byte {} on, as JSON must be; name an output "
        "that does not end in .jsonl",
        document, tokens.path().string(), valid));
  }
  return base::json_text(nlohmann::json{{"text", text}}) + "\n";
}

/// A file that is removed at the end, unless it was renamed before.
struct Unfinished {
  explicit Unfinished(std::filesystem::path file) : path(std::move(file)) {}
  ~Unfinished() {
    std::error_code ignored;
    std::filesystem::remove(path, ignored);
  }
  Unfinished(const Unfinished&) = delete;
  Unfinished& operator=(const Unfinished&) = delete;

  std::filesystem::path path;
};

}  // namespace

CorpusCounts decode_corpus(const TokenFile& tokens, const Tokenizer& tokenizer,
                           const std::filesystem::path& output) {
  const std::string made_with = tokens.tokenizer_hash();
  if (!made_with.empty() && made_with != tokenizer.hash()) {
    throw base::InputError(
        fmt::format("cannot decode {}: it was made with another tokenizer (hash {}, not {})",
                    tokens.path().string(), made_with, tokenizer.hash()));
  }
  const bool as_json = output.extension() == ".jsonl" || output.extension() == ".ndjson";
  const Unfinished unfinished(output.string() + ".tmp");
  CorpusCounts counts;
  {
    base::FileWriter writer(unfinished.path);
    for (; counts.documents < tokens.documents(); ++counts.documents) {
      const std::vector<TokenId> ids = read_document(tokens, counts.documents);
      const std::string text = tokenizer.decode(ids);
      counts.tokens += static_cast<std::int64_t>(ids.size());
      counts.text_bytes += static_cast<std::int64_t>(text.size());
      writer.write(as_json ? json_line(text, tokens, counts.documents) : text);
    }
    writer.commit();
  }
  std::error_code error;
  std::filesystem::rename(unfinished.path, output, error);
  if (error) {
    throw base::InputError(fmt::format("cannot write {}: {}", output.string(), error.message()));
  }
  return counts;
}

}  // namespace longspan::data
