// A Megatron index beside tokens of 16 bytes: every document of one that opens can be read.
#include <cstddef>
#include <cstdint>
#include <vector>

#include "longspan/base/error.h"
#include "longspan/data/token_file.h"
#include "tests/fuzz/memory_directory.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using longspan::data::TokenFile;
  using longspan::data::TokenId;
  static const longspan::fuzz::MemoryDirectory directory;
  static const std::vector<std::uint8_t> tokens(16, 1);
  directory.write("fuzz.bin", tokens.data(), tokens.size());
  directory.write("fuzz.idx", data, size);
  try {
    const auto file = TokenFile::open(directory.path() / "fuzz.idx");
    for (std::int64_t document = 0; document < file->documents(); ++document) {
      const std::int64_t begin = file->document_begin(document);
      const std::int64_t end = file->document_begin(document + 1);
      std::vector<TokenId> ids(static_cast<std::size_t>(end - begin));
      file->read(begin, end, ids.data());
    }
    file->check_range(100, 0, 1);
  } catch (const longspan::base::InputError&) {
  }
  return 0;
}
