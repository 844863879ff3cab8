// A tokenizer.json: either it is refused with InputError, or it encodes and decodes.

#include <cstdint>
#include <string>

#include "data/hf/hf_tokenizer.h"
#include "longspan/base/error.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string file(reinterpret_cast<const char*>(data), size);
  try {
    const longspan::data::hf::HfTokenizer tokenizer(file, "input");
    for (const char* const text : {"ab  a\xcc\x81 12\n <e>", "\xff a\xe2\x96\x81"}) {
      tokenizer.decode(tokenizer.encode_with_special(text));
      tokenizer.decode(tokenizer.encode(text));
    }
  } catch (const longspan::base::InputError&) {  // as it should be
  }
  return 0;
}
