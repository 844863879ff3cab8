#include <pthread.h>

#include <catch2/catch.hpp>
#include <cstring>
#include <filesystem>
#include <string>
#include <vector>

#include "longspan/checkpoint/safetensors.h"
#include "tests/checkpoint/support.h"

namespace longspan::checkpoint {
namespace {

using longspan::test::TemporaryDirectory;

struct HostileHeader {
  std::string header;
  std::size_t data_bytes;
  std::string message;  ///< a part of it
};

std::string repeat(const std::string& text, std::size_t count) {
  std::string all;
  all.reserve(text.size() * count);
  for (std::size_t i = 0; i < count; ++i) all += text;
  return all;
}

std::string with_length(const std::string& header, std::size_t data_bytes) {
  const std::uint64_t length = header.size();
  std::string file(8, '\0');
  std::memcpy(file.data(), &length, 8);
  return file + header + std::string(data_bytes, 'x');
}

/// What opening the file says; empty when it opens.
std::string refusal(const std::string& file) {
  const TemporaryDirectory directory;
  const auto path = directory.path() / "hostile.safetensors";
  test::write_bytes(path, file);
  try {
    const SafetensorsFile opened(path);
  } catch (const base::InputError& error) {
    CHECK_THAT(error.what(), Catch::Contains(path.string()));
    CHECK(std::strlen(error.what()) < 600);
    return error.what();
  }
  return "";
}

std::vector<HostileHeader> json_faults() {
  return {
      {"", 0, "does not start with '{'"},
      {" {}", 0, "does not start with '{'"},
      {"\n{}", 0, "does not start with '{'"},
      {"\xEF\xBB\xBF{}", 0, "does not start with '{'"},
      {"[]", 0, "does not start with '{'"},
      {"null", 0, "does not start with '{'"},
      {"        ", 0, "does not start with '{'"},
      {"{", 0, "not valid JSON"},
      {"{}}", 0, "not valid JSON"},
      {"{} x", 0, "not valid JSON"},
      {"{}{}", 0, "not valid JSON"},
      {std::string("{}\0\0", 4), 0, "not valid JSON"},
      {"{,}", 0, "not valid JSON"},
      {"{'a':1}", 0, "not valid JSON"},
      {"{/**/}", 0, "not valid JSON"},
      {"{\"a", 0, "not valid JSON"},
      {"{\"a\\", 0, "not valid JSON"},
      {"{\"a\":", 0, "not valid JSON"},
      {"{\"\\ud800\":{}}", 0, "not valid JSON"},
      {"{\"\xC3\x28\":{}}", 0, "not valid JSON"},
      {"{\"\xED\xA0\x80\":{}}", 0, "not valid JSON"},
      {"{\"a\":{\"shape\":[NaN]}}", 0, "not valid JSON"},
      {"{\"a\":{\"shape\":[1e999]}}", 0, "not valid JSON"},
      {"{\"a\":{\"shape\":[01]}}", 0, "not valid JSON"},
      {"{\"a\":{\"shape\":[1,]}}", 0, "not valid JSON"},
      {R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},})", 1, "not valid JSON"},
  };
}

