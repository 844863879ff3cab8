#include <fmt/format.h>

#include <charconv>
#include <optional>
#include <string_view>

#include "longspan/base/error.h"
#include "longspan/data/npy_clips.h"

namespace longspan::data {
namespace {

/// Reads the dictionary, which is Python's as NumPy writes it: {'descr': '<f4', 'fortran_order':
/// False, 'shape': (2, 3), }.
class DictionaryReader {
 public:
  DictionaryReader(std::string_view text, const std::string& file) : rest_(text), file_(&file) {}

  void read(NpyHeader& header) {
    expect('{');
    bool has[3] = {};
    while (!take('}')) {
      const std::string key = quoted();
      expect(':');
      const int number = key == "descr" ? 0 : key == "fortran_order" ? 1 : key == "shape" ? 2 : -1;
      if (number < 0 || has[number]) refuse(fmt::format("has the key '{}'", key));
      has[number] = true;
      if (number == 0) header.descr = quoted();
      if (number == 1) header.fortran_order = boolean();
      if (number == 2) header.shape = tuple();
      if (!take(',') && !(rest_.starts_with('}'))) refuse("has no comma between its keys");
    }
    if (!has[0] || !has[1] || !has[2]) refuse("lacks descr, fortran_order or shape");
    skip();
    if (!rest_.empty()) refuse("goes on behind its end");
  }

 private:
  [[noreturn]] void refuse(const std::string& why) const {
    throw base::InputError(fmt::format(
        "{}: the header {}; expected a .npy file's, {{'descr': '<f4', 'fortran_order': False, "
        "'shape': (frames, channels, height, width), }}",
        *file_, why));
  }

  void skip() {
    while (!rest_.empty() && (rest_.front() == ' ' || rest_.front() == '\n')) {
      rest_.remove_prefix(1);
    }
  }
  bool take(char wanted) {
    skip();
    if (rest_.empty() || rest_.front() != wanted) return false;
    rest_.remove_prefix(1);
    skip();
    return true;
  }
  void expect(char wanted) {
    if (!take(wanted)) refuse(fmt::format("has no '{}' where one is due", wanted));
  }

  std::string quoted() {
    skip();
    const char quote = rest_.empty() ? '\0' : rest_.front();
    const std::size_t end = quote == '\'' || quote == '"' ? rest_.find(quote, 1) : rest_.npos;
    if (end == rest_.npos) refuse("has no text in quotes where one is due");
    std::string text(rest_.substr(1, end - 1));
    rest_.remove_prefix(end + 1);
    skip();
    return text;
  }

  bool boolean() {
    for (const auto& [word, value] : {std::pair<std::string_view, bool>{"False", false},
                                      std::pair<std::string_view, bool>{"True", true}}) {
      if (!rest_.starts_with(word)) continue;
      rest_.remove_prefix(word.size());
      skip();
      return value;
    }
    refuse("has neither True nor False in fortran_order");
  }

  std::vector<std::int64_t> tuple() {
    expect('(');
    std::vector<std::int64_t> extents;
    while (!take(')')) {
      std::int64_t extent = 0;
      const char* const end = rest_.data() + rest_.size();
      const auto [last, error] = std::from_chars(rest_.data(), end, extent);
      if (error != std::errc() || extent < 0) refuse("has a shape that is not of whole numbers");
      rest_.remove_prefix(static_cast<std::size_t>(last - rest_.data()));
      extents.push_back(extent);
      if (!take(',') && !rest_.starts_with(')')) refuse("has a shape without commas");
    }
    return extents;
  }

  std::string_view rest_;
  const std::string* file_;
};

}  // namespace

NpyHeader NpyHeader::parse(const std::string& bytes, const std::string& file) {
  constexpr std::string_view kMagic{"\x93NUMPY", 6};
  const auto byte = [&](std::size_t at) { return static_cast<unsigned char>(bytes[at]); };
  const bool is_npy = bytes.size() >= 10 && bytes.starts_with(kMagic);
  if (!is_npy) throw base::InputError(file + " is no .npy file: it does not begin as one");
  const int version = byte(6);
  if (version < 1 || version > 3 || byte(7) != 0) {
    throw base::InputError(fmt::format("{} is a .npy file of version {}.{}; legal: 1.0, 2.0, 3.0",
                                       file, version, byte(7)));
  }
  const std::size_t begin = version == 1 ? 10 : 12;
  std::uint64_t length = byte(8) | static_cast<std::uint64_t>(byte(9)) << 8U;
  if (version > 1 && bytes.size() >= begin) {
    length |= static_cast<std::uint64_t>(byte(10)) << 16U;
    length |= static_cast<std::uint64_t>(byte(11)) << 24U;
  }
  if (bytes.size() < begin || length > bytes.size() - begin || begin + length > kMostBytes) {
    throw base::InputError(fmt::format("{}: the header has {} bytes, more than the file or {}",
                                       file, length, kMostBytes));
  }
  NpyHeader header;
  header.data_begin = begin + length;
  DictionaryReader(std::string_view(bytes).substr(begin, length), file).read(header);
  return header;
}

}  // namespace longspan::data
