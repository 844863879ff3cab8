#include "longspan/data/token_file_writer.h"

#include <fmt/format.h>

#include <algorithm>
#include <fstream>
#include <limits>
#include <system_error>

#include "data/token_formats.h"
#include "longspan/base/error.h"
#include "longspan/base/file.h"

namespace longspan::data {
namespace {

namespace fs = std::filesystem;

/// A file under a temporary name until `rename`; removed when that is not reached.
class PendingFile {
 public:
  explicit PendingFile(fs::path path)
      : path_(std::move(path)), temporary_(fs::path(path_) += ".tmp"), writer_(temporary_) {}
  ~PendingFile() {
    std::error_code ignored;
    if (!renamed_) fs::remove(temporary_, ignored);
  }
  PendingFile(const PendingFile&) = delete;
  PendingFile& operator=(const PendingFile&) = delete;

  base::FileWriter& writer() { return writer_; }
  const fs::path& temporary() const { return temporary_; }

  void rename() {
    std::error_code error;
    fs::rename(temporary_, path_, error);
    if (error) {
      throw base::InputError(fmt::format("cannot replace {}: {}", path_.string(), error.message()));
    }
    renamed_ = true;
    base::sync_directory(path_.has_parent_path() ? path_.parent_path() : ".");
  }

 private:
  fs::path path_;
  fs::path temporary_;
  base::FileWriter writer_;
  bool renamed_ = false;
};

/// Appends tokens in the width of the file, checked.
class TokenAppender {
 public:
  TokenAppender(std::int64_t vocab_size, std::uint32_t token_bytes)
      : vocab_size_(vocab_size), token_bytes_(token_bytes) {}

  void append(base::FileWriter& writer, const std::vector<TokenId>& tokens) {
    for (const TokenId token : tokens) {
      if (token < 0 || token >= vocab_size_) {
        throw base::InputError(
            fmt::format("cannot write token {}: not in [0, {})", token, vocab_size_));
      }
    }
    if (token_bytes_ == 4) return writer.write(tokens.data(), tokens.size() * sizeof(TokenId));
    narrow_.assign(tokens.begin(), tokens.end());
    writer.write(narrow_.data(), narrow_.size() * sizeof(std::uint16_t));
  }
  std::uint32_t token_bytes() const { return token_bytes_; }

 private:
  std::int64_t vocab_size_;
  std::uint32_t token_bytes_;
  std::vector<std::uint16_t> narrow_;
};

template <typename Value>
void write_values(base::FileWriter& writer, const std::vector<Value>& values) {
  writer.write(values.data(), values.size() * sizeof(Value));
}

class TokensWriter final : public TokenFileWriter {
 public:
  TokensWriter(const fs::path& path, std::int64_t vocab_size, const std::string& tokenizer_hash)
      : file_(path), appender_(vocab_size, vocab_size <= 65536 ? 2 : 4) {
    header_.token_bytes = appender_.token_bytes();
    header_.vocab_size = static_cast<std::uint64_t>(vocab_size);
    std::copy(tokenizer_hash.begin(), tokenizer_hash.end(), header_.tokenizer_hash.begin());
    file_.writer().write(&header_, sizeof(header_));  // counts and hash come in finish
  }

  void add_document(const std::vector<TokenId>& tokens, std::int64_t text_bytes) override {
    append(tokens, text_bytes);
    if (masked_) add_whole(text_bytes_.size() - 1);
  }

  void add_masked_document(const MaskedTokens& document, std::int64_t text_bytes) override {
    if (!masked_) {  // of the documents so far, all tokens are to be predicted
      masked_ = true;
      for (std::size_t number = 0; number + 1 < begins_.size(); ++number) add_whole(number);
    }
    const std::int64_t first = begins_.back();
    std::int64_t end = 0;
    for (const TokenRange& range : document.loss) {
      if (range.begin < end || range.end <= range.begin ||
          range.end > static_cast<std::int64_t>(document.ids.size())) {
        throw base::InternalError(
            fmt::format("ranges of the loss must ascend within {} tokens, found {} to {}",
                        document.ids.size(), range.begin, range.end));
      }
      end = range.end;
    }
    append(document.ids, text_bytes);
    for (const TokenRange& range : document.loss) {
      loss_.push_back({first + range.begin, first + range.end});
    }
  }

  void finish() override {
    base::FileWriter& writer = file_.writer();
    while (writer.written() % kTokensAlignment != 0) writer.write(std::string_view("\0", 1));
    header_.tokens = static_cast<std::uint64_t>(begins_.back());
    header_.documents = text_bytes_.size();
    header_.index_begin = writer.written();
    header_.version = masked_ ? kMaskedTokensVersion : kTokensVersion;
    base::Xxh3Stream hash;
    hash.update(&header_, kTokensHashedBytes);
    const auto put = [&](const void* values, std::size_t bytes) {
      writer.write(values, bytes);
      hash.update(values, bytes);
    };
    put(begins_.data(), begins_.size() * sizeof(std::int64_t));
    put(text_bytes_.data(), text_bytes_.size() * sizeof(std::int64_t));
    if (masked_) {
      const std::uint64_t ranges = loss_.size();
      put(&ranges, sizeof(ranges));
      put(loss_.data(), loss_.size() * sizeof(TokenRange));
    }
    const std::string hex = hash.hex();
    std::copy(hex.begin(), hex.end(), header_.index_hash.begin());
    writer.flush();
    replace_header();
    writer.commit();
    file_.rename();
  }

