// model.safetensors.index.json beside two good files: what opens has every tensor in one of them,
// and nothing outside of the directory was looked at.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>

#include "longspan/base/error.h"
#include "longspan/checkpoint/model_files.h"
#include "tests/fuzz/memory_directory.h"

namespace {

using longspan::checkpoint::TensorSource;

TensorSource tensor(const char* name) {
  return {{name, longspan::base::DType::kFloat32, {2}},
          [](std::uint64_t, std::uint64_t count, void* out) { std::memset(out, 0, count); }};
}

const longspan::fuzz::MemoryDirectory& directory() {
  static const longspan::fuzz::MemoryDirectory made;
  static const bool written = [] {
    longspan::checkpoint::write_safetensors(made.path() / "a.safetensors", {tensor("x")}, {});
    longspan::checkpoint::write_safetensors(made.path() / "b.safetensors",
                                            {tensor("y"), tensor("z")}, {});
    return true;
  }();
  static_cast<void>(written);
  return made;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  directory().write(longspan::checkpoint::kIndexName, data, size);
  try {
    const longspan::checkpoint::ModelFiles files(directory().path());
    for (const auto& [name, tensor] : files.tensors()) {
      if (files.file_of(name).path().parent_path() !=
          std::filesystem::canonical(directory().path())) {
        std::abort();
      }
    }
  } catch (const longspan::base::InputError&) {
  }
  return 0;
}