std::vector<HostileHeader> structure_faults() {
  return {
      {R"({"a":1})", 0, R"(tensor "a" must be a JSON object, found a number)"},
      {R"({"a":null})", 0, R"(tensor "a" must be a JSON object, found null)"},
      {R"({"a":[]})", 0, R"(tensor "a" must be a JSON object, found an array)"},
      {R"({"a":"U8"})", 0, R"(tensor "a" must be a JSON object, found a string)"},
      {R"({"a":{}})", 0, R"(tensor "a": dtype is missing)"},
      {R"({"a":{"dtype":"U8","data_offsets":[0,0]}})", 0, R"(tensor "a": shape is missing)"},
      {R"({"a":{"dtype":"U8","shape":[0]}})", 0, R"(tensor "a": data_offsets is missing)"},
      {R"({"a":{"dtype":8}})", 0, R"(tensor "a": dtype must be a string, found a number)"},
      {R"({"a":{"dtype":["U8"]}})", 0, "dtype must be a string, found an array"},
      {R"({"a":{"dtype":"F8_E5M2"}})", 0, R"(dtype "F8_E5M2" is not supported)"},
      {R"({"a":{"dtype":"F4"}})", 0, R"(dtype "F4" is not supported)"},
      {R"({"a":{"dtype":"f32"}})", 0, R"(dtype "f32" is not supported)"},
      {R"({"a":{"dtype":""}})", 0, R"(dtype "" is not supported)"},
      {R"({"a":{"shape":3}})", 0, "shape must be an array of integers"},
      {R"({"a":{"shape":{}}})", 0, "shape must be an array of integers"},
      {R"({"a":{"shape":[-1]}})", 0, "found a negative number"},
      {R"({"a":{"shape":[1.0]}})", 0, "not a 64-bit integer"},
      {R"({"a":{"shape":[18446744073709551616]}})", 0, "not a 64-bit integer"},
      {R"({"a":{"shape":["1"]}})", 0, "found a string"},
      {R"({"a":{"shape":[true]}})", 0, "found a boolean"},
      {R"({"a":{"shape":[[1]]}})", 0, "found an array"},
      {R"({"a":{"shape":[1)" + repeat(",1", 32) + "]}}", 0, "shape has more than 32 entries"},
      {R"({"a":{"data_offsets":"0-1"}})", 0, "data_offsets must be an array of integers"},
      {R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0]}})", 1, "must hold two numbers"},
      {R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[]}})", 1, "must hold two numbers"},
      {R"({"a":{"data_offsets":[0,1,2]}})", 0, "data_offsets has more than 2 entries"},
      {R"({"a":{"stride":[1]}})", 0, R"(unknown key "stride")"},
      {R"({"a":{"dtype":"U8","dtype":"U8"}})", 0, "dtype is there twice"},
      {R"({"a":{"shape":[1],"shape":[1]}})", 0, "shape is there twice"},
      {R"({"a":{"data_offsets":[],"data_offsets":[]}})", 0, "data_offsets is there twice"},
      {R"({"":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}})", 0, "empty name"},
      {R"({"a\u0000b":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}})", 0, "control characters"},
      {R"({"a\n":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}})", 0, "control characters"},
      {"{\"" + repeat("n", 1025) + "\":{}}", 0, "has 1025 bytes"},
      {R"({"__metadata__":"pt"})", 0, "must be a JSON object"},
      {R"({"__metadata__":{"format":1}})", 0, R"(entry "format" must be a string)"},
      {R"({"__metadata__":{"format":null}})", 0, R"(entry "format" must be a string)"},
      {R"({"__metadata__":{"format":{"a":"b"}}})", 0, R"(entry "format" must be a string)"},
      {R"({"__metadata__":{"a":"1","a":"2"}})", 0, R"(__metadata__ names "a" twice)"},
      {R"({"__metadata__":{},"__metadata__":{}})", 0, "__metadata__ is there twice"},
  };
}

/// {"name":{"dtype":..,"shape":[..],"data_offsets":[..]}} without the outer braces.
std::string entry(const std::string& name, const std::string& dtype, const std::string& shape,
                  const std::string& offsets) {
  return "\"" + name + "\":{\"dtype\":\"" + dtype + "\",\"shape\":[" + shape +
         "],\"data_offsets\":[" + offsets + "]}";
}