 private:
  void append(const std::vector<TokenId>& tokens, std::int64_t text_bytes) {
    appender_.append(file_.writer(), tokens);
    begins_.push_back(begins_.back() + static_cast<std::int64_t>(tokens.size()));
    text_bytes_.push_back(text_bytes);
  }
  void add_whole(std::size_t document) {
    const TokenRange range{begins_[document], begins_[document + 1]};
    if (range.begin < range.end) loss_.push_back(range);
  }

  void replace_header() {
    std::fstream stream(file_.temporary(), std::ios::in | std::ios::out | std::ios::binary);
    stream.write(reinterpret_cast<const char*>(&header_), sizeof(header_));
    stream.close();
    if (!stream) {
      throw base::InputError(fmt::format("cannot write {}", file_.temporary().string()));
    }
  }

  PendingFile file_;
  TokenAppender appender_;
  TokensHeader header_;
  std::vector<std::int64_t> begins_ = {0};
  std::vector<std::int64_t> text_bytes_;
  bool masked_ = false;
  std::vector<TokenRange> loss_;  ///< if masked, of all documents
};

/// One sequence a document.
class MegatronWriter final : public TokenFileWriter {
 public:
  MegatronWriter(const fs::path& path, std::int64_t vocab_size)
      : data_(megatron_name(path, ".bin")),
        index_(megatron_name(path, ".idx")),
        appender_(vocab_size, vocab_size < 65500 ? 2 : 4) {}

  void add_masked_document(const MaskedTokens&, std::int64_t) override {
    throw base::InputError(
        "the Megatron format cannot say which tokens count in the loss, as with chats not all do; "
        "write a .tokens file (--format tokens)");
  }

  void add_document(const std::vector<TokenId>& tokens, std::int64_t) override {
    if (tokens.size() > std::numeric_limits<std::int32_t>::max()) {
      throw base::InputError(fmt::format(
          "document {} has {} tokens: the Megatron format holds at most 2^31 - 1 a document",
          lengths_.size(), tokens.size()));
    }
    offsets_.push_back(static_cast<std::int64_t>(data_.writer().written()));
    lengths_.push_back(static_cast<std::int32_t>(tokens.size()));
    appender_.append(data_.writer(), tokens);
  }

  void finish() override {
    base::FileWriter& writer = index_.writer();
    const std::uint8_t code = appender_.token_bytes() == 2 ? kMegatronUInt16 : kMegatronInt32;
    const std::uint64_t sequences = lengths_.size();
    const std::uint64_t document_marks = sequences + 1;
    writer.write(kMegatronMagic.data(), kMegatronMagic.size());
    writer.write(&kMegatronVersion, sizeof(kMegatronVersion));
    writer.write(&code, sizeof(code));
    writer.write(&sequences, sizeof(sequences));
    writer.write(&document_marks, sizeof(document_marks));
    write_values(writer, lengths_);
    write_values(writer, offsets_);
    for (std::uint64_t mark = 0; mark < document_marks; ++mark) writer.write(&mark, sizeof(mark));
    data_.writer().commit();
    writer.commit();
    // Without the index the data are not a token file: it comes last.
    data_.rename();
    index_.rename();
  }

 private:
  PendingFile data_;
  PendingFile index_;
  TokenAppender appender_;
  std::vector<std::int32_t> lengths_;
  std::vector<std::int64_t> offsets_;
};

}  // namespace

std::unique_ptr<TokenFileWriter> TokenFileWriter::create(const fs::path& path, TokenFormat format,
                                                         std::int64_t vocab_size,
                                                         const std::string& tokenizer_hash) {
  if (vocab_size < 1 || vocab_size > std::numeric_limits<TokenId>::max()) {
    throw base::InputError(fmt::format(
        "cannot write {}: a vocabulary of {} is not in 1 to 2^31 - 1", path.string(), vocab_size));
  }
  if (format == TokenFormat::kMegatron) return std::make_unique<MegatronWriter>(path, vocab_size);
  if (tokenizer_hash.size() != 32 && !tokenizer_hash.empty()) {
    throw base::InternalError(
        fmt::format("a tokenizer hash has 32 digits, found {}", tokenizer_hash.size()));
  }
  return std::make_unique<TokensWriter>(path, vocab_size, tokenizer_hash);
}

}  // namespace longspan::data
