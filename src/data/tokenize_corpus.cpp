#include "longspan/data/tokenize_corpus.h"

#include <fmt/format.h>

#include <exception>
#include <optional>
#include <vector>

#include "base/parallel.h"
#include "data/encode_behind.h"
#include "longspan/base/error.h"
#include "longspan/data/chat.h"

namespace longspan::data {
namespace {

constexpr std::size_t kBatchBytes = std::size_t{8} << 20U;
constexpr std::size_t kBatchDocuments = 4096;
constexpr std::size_t kLongBytes = std::size_t{1} << 20U;

/// The next documents up to the size of a batch, empty ones only counted; none at the end.
std::vector<TextDocument> next_batch(TextSource& source, CorpusCounts& counts) {
  std::vector<TextDocument> batch;
  std::size_t bytes = 0;
  TextDocument document;
  while (bytes < kBatchBytes && batch.size() < kBatchDocuments && source.next(document)) {
    if (document.text().empty()) {
      ++counts.empty_documents;
      continue;
    }
    bytes += document.text().size();
    batch.push_back(std::move(document));
  }
  return batch;
}

/// How documents become tokens.
class DocumentEncoder {
 public:
  DocumentEncoder(const Tokenizer& tokenizer, const CorpusOptions& options)
      : tokenizer_(&tokenizer), options_(options) {
    if (!options_.chat_template.empty()) {
      chat_ = ChatTemplate::make(options_.chat_template, tokenizer);
    }
  }

  /// Finds the template before the first chat. Throws InputError when the tokenizer tells none.
  void prepare(const TextDocument& document) {
    if (chat_ || document.kind() != DocumentKind::kChat) return;
    const std::optional<std::string> name = ChatTemplate::detect(*tokenizer_);
    if (!name) {
      throw base::InputError(fmt::format(
          "{}: a chat, but the tokenizer has the control tokens of no chat template, or "
          "of several; choose one with --chat-template ({})",
          document.place(), fmt::join(ChatTemplate::names(), ", ")));
    }
    chat_ = ChatTemplate::make(*name, *tokenizer_);
  }

  /// Of texts, all tokens are to be predicted. Throws InputError naming the document's place.
  MaskedTokens encode(const TextDocument& document) const {
    try {
      if (document.kind() == DocumentKind::kText) return encode_text(document.text());
      const bool follows =
          document.kind() == DocumentKind::kCompletion && options_.chat_template.empty();
      return follows ? encode_completion(document) : chat_->encode(document.turns());
    } catch (const base::InputError& error) {
      if (document.place().empty()) throw;
      throw base::InputError(fmt::format("{}: {}", document.place(), error.what()));
    }
  }

 private:
  MaskedTokens encode_text(std::string_view text) const {
    MaskedTokens tokens{tokenizer_->encode(text), {}};
    if (options_.bos) tokens.ids.insert(tokens.ids.begin(), tokenizer_->bos_id());
    return ended(std::move(tokens), 0);
  }

  MaskedTokens encode_completion(const TextDocument& document) const {
    const std::string& prompt = document.turns()[0].content;
    MaskedTokens tokens{tokenizer_->encode(prompt), {}};
    const std::vector<TokenId> completion =
        encode_behind(*tokenizer_, prompt, tokens.ids, document.turns()[1].content);
    if (options_.bos) tokens.ids.insert(tokens.ids.begin(), tokenizer_->bos_id());
    const auto begin = static_cast<std::int64_t>(tokens.ids.size());
    tokens.ids.insert(tokens.ids.end(), completion.begin(), completion.end());
    return ended(std::move(tokens), begin);
  }

  /// With eos, and the loss of all from `begin` on.
  MaskedTokens ended(MaskedTokens tokens, std::int64_t begin) const {
    if (options_.eos) tokens.ids.push_back(tokenizer_->eos_id());
    const auto end = static_cast<std::int64_t>(tokens.ids.size());
    if (begin < end) tokens.loss.push_back({begin, end});
    return tokens;
  }

  const Tokenizer* tokenizer_;
  CorpusOptions options_;
  std::optional<ChatTemplate> chat_;
};

/// What became of a document.
struct Encoded {
  MaskedTokens tokens;
  std::exception_ptr failure;
};

/// Short documents side by side; a long one after another, as its encoder takes all cores.
std::vector<Encoded> encode_batch(const std::vector<TextDocument>& batch,
                                  const DocumentEncoder& encoder) {
  std::vector<Encoded> results(batch.size());
  const auto encode = [&](std::int64_t number, bool long_ones) {
    const auto index = static_cast<std::size_t>(number);
    if ((batch[index].text().size() >= kLongBytes) != long_ones) return;
    try {
      results[index].tokens = encoder.encode(batch[index]);
    } catch (const base::InputError&) {  // of several, the first document's is thrown
      results[index].failure = std::current_exception();
    }
  };
  const auto count = static_cast<std::int64_t>(batch.size());
  base::parallel_for(count, base::worker_threads(),
                     [&](std::int64_t index) { encode(index, false); });
  base::parallel_for(count, 1, [&](std::int64_t index) { encode(index, true); });
  return results;
}

void add(const TextDocument& document, const MaskedTokens& tokens, TokenFileWriter& writer,
         CorpusCounts& counts) {
  const auto bytes = static_cast<std::int64_t>(document.text_bytes());
  if (document.kind() == DocumentKind::kText) {
    writer.add_document(tokens.ids, bytes);
  } else {
    writer.add_masked_document(tokens, bytes);
    ++counts.chats;
    counts.unmarked += tokens.loss.empty() ? 1 : 0;
  }
  ++counts.documents;
  counts.tokens += static_cast<std::int64_t>(tokens.ids.size());
  for (const TokenRange& range : tokens.loss) counts.loss_tokens += range.end - range.begin;
  counts.text_bytes += bytes;
}

}  // namespace

CorpusCounts tokenize_corpus(TextSource& source, const Tokenizer& tokenizer,
                             const CorpusOptions& options, TokenFileWriter& writer,
                             const std::function<void(const CorpusCounts&)>& progress) {
  CorpusCounts counts;
  DocumentEncoder encoder(tokenizer, options);
  for (;;) {
    const std::vector<TextDocument> batch = next_batch(source, counts);
    if (batch.empty()) return counts;
    for (const TextDocument& document : batch) encoder.prepare(document);
    const std::vector<Encoded> results = encode_batch(batch, encoder);
    for (std::size_t index = 0; index < batch.size(); ++index) {
      if (results[index].failure) std::rethrow_exception(results[index].failure);
      add(batch[index], results[index].tokens, writer, counts);
    }
    progress(counts);
  }
}

}  // namespace longspan::data
