// Files of tokens without a list of documents: llm.c's, with a header, and nanoGPT's, without.
#include <fmt/format.h>

#include <algorithm>
#include <string>
#include <vector>

#include "base/parallel.h"
#include "data/token_formats.h"
#include "longspan/base/error.h"
#include "longspan/base/file.h"

namespace longspan::data {
namespace {

constexpr std::int64_t kBlockTokens = std::int64_t{1} << 20U;

class FlatTokenFile final : public TokenFile {
 public:
  FlatTokenFile(const std::filesystem::path& path, const FlatTokens& flat) : file_(path) {
    if (!read_llmc_header()) take_as_raw(flat.type);
    find_documents(flat.document_end);
  }

  const std::filesystem::path& path() const override { return file_.path(); }
  std::int64_t tokens() const override { return tokens_; }
  std::int64_t documents() const override { return static_cast<std::int64_t>(begins_.size()) - 1; }
  std::int64_t document_begin(std::int64_t document) const override {
    return begins_[static_cast<std::size_t>(document)];
  }
  std::int64_t document_bytes(std::int64_t) const override { return -1; }
  std::string tokenizer_hash() const override { return {}; }

  void read(std::int64_t begin, std::int64_t end, TokenId* out) const override {
    const std::byte* from =
        file_.data() + header_bytes_ + static_cast<std::uint64_t>(begin) * width_;
    if (width_ == 2) {
      load_tokens<std::uint16_t>(from, end - begin, out);
    } else {
      load_tokens<std::int32_t>(from, end - begin, out);  // beyond 31 bits: out of every range
    }
  }

 private:
  [[noreturn]] void refuse(const std::string& why) const {
    throw base::InputError(fmt::format("cannot read the token file {}: {}", path().string(), why));
  }

  /// False when the file does not begin as llm.c's do.
  bool read_llmc_header() {
    if (file_.size() < sizeof(std::int32_t)) return false;
    const auto magic = load<std::int32_t>(file_.data());
    if (magic == kLlmcEvaluationMagic) {
      refuse("it holds questions of llm.c's evaluation, not text to train on");
    }
    if (magic != kLlmcMagic16 && magic != kLlmcMagic32) return false;
    if (file_.size() < kLlmcHeaderBytes) {
      refuse(fmt::format("{} bytes are too few for llm.c's header of {}", file_.size(),
                         kLlmcHeaderBytes));
    }
    const std::int32_t expected = magic == kLlmcMagic16 ? kLlmcVersion16 : kLlmcVersion32;
    const auto version = load<std::int32_t>(file_.data(), 1);
    if (version != expected) {
      refuse(
          fmt::format("its version is {}, expected {} after llm.c's {}", version, expected, magic));
    }
    width_ = magic == kLlmcMagic16 ? 2 : 4;
    header_bytes_ = kLlmcHeaderBytes;
    const auto count = load<std::int32_t>(file_.data(), 2);
    tokens_ = static_cast<std::int64_t>((file_.size() - header_bytes_) / width_);
    if (count != tokens_ ||
        file_.size() != header_bytes_ + width_ * static_cast<std::uint64_t>(tokens_)) {
      refuse(fmt::format("its header says {} tokens of {} bytes, and {} bytes follow it", count,
                         width_, file_.size() - header_bytes_));
    }
    return true;
  }

  void take_as_raw(const std::string& type) {
    if (type.empty()) {
      refuse(fmt::format(
          "there is no {} beside it, as beside Megatron's, and it does not begin as llm.c's do; if "
          "it holds nothing but tokens (nanoGPT's), data.raw_type (or --raw-type) must say of what "
          "type",
          megatron_name(path(), ".idx").filename().string()));
    }
    width_ = type == "uint16" ? 2 : 4;
    if (file_.size() % width_ != 0) {
      refuse(fmt::format("{} bytes are no whole number of tokens of {}", file_.size(), type));
    }
    tokens_ = static_cast<std::int64_t>(file_.size() / width_);
  }

  /// A document ends behind each `end`; what follows the last one is a document, too.
  void find_documents(TokenId end) {
    begins_ = {0};
    if (end >= 0) {
      const std::int64_t blocks = (tokens_ + kBlockTokens - 1) / kBlockTokens;
      std::vector<std::vector<std::int64_t>> found(static_cast<std::size_t>(blocks));
      base::parallel_for(blocks, base::worker_threads(), [&](std::int64_t block) {
        const std::int64_t first = block * kBlockTokens;
        const std::int64_t count = std::min(kBlockTokens, tokens_ - first);
        std::vector<TokenId> ids(static_cast<std::size_t>(count));
        read(first, first + count, ids.data());
        for (std::int64_t i = 0; i < count; ++i) {
          if (ids[static_cast<std::size_t>(i)] == end) {
            found[static_cast<std::size_t>(block)].push_back(first + i + 1);
          }
        }
      });
      for (const auto& ends : found) begins_.insert(begins_.end(), ends.begin(), ends.end());
    }
    if (begins_.back() != tokens_) begins_.push_back(tokens_);
  }

  base::MappedFile file_;
  std::uint64_t width_ = 0;  ///< bytes of a token
  std::uint64_t header_bytes_ = 0;
  std::int64_t tokens_ = 0;
  std::vector<std::int64_t> begins_;  ///< first token of each document, and the end
};

}  // namespace

std::unique_ptr<TokenFile> open_flat_file(const std::filesystem::path& path,
                                          const FlatTokens& flat) {
  return std::make_unique<FlatTokenFile>(path, flat);
}

}  // namespace longspan::data
