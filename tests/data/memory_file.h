#pragma once

#include <algorithm>
#include <utility>

#include "longspan/data/token_file.h"

namespace longspan::data {

/// Documents of given lengths in memory; the token at place p is p + 1000.
class MemoryFile final : public TokenFile {
 public:
  explicit MemoryFile(const std::vector<std::int64_t>& lengths) {
    for (const std::int64_t length : lengths) begins_.push_back(begins_.back() + length);
  }

  MemoryFile(const std::vector<std::int64_t>& lengths, std::vector<TokenRange> loss)
      : MemoryFile(lengths) {
    masked_ = true;
    loss_ = std::move(loss);
  }

  const std::filesystem::path& path() const override { return path_; }
  std::int64_t tokens() const override { return begins_.back(); }
  std::int64_t documents() const override { return static_cast<std::int64_t>(begins_.size()) - 1; }
  std::int64_t document_begin(std::int64_t document) const override {
    return begins_.at(static_cast<std::size_t>(document));
  }
  std::int64_t document_bytes(std::int64_t) const override { return -1; }
  std::string tokenizer_hash() const override { return {}; }
  bool is_masked() const override { return masked_; }
  std::int64_t loss_tokens(std::int64_t begin, std::int64_t end) const override {
    std::int64_t count = 0;
    for (const TokenRange& range : loss_ranges(begin, end)) count += range.end - range.begin;
    return count;
  }
  std::vector<TokenRange> loss_ranges(std::int64_t begin, std::int64_t end) const override {
    if (!masked_) return TokenFile::loss_ranges(begin, end);
    std::vector<TokenRange> ranges;
    for (const TokenRange& range : loss_) {
      const TokenRange part{std::max(range.begin, begin), std::min(range.end, end)};
      if (part.begin < part.end) ranges.push_back(part);
    }
    return ranges;
  }
  void read(std::int64_t begin, std::int64_t end, TokenId* out) const override {
    for (std::int64_t place = begin; place < end; ++place) {
      *out++ = static_cast<TokenId>(place + 1000);
    }
  }

 private:
  std::filesystem::path path_ = "memory";
  std::vector<std::int64_t> begins_ = {0};
  bool masked_ = false;
  std::vector<TokenRange> loss_;
};

}  // namespace longspan::data
