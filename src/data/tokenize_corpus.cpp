#include "longspan/data/tokenize_corpus.h"

#include <vector>

#include "base/parallel.h"

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

std::vector<TokenId> encode_document(std::string_view text, const Tokenizer& tokenizer,
                                     const CorpusOptions& options) {
  std::vector<TokenId> ids = tokenizer.encode(text);
  if (options.bos) ids.insert(ids.begin(), tokenizer.bos_id());
  if (options.eos) ids.push_back(tokenizer.eos_id());
  return ids;
}

}  // namespace

CorpusCounts tokenize_corpus(TextSource& source, const Tokenizer& tokenizer,
                             const CorpusOptions& options, TokenFileWriter& writer,
                             const std::function<void(const CorpusCounts&)>& progress) {
  CorpusCounts counts;
  for (;;) {
    const std::vector<TextDocument> batch = next_batch(source, counts);
    if (batch.empty()) return counts;
    std::vector<std::vector<TokenId>> ids(batch.size());
    // Short documents side by side; a long one after another, as its encoder takes all cores.
    const auto encode = [&](std::int64_t number, bool long_ones) {
      const auto index = static_cast<std::size_t>(number);
      const std::string_view text = batch[index].text();
      if ((text.size() >= kLongBytes) == long_ones) {
        ids[index] = encode_document(text, tokenizer, options);
      }
    };
    const auto count = static_cast<std::int64_t>(batch.size());
    base::parallel_for(count, base::worker_threads(),
                       [&](std::int64_t index) { encode(index, false); });
    base::parallel_for(count, 1, [&](std::int64_t index) { encode(index, true); });
    for (std::size_t index = 0; index < batch.size(); ++index) {
      const auto bytes = static_cast<std::int64_t>(batch[index].text().size());
      writer.add_document(ids[index], bytes);
      ++counts.documents;
      counts.tokens += static_cast<std::int64_t>(ids[index].size());
      counts.text_bytes += bytes;
    }
    progress(counts);
  }
}

}  // namespace longspan::data
