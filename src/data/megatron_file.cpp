#include <fmt/format.h>

#include <vector>

#include "data/token_formats.h"
#include "longspan/base/error.h"
#include "longspan/base/file.h"

namespace longspan::data {
namespace {

/// Bytes of Megatron's type codes that are integers, 0 for the others.
std::uint64_t token_bytes(std::uint8_t code) {
  switch (code) {
    case 1:  // u8
    case 2:  // i8
      return 1;
    case 3:  // i16
    case kMegatronUInt16:
      return 2;
    case kMegatronInt32:
      return 4;
    case 5:  // i64
      return 8;
    default:
      return 0;
  }
}

class MegatronFile final : public TokenFile {
 public:
  explicit MegatronFile(const std::filesystem::path& path)
      : path_(path), data_(megatron_name(path, ".bin")) {
    const base::MappedFile index(megatron_name(path, ".idx"));
    index_path_ = index.path();
    const Counts counts = read_header(index);
    const std::vector<std::int64_t> sequences = read_sequences(index, counts);
    read_documents(index, counts, sequences);
  }

  const std::filesystem::path& path() const override { return path_; }
  std::int64_t tokens() const override { return begins_.back(); }
  std::int64_t documents() const override { return static_cast<std::int64_t>(begins_.size()) - 1; }
  std::int64_t document_begin(std::int64_t document) const override {
    return begins_[static_cast<std::size_t>(document)];
  }
  std::int64_t document_bytes(std::int64_t) const override { return -1; }
  std::string tokenizer_hash() const override { return {}; }

  void read(std::int64_t begin, std::int64_t end, TokenId* out) const override {
    const std::byte* from = data_.data() + static_cast<std::uint64_t>(begin) * token_bytes(code_);
    const std::int64_t count = end - begin;
    switch (code_) {
      case 1:
        return load_tokens<std::uint8_t>(from, count, out);
      case 2:
        return load_tokens<std::int8_t>(from, count, out);
      case 3:
        return load_tokens<std::int16_t>(from, count, out);
      case kMegatronUInt16:
        return load_tokens<std::uint16_t>(from, count, out);
      case kMegatronInt32:
        return load_tokens<std::int32_t>(from, count, out);
      default:
        return load_tokens<std::int64_t>(from, count, out);
    }
  }

 private:
  struct Counts {
    std::uint64_t sequences = 0;
    std::uint64_t document_marks = 0;  ///< one more than documents
  };

  [[noreturn]] void refuse(const std::string& why) const {
    throw base::InputError(
        fmt::format("cannot read the Megatron index {}: {}", index_path_.string(), why));
  }

  Counts read_header(const base::MappedFile& index) {
    const std::uint64_t size = index.size();
    if (size < kMegatronHeaderBytes) {
      refuse(fmt::format("{} bytes are too few for its header of {}", size, kMegatronHeaderBytes));
    }
    if (std::memcmp(index.data(), kMegatronMagic.data(), kMegatronMagic.size()) != 0) {
      refuse("it does not begin with MMIDIDX");
    }
    const auto version = load<std::uint64_t>(index.data() + 9);
    if (version != kMegatronVersion) refuse(fmt::format("its version is {}, expected 1", version));
    code_ = load<std::uint8_t>(index.data() + 17);
    if (token_bytes(code_) == 0) {
      refuse(fmt::format("its type code is {}, expected one of the integers 1-5 and 8", code_));
    }
    const Counts counts{load<std::uint64_t>(index.data() + 18),
                        load<std::uint64_t>(index.data() + 26)};
    if (counts.sequences > size || counts.document_marks > size) {
      refuse(fmt::format("{} sequences and {} document marks do not fit in its {} bytes",
                         counts.sequences, counts.document_marks, size));
    }
    const std::uint64_t expected =
        kMegatronHeaderBytes + 12 * counts.sequences + 8 * counts.document_marks;
    if (size != expected && size != expected + counts.sequences) {  // a byte of mode a sequence
      refuse(fmt::format("expected {} or {} bytes, found {}: it is cut off or damaged", expected,
                         expected + counts.sequences, size));
    }
    return counts;
  }

  /// First token of each sequence, and the end. Sequences must follow each other without a gap.
  std::vector<std::int64_t> read_sequences(const base::MappedFile& index, const Counts& counts) {
    const std::byte* lengths = index.data() + kMegatronHeaderBytes;
    const std::byte* offsets = lengths + 4 * counts.sequences;
    const std::uint64_t item = token_bytes(code_);
    const std::uint64_t total = data_.size() / item;
    std::vector<std::int64_t> begins(counts.sequences + 1, 0);
    std::uint64_t end = 0;
    for (std::uint64_t sequence = 0; sequence < counts.sequences; ++sequence) {
      const auto length = load<std::int32_t>(lengths, sequence);
      const auto offset = load<std::int64_t>(offsets, sequence);
      if (length < 0) refuse(fmt::format("sequence {} has the length {}", sequence, length));
      if (offset < 0 || static_cast<std::uint64_t>(offset) != end * item) {
        refuse(
            fmt::format("sequence {} begins at byte {}, expected {} (sequences must follow each "
                        "other without a gap)",
                        sequence, offset, end * item));
      }
      end += static_cast<std::uint64_t>(length);
      if (end > total) {
        refuse(fmt::format("sequence {} ends at token {}, but {} holds {}", sequence, end,
                           data_.path().string(), total));
      }
      begins[sequence + 1] = static_cast<std::int64_t>(end);
    }
    if (end * item != data_.size()) {
      refuse(fmt::format("it describes {} bytes of tokens, but {} has {}", end * item,
                         data_.path().string(), data_.size()));
    }
    return begins;
  }

  void read_documents(const base::MappedFile& index, const Counts& counts,
                      const std::vector<std::int64_t>& sequences) {
    if (counts.document_marks == 0) refuse("its list of documents is empty, expected at least 0");
    const std::byte* marks = index.data() + kMegatronHeaderBytes + 12 * counts.sequences;
    const auto last_sequence = static_cast<std::int64_t>(counts.sequences);
    std::int64_t previous = 0;
    for (std::uint64_t number = 0; number < counts.document_marks; ++number) {
      const auto mark = load<std::int64_t>(marks, number);
      if (mark < previous || mark > last_sequence || (number == 0 && mark != 0)) {
        refuse(fmt::format("document mark {} is sequence {}, expected {} to {}", number, mark,
                           previous, number == 0 ? 0 : last_sequence));
      }
      begins_.push_back(sequences[static_cast<std::size_t>(mark)]);
      previous = mark;
    }
    if (previous != last_sequence) {
      refuse(fmt::format("its documents end at sequence {} of {}", previous, last_sequence));
    }
  }

  std::filesystem::path path_;
  std::filesystem::path index_path_;
  base::MappedFile data_;
  std::uint8_t code_ = 0;
  std::vector<std::int64_t> begins_;  ///< first token of each document, and the end
};

}  // namespace

bool is_megatron_name(const std::filesystem::path& path) {
  return path.extension() == ".bin" || path.extension() == ".idx";
}

std::filesystem::path megatron_name(const std::filesystem::path& path, const char* extension) {
  std::filesystem::path name = path;
  if (is_megatron_name(path)) name.replace_extension();
  name += extension;
  return name;
}

std::unique_ptr<TokenFile> open_megatron_file(const std::filesystem::path& path) {
  return std::make_unique<MegatronFile>(path);
}

}  // namespace longspan::data