std::vector<HostileHeader> layout_faults() {
  const auto two = [](const std::string& first, const std::string& second) {
    return "{" + entry("a", "U8", "4", first) + "," + entry("b", "U8", "4", second) + "}";
  };
  return {
      {"{" + entry("a", "U8", "4", "0,4") + "," + entry("a", "U8", "4", "4,8") + "}", 8,
       R"(tensor "a" is there twice)"},
      {"{" + entry("a", "F32", "4294967296,4294967296", "0,4") + "}", 4, "overflows 64 bits"},
      {"{" + entry("a", "F32", "4611686018427387904", "0,0") + "}", 0, "overflows 64 bits"},
      {"{" + entry("a", "U8", "18446744073709551615", "0,1") + "}", 1, "overflows 64 bits"},
      {"{" + entry("a", "F32", "2", "0,4") + "}", 4, "do not span the 8 bytes of F32 [2]"},
      {"{" + entry("a", "F32", "", "0,8") + "}", 8, "do not span the 4 bytes of F32 []"},
      {"{" + entry("a", "U8", "0", "0,1") + "}", 1, "do not span the 0 bytes"},
      {"{" + entry("a", "U8", "4", "8,4") + "}", 8, "do not span"},
      {"{" + entry("a", "U8", "1", "18446744073709551615,0") + "}", 8, "do not span"},
      {two("0,4", "3,7"), 8, R"(tensor "b" begins at byte 3 of the data, expected 4: an overlap)"},
      {two("0,4", "0,4"), 8, "an overlap"},
      {two("0,4", "5,9"), 9, R"(tensor "b" begins at byte 5 of the data, expected 4: a hole)"},
      {two("4,8", "8,12"), 12, R"(tensor "a" begins at byte 4 of the data, expected 0: a hole)"},
      {two("0,4", "4,8"), 7, "the file is cut short"},
      {two("0,4", "4,8"), 0, "the file is cut short"},
      {two("0,4", "4,8"), 9, "the tensors take 8 bytes, but the data has 9"},
      {"{}", 1, "the tensors take 0 bytes, but the data has 1"},
      {"{" + entry("a", "U8", "0", "5,5") + "}", 0, "a hole"},
      {"{" + entry("a", "U8", "18446744073709551,1", "18446744073709551,36893488147419102") + "}",
       64, "a hole"},
  };
}

void check_all(const std::vector<HostileHeader>& cases) {
  for (const HostileHeader& hostile : cases) {
    INFO(hostile.header);
    CHECK_THAT(refusal(with_length(hostile.header, hostile.data_bytes)),
               Catch::Contains(hostile.message));
  }
}

TEST_CASE("safetensors: headers that are not strict JSON are refused") { check_all(json_faults()); }

TEST_CASE("safetensors: headers of another structure are refused") {
  check_all(structure_faults());
}

TEST_CASE("safetensors: tensors that do not tile the data are refused") {
  check_all(layout_faults());
}

TEST_CASE("safetensors: what looks hostile but is legal opens") {
  const std::string empty = entry("z", "U8", "0,9223372036854775807", "0,0");
  CHECK(refusal(with_length("{}      ", 0)) == "");
  CHECK(refusal(with_length("{" + empty + "," + entry("a", "U8", "4", "0,4") + "}", 4)) == "");
  CHECK(refusal(with_length(
            "{ \"__metadata__\" : {} ,\n" + entry("\\u00e9", "F64", "", "0,8") + "\t}", 8)) == "");
}

TEST_CASE("safetensors: wrong lengths and short files are refused") {
  const auto file = [](std::uint64_t length, const std::string& rest) {
    std::string bytes(8, '\0');
    std::memcpy(bytes.data(), &length, 8);
    return bytes + rest;
  };
  CHECK_THAT(refusal(""), Catch::Contains("it has 0 bytes, at least 8"));
  CHECK_THAT(refusal("1234567"), Catch::Contains("it has 7 bytes, at least 8"));
  CHECK_THAT(refusal(file(3, "{}")), Catch::Contains("its header claims 3 bytes"));
  CHECK_THAT(refusal(file(UINT64_MAX, "{}")), Catch::Contains("its header claims"));
  CHECK_THAT(refusal(file(UINT64_MAX - 7, "{}")), Catch::Contains("its header claims"));
  CHECK_THAT(refusal(file(100'000'001, "{}")), Catch::Contains("its header claims"));
  CHECK_THAT(refusal(file(0, "{}")), Catch::Contains("does not start with '{'"));
  CHECK_THAT(test::message_of([] { SafetensorsFile file("/"); }), Catch::Contains("regular file"));
}

