#include "longspan/data/joined_token_file.h"

#include <fmt/format.h>

#include <algorithm>

#include "longspan/base/error.h"

namespace longspan::data {
namespace {

class JoinedTokenFile : public TokenFile {
 public:
  explicit JoinedTokenFile(std::vector<std::unique_ptr<TokenFile>> files)
      : files_(std::move(files)) {
    for (const auto& file : files_) {
      first_token_.push_back(first_token_.back() + file->tokens());
      first_document_.push_back(first_document_.back() + file->documents());
    }
  }

  const std::filesystem::path& path() const override { return files_.front()->path(); }
  const std::filesystem::path& path_of(std::int64_t document) const override {
    return files_[part_of(first_document_, document)]->path();
  }
  std::vector<std::int64_t> file_begins() const override { return first_document_; }
  std::int64_t tokens() const override { return first_token_.back(); }
  std::int64_t documents() const override { return first_document_.back(); }

  std::int64_t document_begin(std::int64_t document) const override {
    if (document == documents()) return tokens();
    const std::size_t file = part_of(first_document_, document);
    return first_token_[file] + files_[file]->document_begin(document - first_document_[file]);
  }
  std::int64_t document_bytes(std::int64_t document) const override {
    const std::size_t file = part_of(first_document_, document);
    return files_[file]->document_bytes(document - first_document_[file]);
  }
  std::string tokenizer_hash() const override {
    for (const auto& file : files_) {
      if (!file->tokenizer_hash().empty()) return file->tokenizer_hash();
    }
    return {};
  }
  void read(std::int64_t begin, std::int64_t end, TokenId* out) const override {
    while (begin < end) {
      const std::size_t file = part_of(first_token_, begin);
      const std::int64_t stop = std::min(end, first_token_[file + 1]);
      files_[file]->read(begin - first_token_[file], stop - first_token_[file], out);
      out += stop - begin;
      begin = stop;
    }
  }

  bool is_masked() const override {
    return std::any_of(files_.begin(), files_.end(),
                       [](const auto& file) { return file->is_masked(); });
  }
  std::int64_t loss_tokens(std::int64_t begin, std::int64_t end) const override {
    std::int64_t count = 0;
    while (begin < end) {
      const std::size_t file = part_of(first_token_, begin);
      const std::int64_t stop = std::min(end, first_token_[file + 1]);
      count += files_[file]->loss_tokens(begin - first_token_[file], stop - first_token_[file]);
      begin = stop;
    }
    return count;
  }
  std::vector<TokenRange> loss_ranges(std::int64_t begin, std::int64_t end) const override {
    std::vector<TokenRange> ranges;
    while (begin < end) {
      const std::size_t file = part_of(first_token_, begin);
      const std::int64_t first = first_token_[file];
      const std::int64_t stop = std::min(end, first_token_[file + 1]);
      for (const TokenRange& range : files_[file]->loss_ranges(begin - first, stop - first)) {
        ranges.push_back({range.begin + first, range.end + first});
      }
      begin = stop;
    }
    return ranges;
  }

 private:
  /// The file that holds the element `index`: empty files hold none.
  static std::size_t part_of(const std::vector<std::int64_t>& firsts, std::int64_t index) {
    const auto above = std::upper_bound(firsts.begin(), firsts.end(), index);
    return static_cast<std::size_t>(above - firsts.begin()) - 1;
  }

  std::vector<std::unique_ptr<TokenFile>> files_;
  std::vector<std::int64_t> first_token_ = {0};
  std::vector<std::int64_t> first_document_ = {0};
};

}  // namespace

std::unique_ptr<TokenFile> open_token_files(const std::vector<std::string>& paths,
                                            const FlatTokens& flat) {
  std::vector<std::unique_ptr<TokenFile>> files;
  const TokenFile* named = nullptr;  // the first that says its tokenizer
  for (const std::string& path : paths) {
    files.push_back(TokenFile::open(path, flat));
    const TokenFile& file = *files.back();
    if (file.tokenizer_hash().empty()) continue;
    if (named == nullptr) named = &file;
    if (file.tokenizer_hash() != named->tokenizer_hash()) {
      throw base::InputError(fmt::format(
          "{} and {} were made with different tokenizers (hashes {} and {}); tokenize them with "
          "one",
          named->path().string(), path, named->tokenizer_hash(), file.tokenizer_hash()));
    }
  }
  if (files.empty()) throw base::InputError("no token file is named");
  if (files.size() == 1) return std::move(files.front());
  return std::make_unique<JoinedTokenFile>(std::move(files));
}

}  // namespace longspan::data
