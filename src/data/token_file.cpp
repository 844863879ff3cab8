#include "longspan/data/token_file.h"

#include <fmt/format.h>

#include <algorithm>

#include "data/parallel.h"
#include "data/token_formats.h"
#include "longspan/base/error.h"

namespace longspan::data {
namespace {

constexpr std::int64_t kBlockTokens = std::int64_t{1} << 16U;

/// Several files, one after another.
class JoinedFile final : public TokenFile {
 public:
  explicit JoinedFile(std::vector<std::unique_ptr<TokenFile>> files) : files_(std::move(files)) {
    for (const auto& file : files_) {
      first_token_.push_back(first_token_.back() + file->tokens());
      first_document_.push_back(first_document_.back() + file->documents());
      check_same_tokenizer(*file);
    }
  }

  const std::filesystem::path& path() const override { return files_.front()->path(); }
  const std::filesystem::path& path_of(std::int64_t document) const override {
    return files_[find(first_document_, document)]->path();
  }
  std::int64_t tokens() const override { return first_token_.back(); }
  std::int64_t documents() const override { return first_document_.back(); }
  std::int64_t document_begin(std::int64_t document) const override {
    if (document == documents()) return tokens();
    const std::size_t file = find(first_document_, document);
    return first_token_[file] + files_[file]->document_begin(document - first_document_[file]);
  }
  std::int64_t document_bytes(std::int64_t document) const override {
    const std::size_t file = find(first_document_, document);
    return files_[file]->document_bytes(document - first_document_[file]);
  }
  std::string tokenizer_hash() const override { return known_ ? known_->tokenizer_hash() : ""; }
  std::int64_t vocab_size() const override { return known_ ? known_->vocab_size() : -1; }

  void read(std::int64_t begin, std::int64_t end, TokenId* out) const override {
    while (begin < end) {
      const std::size_t file = find(first_token_, begin);
      const std::int64_t stop = std::min(end, first_token_[file + 1]);
      files_[file]->read(begin - first_token_[file], stop - first_token_[file], out);
      out += stop - begin;
      begin = stop;
    }
  }

 private:
  /// The file that holds a token or document; empty files hold none.
  static std::size_t find(const std::vector<std::int64_t>& firsts, std::int64_t number) {
    const auto after = std::upper_bound(firsts.begin(), firsts.end(), number);
    return static_cast<std::size_t>(after - firsts.begin()) - 1;
  }

  void check_same_tokenizer(const TokenFile& file) {
    if (file.tokenizer_hash().empty()) return;
    if (known_ == nullptr) known_ = &file;
    if (known_->tokenizer_hash() != file.tokenizer_hash()) {
      throw base::InputError(
          fmt::format("{} and {} were made with different tokenizers: their hashes are {} and {}",
                      known_->path().string(), file.path().string(), known_->tokenizer_hash(),
                      file.tokenizer_hash()));
    }
  }

  std::vector<std::unique_ptr<TokenFile>> files_;
  std::vector<std::int64_t> first_token_ = {0};
  std::vector<std::int64_t> first_document_ = {0};
  const TokenFile* known_ = nullptr;  ///< the first file that says what made it
};

[[noreturn]] void refuse_token(const TokenFile& file, std::int64_t place, TokenId token,
                               std::int64_t vocab_size) {
  std::int64_t low = 0;
  std::int64_t high = file.documents();
  while (high - low > 1) {  // the last document that begins at or before the place
    const std::int64_t middle = low + (high - low) / 2;
    (file.document_begin(middle) <= place ? low : high) = middle;
  }
  throw base::InputError(fmt::format(
      "{}: token {} at place {} (of document {}, its token {}) is not in [0, {}): the "
      "file is damaged or belongs to another tokenizer",
      file.path_of(low).string(), token, place, low, place - file.document_begin(low), vocab_size));
}

}  // namespace

std::unique_ptr<TokenFile> TokenFile::open(const std::filesystem::path& path) {
  return is_megatron_name(path) ? open_megatron_file(path) : open_tokens_file(path);
}

std::unique_ptr<TokenFile> TokenFile::open_all(const std::vector<std::filesystem::path>& paths) {
  if (paths.empty()) throw base::InputError("no token file was named");
  if (paths.size() == 1) return open(paths.front());
  std::vector<std::unique_ptr<TokenFile>> files;
  files.reserve(paths.size());
  for (const auto& path : paths) files.push_back(open(path));
  return std::make_unique<JoinedFile>(std::move(files));
}

void TokenFile::check_range(std::int64_t vocab_size, int part, int parts) const {
  const std::int64_t blocks = (tokens() + kBlockTokens - 1) / kBlockTokens;
  const std::int64_t begin = blocks * part / parts;
  const std::int64_t end = blocks * (part + 1) / parts;
  std::atomic<std::int64_t> first_bad{blocks};
  parallel_for(end - begin, worker_threads(), [&](std::int64_t number) {
    const std::int64_t block = begin + number;
    if (block > first_bad) return;
    std::vector<TokenId> buffer(kBlockTokens);
    const std::int64_t from = block * kBlockTokens;
    const std::int64_t count = std::min(kBlockTokens, tokens() - from);
    read(from, from + count, buffer.data());
    std::uint32_t largest = 0;  // negative ids are large ones
    for (std::int64_t index = 0; index < count; ++index) {
      largest = std::max(largest, static_cast<std::uint32_t>(buffer[index]));
    }
    if (static_cast<std::int64_t>(largest) < vocab_size) return;
    std::int64_t known = first_bad;
    while (block < known && !first_bad.compare_exchange_weak(known, block)) {
    }
  });
  if (first_bad == blocks) return;
  for (std::int64_t place = first_bad * kBlockTokens;; ++place) {
    TokenId token = 0;
    read(place, place + 1, &token);
    if (token < 0 || token >= vocab_size) refuse_token(*this, place, token, vocab_size);
  }
}

}  // namespace longspan::data
