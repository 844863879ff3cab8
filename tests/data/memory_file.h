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

  const std::filesystem::path& path() const override { return path_; }
  std::int64_t tokens() const override { return begins_.back(); }
  std::int64_t documents() const override { return static_cast<std::int64_t>(begins_.size()) - 1; }
  std::int64_t document_begin(std::int64_t document) const override {
    return begins_.at(static_cast<std::size_t>(document));
  }
  std::int64_t document_bytes(std::int64_t) const override { return -1; }
  std::string tokenizer_hash() const override { return {}; }
  void read(std::int64_t begin, std::int64_t end, TokenId* out) const override {
    for (std::int64_t place = begin; place < end; ++place) {
      *out++ = static_cast<TokenId>(place + 1000);
    }
  }

 private:
  std::filesystem::path path_ = "memory";
  std::vector<std::int64_t> begins_ = {0};
};

}  // namespace longspan::data
