// A .tokens file, as it is and with the hash of its header and index made right, as an attacker
// would.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "longspan/base/error.h"
#include "longspan/base/file.h"
#include "longspan/data/token_file.h"
#include "tests/fuzz/memory_directory.h"

namespace {

using longspan::data::TokenFile;
using longspan::data::TokenId;

constexpr std::size_t kHashed = 80;      // bytes of the header
constexpr std::size_t kIndexBegin = 72;  // where the header says the index is

void seal(std::string& bytes) {
  if (bytes.size() < 128) return;
  std::uint64_t index = 0;
  std::memcpy(&index, bytes.data() + kIndexBegin, sizeof(index));
  const std::string hashed =
      bytes.substr(0, kHashed) + bytes.substr(std::min<std::uint64_t>(index, bytes.size()));
  bytes.replace(kHashed, 32, longspan::base::xxh3_hex(hashed.data(), hashed.size()));
}

void read_all(const TokenFile& file) {
  std::int64_t counted = 0;
  for (std::int64_t document = 0; document < file.documents(); ++document) {
    const std::int64_t begin = file.document_begin(document);
    const std::int64_t end = file.document_begin(document + 1);
    std::vector<TokenId> ids(static_cast<std::size_t>(end - begin));
    file.read(begin, end, ids.data());
    for (const auto& range : file.loss_ranges(begin, end)) {
      const bool within = range.begin >= begin && range.begin < range.end && range.end <= end;
      if (!within) __builtin_trap();
      counted += range.end - range.begin;
    }
  }
  if (counted != file.loss_tokens(0, file.tokens())) __builtin_trap();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const longspan::fuzz::MemoryDirectory directory;
  std::string bytes(reinterpret_cast<const char*>(data), size);
  for (const bool sealed : {false, true}) {
    if (sealed) seal(bytes);
    directory.write("fuzz.tokens", reinterpret_cast<const std::uint8_t*>(bytes.data()),
                    bytes.size());
    try {
      read_all(*TokenFile::open(directory.path() / "fuzz.tokens"));
    } catch (const longspan::base::InputError&) {
    }
  }
  return 0;
}