TEST_CASE("safetensors: a good file cut at every length is refused") {
  const std::string good = with_length("{" + entry("a", "U8", "4", "0,4") + "}", 4);
  CHECK(refusal(good) == "");
  for (std::size_t length = 0; length < good.size(); ++length) {
    INFO(length);
    CHECK(refusal(good.substr(0, length)) != "");
  }
}

TEST_CASE("safetensors: bombs cost little more memory than the header's own size") {
  constexpr std::size_t kMiB = std::size_t{1} << 20U;
  constexpr std::size_t kSize = 24 * kMiB;
  std::string many = "{";
  for (int i = 0; many.size() < kSize; ++i) {
    many += (i == 0 ? "" : ",") + entry(std::to_string(i), "U8", "", "0,1");
  }
  std::string metadata = R"({"__metadata__":{"0":"")";
  for (int i = 1; metadata.size() < kSize; ++i) metadata += ",\"" + std::to_string(i) + "\":\"\"";
  const std::vector<HostileHeader> bombs = {
      {"{\"" + repeat("n", kSize) + "\":{}}", 0, "more than 1048576 bytes"},
      {"{\"" + repeat("\\\"", kSize / 2) + "\":{}}", 0, "more than 1048576 bytes"},
      {"{\"" + repeat("n", kSize), 0, "more than 1048576 bytes"},
      {"{\"a\":{\"shape\":[" + repeat("1", kSize) + "]}}", 0, "more than 1048576 bytes"},
      {"{" + repeat("\n", kSize) + "}", 0, "more than 1048576 bytes"},
      {"{\"a\":{\"shape\":[" + repeat("1,", kSize / 2) + "1]}}", 0, "more than 32 entries"},
      {many + "}", 0, "more than 131072 tensors"},
      {metadata + "}}", 0, "more than 16384 entries"},
  };
  const TemporaryDirectory directory;
  const auto path = directory.path() / "bomb.safetensors";
  for (const HostileHeader& bomb : bombs) {
    test::write_bytes(path, with_length(bomb.header, bomb.data_bytes));
    std::string message;
    const std::uint64_t growth = test::memory_growth(
        [&] { message = test::message_of([&] { SafetensorsFile file(path); }); });
    INFO(bomb.message << ": memory rose by " << growth << " MiB");
    CHECK_THAT(message, Catch::Contains(bomb.message));
#ifndef __SANITIZE_ADDRESS__  // which keeps freed memory on purpose
    CHECK(growth < kSize / kMiB + 16);
#endif
  }
}

TEST_CASE("safetensors: nesting is refused without recursion, on a stack of 256 KiB") {
  const TemporaryDirectory directory;
  const auto path = directory.path() / "deep.safetensors";
  constexpr std::size_t kDepth = 1'000'000;
  const std::vector<std::string> headers = {
      repeat("{\"a\":", kDepth), "{\"a\":" + repeat("[", kDepth),
      "{\"a\":{\"shape\":" + repeat("[", kDepth),
      "{\"__metadata__\":{\"a\":" + repeat("{\"a\":", kDepth)};
  for (const std::string& header : headers) {
    test::write_bytes(path, with_length(header, 0));
    struct Task {
      std::filesystem::path path;
      std::string message;
    } task{path, ""};
    pthread_attr_t attributes;
    pthread_t thread{};
    REQUIRE(pthread_attr_init(&attributes) == 0);
    REQUIRE(pthread_attr_setstacksize(&attributes, 256U << 10U) == 0);
    const auto body = [](void* argument) -> void* {
      auto* const work = static_cast<Task*>(argument);
      work->message = test::message_of([&] { SafetensorsFile file(work->path); });
      return nullptr;
    };
    REQUIRE(pthread_create(&thread, &attributes, body, &task) == 0);
    REQUIRE(pthread_join(thread, nullptr) == 0);
    pthread_attr_destroy(&attributes);
    CHECK_THAT(task.message, Catch::Contains("found an") || Catch::Contains("unknown key"));
  }
}

}  // namespace
}  // namespace longspan::checkpoint
