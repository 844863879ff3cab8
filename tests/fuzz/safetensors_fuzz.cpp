// A safetensors file: what opens must be readable to its last byte.
#include <cstddef>
#include <cstdint>
#include <vector>

#include "longspan/base/error.h"
#include "longspan/checkpoint/safetensors.h"
#include "tests/fuzz/memory_directory.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const longspan::fuzz::MemoryDirectory directory;
  directory.write("fuzz.safetensors", data, size);
  try {
    const longspan::checkpoint::SafetensorsFile file(directory.path() / "fuzz.safetensors");
    std::vector<std::byte> bytes;
    for (const auto& [name, tensor] : file.tensors()) {
      bytes.resize(tensor.bytes());
      file.read(name, 0, bytes.size(), bytes.data());
    }
  } catch (const longspan::base::InputError&) {
  }
  return 0;
}
