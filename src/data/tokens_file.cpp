#include <fmt/format.h>

#include <algorithm>

#include "data/token_formats.h"
#include "longspan/base/error.h"
#include "longspan/base/file.h"

namespace longspan::data {
namespace {

class TokensFile final : public TokenFile {
 public:
  explicit TokensFile(const std::filesystem::path& path) : file_(path) {
    read_header();
    check_sizes();
    check_index();
    if (is_masked()) check_ranges();
  }

  const std::filesystem::path& path() const override { return file_.path(); }
  std::int64_t tokens() const override { return static_cast<std::int64_t>(header_.tokens); }
  std::int64_t documents() const override { return static_cast<std::int64_t>(header_.documents); }
  std::int64_t document_begin(std::int64_t document) const override {
    return load<std::int64_t>(index(), static_cast<std::uint64_t>(document));
  }
  std::int64_t document_bytes(std::int64_t document) const override {
    return load<std::int64_t>(index(),
                              header_.documents + 1 + static_cast<std::uint64_t>(document));
  }
  std::string tokenizer_hash() const override {
    const auto& hash = header_.tokenizer_hash;
    return hash[0] == 0 ? std::string() : std::string(hash.data(), hash.size());
  }

  void read(std::int64_t begin, std::int64_t end, TokenId* out) const override {
    const std::byte* from = file_.data() + sizeof(TokensHeader) +
                            static_cast<std::uint64_t>(begin) * header_.token_bytes;
    if (header_.token_bytes == 2) {
      load_tokens<std::uint16_t>(from, end - begin, out);
    } else {
      load_tokens<std::int32_t>(from, end - begin, out);
    }
  }

  bool is_masked() const override { return header_.version == kMaskedTokensVersion; }
  std::int64_t loss_tokens(std::int64_t begin, std::int64_t end) const override {
    if (!is_masked()) return end - begin;
    std::int64_t count = 0;
    for_each_range(begin, end, [&](const TokenRange& range) { count += range.end - range.begin; });
    return count;
  }
  std::vector<TokenRange> loss_ranges(std::int64_t begin, std::int64_t end) const override {
    if (!is_masked()) return TokenFile::loss_ranges(begin, end);
    std::vector<TokenRange> ranges;
    for_each_range(begin, end, [&](const TokenRange& range) { ranges.push_back(range); });
    return ranges;
  }

 private:
  const std::byte* index() const { return file_.data() + header_.index_begin; }

  [[noreturn]] void refuse(const std::string& why) const {
    throw base::InputError(fmt::format("cannot read the token file {}: {}", path().string(), why));
  }

  void read_header() {
    if (file_.size() < sizeof(TokensHeader)) {
      refuse(fmt::format("{} bytes are too few for its header of {}", file_.size(),
                         sizeof(TokensHeader)));
    }
    header_ = load<TokensHeader>(file_.data());
    if (header_.magic != kTokensMagic) {
      refuse("it does not begin with LSTOKENS: make one with `longspan tokenize`");
    }
    if (header_.version != kTokensVersion && header_.version != kMaskedTokensVersion) {
      refuse(fmt::format("its version is {}, this program reads versions {} and {}",
                         header_.version, kTokensVersion, kMaskedTokensVersion));
    }
    if (header_.token_bytes != 2 && header_.token_bytes != 4) {
      refuse(fmt::format("{} bytes a token at byte 12, expected 2 or 4", header_.token_bytes));
    }
  }

