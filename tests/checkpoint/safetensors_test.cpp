#include "longspan/checkpoint/safetensors.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <cstring>

#include "longspan/base/file.h"
#include "tests/checkpoint/support.h"

namespace longspan::checkpoint {
namespace {

using base::DType;
using longspan::test::TemporaryDirectory;
using test::message_of;
using test::pattern_bytes;
using test::pattern_tensor;

std::vector<TensorSource> one_of_each() {
  return {pattern_tensor("bytes", DType::kUInt8, {3}, 1),
          pattern_tensor("tokens", DType::kUInt16, {5, 1}, 1),
          pattern_tensor("half", DType::kBFloat16, {2, 3}, 1),
          pattern_tensor("weight", DType::kFloat32, {7, 2, 1}, 1),
          pattern_tensor("ids", DType::kInt32, {4}, 1),
          pattern_tensor("offsets", DType::kInt64, {3}, 1),
          pattern_tensor("oracle", DType::kFloat64, {2}, 1),
          pattern_tensor("old", DType::kFloat16, {3}, 1),
          pattern_tensor("mask", DType::kBool, {5}, 1),
          pattern_tensor("scalar", DType::kFloat32, {}, 1),
          pattern_tensor("empty", DType::kFloat32, {0, 8}, 1),
          pattern_tensor("a \"quoted\" näme\\", DType::kUInt8, {1}, 1)};
}

std::string header_of(const std::filesystem::path& path) {
  const std::string file = test::read_bytes(path);
  std::uint64_t length = 0;
  std::memcpy(&length, file.data(), 8);
  return file.substr(8, length);
}

TEST_CASE("safetensors: every dtype and shape reads back as written") {
  const TemporaryDirectory directory;
  const auto path = directory.path() / "all.safetensors";
  const std::vector<TensorSource> tensors = one_of_each();
  const FileDigest digest = write_safetensors(path, tensors, {{"format", "pt"}, {"b", "ü\n"}});

  const std::string file = test::read_bytes(path);
  CHECK(digest.bytes == file.size());
  CHECK(digest.xxh3 == base::xxh3_hex(file.data(), file.size()));

  const SafetensorsFile read(path);
  CHECK(read.metadata() == std::map<std::string, std::string>{{"format", "pt"}, {"b", "ü\n"}});
  REQUIRE(read.tensors().size() == tensors.size());
  for (const TensorSource& tensor : tensors) {
    const std::string& name = tensor.info.name;
    INFO(name);
    const TensorInfo& info = read.tensors().at(name);
    CHECK(info.name == name);
    CHECK(info.dtype == tensor.info.dtype);
    CHECK(info.shape == tensor.info.shape);
    const std::string expected = pattern_bytes(name, info.bytes(), 1);
    CHECK((test::data_of(read, name) == expected));
    if (expected.size() > 2) {
      std::string middle(expected.size() - 2, '\0');
      read.read(name, 1, middle.size(), middle.data());
      CHECK((middle == expected.substr(1, middle.size())));
    }
    char byte = 0;
    CHECK_THROWS_AS(read.read(name, expected.size(), 1, &byte), base::InternalError);
  }
}

TEST_CASE("safetensors: tensors lie by descending alignment and name, aligned in the file") {
  const TemporaryDirectory directory;
  const auto path = directory.path() / "order.safetensors";
  write_safetensors(
      path,
      {pattern_tensor("b", DType::kUInt8, {3}, 0), pattern_tensor("z", DType::kFloat32, {1}, 0),
       pattern_tensor("a", DType::kFloat32, {1}, 0), pattern_tensor("y", DType::kInt64, {1}, 0)},
      {{"format", "pt"}});
  std::string header = header_of(path);
  CHECK(header.size() % 8 == 0);
  header.erase(header.find_last_not_of(' ') + 1);
  CHECK(header == R"({"__metadata__":{"format":"pt"},)"
                  R"("y":{"dtype":"I64","shape":[1],"data_offsets":[0,8]},)"
                  R"("a":{"dtype":"F32","shape":[1],"data_offsets":[8,12]},)"
                  R"("z":{"dtype":"F32","shape":[1],"data_offsets":[12,16]},)"
                  R"("b":{"dtype":"U8","shape":[3],"data_offsets":[16,19]}})");
}

TEST_CASE("safetensors: a file without tensors or metadata is legal") {
  const TemporaryDirectory directory;
  const auto path = directory.path() / "none.safetensors";
  CHECK(write_safetensors(path, {}, {}).bytes == 16);
  const SafetensorsFile read(path);
  CHECK(read.tensors().empty());
  CHECK(read.metadata().empty());
  CHECK_THAT(message_of([&] { read.read("w", 0, 0, nullptr); }),
             Catch::Contains("holds no tensor 'w'") && Catch::Contains("none.safetensors"));
}

TEST_CASE("safetensors: large tensors are asked for in pieces, in order, without a gap") {
  const TemporaryDirectory directory;
  const auto path = directory.path() / "large.safetensors";
  constexpr std::int64_t kElements = 3'000'001;
  std::uint64_t position = 0;
  std::uint64_t largest = 0;
  TensorSource source = pattern_tensor("w", DType::kUInt8, {kElements}, 2);
  const auto read = source.read;
  source.read = [&](std::uint64_t first, std::uint64_t count, void* out) {
    CHECK(first == position);
    position += count;
    largest = std::max(largest, count);
    read(first, count, out);
  };
  write_safetensors(path, {source}, {});
  CHECK(position == kElements);
  CHECK(largest <= std::uint64_t{1} << 20U);
  const std::string expected = pattern_bytes("w", kElements, 2);
  CHECK((test::data_of(SafetensorsFile(path), "w") == expected));
}

TEST_CASE("safetensors: the writer refuses names that a file cannot hold") {
  const TemporaryDirectory directory;
  const auto path = directory.path() / "x.safetensors";
  const auto tensor = [](const std::string& name) {
    return pattern_tensor(name, DType::kUInt8, {1}, 0);
  };
  CHECK_THROWS_AS(write_safetensors(path, {tensor("a"), tensor("a")}, {}), base::InternalError);
  CHECK_THROWS_AS(write_safetensors(path, {tensor("__metadata__")}, {}), base::InternalError);
  CHECK_THROWS_AS(write_safetensors(path, {tensor("")}, {}), base::InternalError);
  CHECK_THROWS_AS((TensorInfo{"n", DType::kFloat32, {-1}}.bytes()), base::InternalError);
  CHECK_THROWS_AS((TensorInfo{"n", DType::kFloat32, {INT64_MAX, 8}}.bytes()), base::InternalError);
  CHECK_FALSE(std::filesystem::exists(path));
}

TEST_CASE("safetensors: a write that fails half-way leaves no file") {
  const TemporaryDirectory directory;
  const auto path = directory.path() / "x.safetensors";
  TensorSource source = pattern_tensor("w", DType::kUInt8, {3'000'000}, 0);
  source.read = [](std::uint64_t first, std::uint64_t, void*) {
    if (first > 0) throw base::InternalError("the device is gone");
  };
  CHECK_THROWS_WITH(write_safetensors(path, {source}, {}), "the device is gone");
  CHECK_FALSE(std::filesystem::exists(path));
  CHECK_THAT(message_of([&] { write_safetensors(directory.path() / "no" / "x", {}, {}); }),
             Catch::Contains("no/x") && Catch::Contains("No such file or directory"));
}

}  // namespace
}  // namespace longspan::checkpoint
