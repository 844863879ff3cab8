// A .bin without an index: llm.c's, or tokens alone of either width.
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
  directory.write("fuzz.bin", data, size);
  for (const char* type : {"", "uint16", "uint32"}) {
    try {
      const auto file = TokenFile::open(directory.path() / "fuzz.bin", {type, 3});
      for (std::int64_t document = 0; document < file->documents(); ++document) {
        const std::int64_t begin = file->document_begin(document);
        const std::int64_t end = file->document_begin(document + 1);
        std::vector<TokenId> ids(static_cast<std::size_t>(end - begin));
        file->read(begin, end, ids.data());
      }
    } catch (const longspan::base::InputError&) {
    }
  }
  return 0;
}