  void check_sizes() const {
    // No product below can overflow once both counts are at most the file's size.
    const std::uint64_t size = file_.size();
    if (header_.tokens > size || header_.documents > size) {
      refuse(fmt::format("{} tokens in {} documents do not fit in its {} bytes", header_.tokens,
                         header_.documents, size));
    }
    const std::uint64_t data_end = sizeof(TokensHeader) + header_.tokens * header_.token_bytes;
    const std::uint64_t index_begin =
        (data_end + kTokensAlignment - 1) / kTokensAlignment * kTokensAlignment;
    if (header_.index_begin != index_begin) {
      refuse(fmt::format("its index is said to begin at byte {}, expected {}", header_.index_begin,
                         index_begin));
    }
    std::uint64_t expected = index_begin + 8 * (2 * header_.documents + 1);
    if (is_masked() && size >= expected + 8) {
      const std::uint64_t ranges = range_count();
      if (ranges > size) {
        refuse(fmt::format("{} ranges of the loss do not fit in its {} bytes", ranges, size));
      }
      expected += sizeof(TokenRange) * ranges;
    }
    if (is_masked()) expected += 8;  // their number
    if (size != expected) {
      refuse(fmt::format("expected {} bytes, found {}: it is cut off or damaged", expected, size));
    }
    const std::uint64_t largest =
        header_.token_bytes == 2 ? std::uint64_t{1} << 16U : (std::uint64_t{1} << 31U) - 1;
    if (header_.vocab_size == 0 || header_.vocab_size > largest) {
      refuse(fmt::format("a vocabulary of {} at byte 16, expected 1 to {} for {} bytes a token",
                         header_.vocab_size, largest, header_.token_bytes));
    }
  }

  void check_index() const {
    base::Xxh3Stream hash;
    hash.update(file_.data(), kTokensHashedBytes);
    hash.update(index(), file_.size() - header_.index_begin);
    if (hash.hex() != std::string(header_.index_hash.data(), header_.index_hash.size())) {
      refuse("the hash of its header and index is wrong: it is damaged");
    }
    if (document_begin(0) != 0 || document_begin(documents()) != tokens()) {
      refuse(fmt::format("its documents span tokens {} to {}, expected 0 to {}", document_begin(0),
                         document_begin(documents()), tokens()));
    }
    for (std::int64_t document = 0; document < documents(); ++document) {
      if (document_begin(document + 1) < document_begin(document)) {
        refuse(fmt::format("document {} ends at token {}, before its begin {}", document,
                           document_begin(document + 1), document_begin(document)));
      }
      if (document_bytes(document) < 0) {
        refuse(fmt::format("document {} has {} bytes of text", document, document_bytes(document)));
      }
    }
  }

  /// They ascend, and each is within a document.
  void check_ranges() const {
    std::int64_t document = 0;
    std::int64_t previous_end = 0;
    for (std::uint64_t number = 0; number < range_count(); ++number) {
      const TokenRange range = range_at(number);
      const bool ascends =
          range.begin >= previous_end && range.begin < range.end && range.end <= tokens();
      if (ascends) {
        while (document_begin(document + 1) <= range.begin) ++document;
      }
      if (!ascends || range.end > document_begin(document + 1)) {
        refuse(fmt::format(
            "range {} of the loss is tokens {} to {}, expected one that ascends within a document",
            number, range.begin, range.end));
      }
      previous_end = range.end;
    }
  }

  /// In the index, behind the documents' two lists: how many ranges, and these.
  std::uint64_t range_place() const { return 2 * header_.documents + 1; }
  std::uint64_t range_count() const { return load<std::uint64_t>(index(), range_place()); }
  TokenRange range_at(std::uint64_t number) const {
    return {load<std::int64_t>(index(), range_place() + 1 + 2 * number),
            load<std::int64_t>(index(), range_place() + 2 + 2 * number)};
  }

  /// Calls `visit` with what of each range is within [begin, end).
  template <typename Visit>
  void for_each_range(std::int64_t begin, std::int64_t end, const Visit& visit) const {
    std::uint64_t low = 0;
    std::uint64_t high = range_count();
    while (low < high) {  // to the first that ends behind `begin`
      const std::uint64_t middle = low + (high - low) / 2;
      if (range_at(middle).end > begin) {
        high = middle;
      } else {
        low = middle + 1;
      }
    }
    for (; low < range_count() && range_at(low).begin < end; ++low) {
      const TokenRange range = range_at(low);
      const TokenRange part{std::max(range.begin, begin), std::min(range.end, end)};
      if (part.begin < part.end) visit(part);
    }
  }

  base::MappedFile file_;
  TokensHeader header_;
};

}  // namespace

std::unique_ptr<TokenFile> open_tokens_file(const std::filesystem::path& path) {
  return std::make_unique<TokensFile>(path);
}

}  // namespace longspan::data
