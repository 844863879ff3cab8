#pragma once

#include <catch2/catch.hpp>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <string>

#include "longspan/base/file.h"
#include "longspan/checkpoint/store.h"
#include "tests/checkpoint/support.h"

namespace longspan::checkpoint::test {

/// A small checkpoint of every kind of content; `salt` tells one from another.
inline Contents sample_contents(std::uint64_t salt) {
  Contents contents;
  contents.weights = {pattern_tensor("embed.weight", base::DType::kBFloat16, {16, 8}, salt),
                      pattern_tensor("norm.weight", base::DType::kFloat32, {8}, salt)};
  contents.optimizer = {pattern_tensor("m.embed.weight", base::DType::kFloat32, {16, 8}, salt)};
  contents.texts = {{"config.json", "{}\n"},
                    {"trainer.json", "{\"salt\": " + std::to_string(salt) + "}\n"}};
  contents.write_more = [salt](const std::filesystem::path& directory) {
    base::make_directories(directory / "tokenizer");
    base::FileWriter file(directory / "tokenizer" / "vocabulary.txt");
    file.write(std::to_string(salt * 7));
    file.commit();
  };
  return contents;
}

/// Checks that a committed checkpoint is, in every file, the sample of this salt.
inline void check_sample(const std::filesystem::path& directory, std::uint64_t salt) {
  INFO(directory);
  CHECK_NOTHROW(verify(directory));
  CHECK(read_bytes(directory / "trainer.json") == "{\"salt\": " + std::to_string(salt) + "}\n");
  CHECK(read_bytes(directory / "tokenizer" / "vocabulary.txt") == std::to_string(salt * 7));
  const Contents expected = sample_contents(salt);
  const auto check_file = [&](const char* name, const std::vector<TensorSource>& tensors) {
    const SafetensorsFile file(directory / name);
    REQUIRE(file.tensors().size() == tensors.size());
    for (const TensorSource& tensor : tensors) {
      const std::string bytes = pattern_bytes(tensor.info.name, tensor.info.bytes(), salt);
      CHECK((data_of(file, tensor.info.name) == bytes));
    }
  };
  check_file("model.safetensors", expected.weights);
  check_file("optimizer.safetensors", expected.optimizer);
}

/// What `latest` names, as a path; empty when it does not exist.
inline std::filesystem::path latest_of(const std::filesystem::path& directory) {
  std::string name = read_bytes(directory / "latest");
  if (!name.ends_with('\n')) return {};
  name.pop_back();
  return directory / name;
}

inline bool has_leftovers(const std::filesystem::path& directory) {
  for (const auto& entry : std::filesystem::directory_iterator(directory)) {
    if (entry.path().filename().string().starts_with(".")) return true;
  }
  return false;
}

}  // namespace longspan::checkpoint::test
