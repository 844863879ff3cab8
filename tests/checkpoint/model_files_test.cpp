#include "longspan/checkpoint/model_files.h"

#include <catch2/catch.hpp>
#include <cstring>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "longspan/base/error.h"
#include "tests/checkpoint/support.h"

namespace longspan::checkpoint {
namespace {

namespace fs = std::filesystem;
using base::DType;
using longspan::test::TemporaryDirectory;
using test::message_of;
using test::pattern_tensor;
using test::write_bytes;

constexpr const char* kFirst = "model-00001-of-00002.safetensors";
constexpr const char* kSecond = "model-00002-of-00002.safetensors";

std::vector<TensorSource> tensors_of(const std::vector<std::string>& names) {
  std::vector<TensorSource> tensors;
  for (const std::string& name : names) {
    tensors.push_back(pattern_tensor(name, DType::kFloat32, {2, 3}, 1));
  }
  return tensors;
}

/// "a" in the first file, "b" and "c" in the second, and this index.
void write_shards(const fs::path& directory, const std::string& index) {
  write_safetensors(directory / kFirst, tensors_of({"a"}), {});
  write_safetensors(directory / kSecond, tensors_of({"b", "c"}), {});
  write_bytes(directory / kIndexName, index);
}

std::string index_of(const std::string& map, const std::string& metadata = "") {
  return "{" + (metadata.empty() ? "" : "\"metadata\":" + metadata + ",") +
         "\"weight_map\":" + map + "}";
}

const std::string kMap =
    std::string(R"({"a":")") + kFirst + R"(","b":")" + kSecond + R"(","c":")" + kSecond + "\"}";

TEST_CASE("model files: one file, or an index and the files it names") {
  const TemporaryDirectory one;
  write_safetensors(one.path() / kWeightsName, tensors_of({"a", "b"}), {});
  const TemporaryDirectory several;
  const std::string metadata = GENERATE(std::string(), std::string("{}"), R"({"total_size":72})",
                                        R"({"total_size":7.2e1,"total_parameters":18})");
  write_shards(several.path(), index_of(kMap, metadata));
  const ModelFiles single(one.path());
  const ModelFiles sharded(several.path());
  CHECK(single.tensors().size() == 2);
  CHECK(sharded.tensors().size() == 3);
  CHECK(sharded.files().size() == 2);
  CHECK(sharded.file_of("c").path().filename() == kSecond);
  for (const std::string name : {"a", "b", "c"}) {
    std::string bytes(24, '\0');
    sharded.read(name, 0, 24, bytes.data());
    CHECK((bytes == test::pattern_bytes(name, 24, 1)));
  }
  CHECK_THAT(message_of([&] { static_cast<void>(single.file_of("z")); }),
             Catch::Contains("holds no tensor \"z\""));
}

struct HostileIndex {
  std::string text;
  std::string message;  ///< a part of it
};

std::string naming(const std::string& file) {
  return index_of(R"({"a":")" + file + R"(","b":")" + kSecond + R"(","c":")" + kSecond + "\"}");
}

std::vector<HostileIndex> hostile_names() {
  const std::string legal = "legal: the plain name of a .safetensors file";
  return {
      {naming("../x.safetensors"), legal},
      {naming("../../etc/passwd"), legal},
      {naming("/etc/passwd"), legal},
      {naming("/tmp/x.safetensors"), legal},
      {naming("./model-00001-of-00002.safetensors"), legal},
      {naming("sub/x.safetensors"), legal},
      {naming("sub\\\\x.safetensors"), legal},
      {naming(".."), legal},
      {naming("."), legal},
      {naming(""), legal},
      {naming("x\\u0000.safetensors"), legal},
      {naming("x\\n.safetensors"), legal},
      {naming("model-00001-of-00002.safetensors\\u0000"), legal},
      {naming("config.json"), legal},
      {naming("model.bin"), legal},
      {naming(std::string(300, 'x') + ".safetensors"), legal},
      {naming("https://example.org/x.safetensors"), legal},
      {naming("none.safetensors"), "none.safetensors"},
  };
}

std::vector<HostileIndex> hostile_structure() {
  return {
      {"", "JSON"},
      {"[]", "expected an object"},
      {"null", "expected an object"},
      {"{}", "weight_map must be an object"},
      {"{\"weight_map\":{}}", "weight_map must be an object"},
      {"{\"weight_map\":[]}", "weight_map must be an object"},
      {"{\"weight_map\":\"a\"}", "weight_map must be an object"},
      {"{\"weight_map\":{\"a\":1}}", "must be text, found number"},
      {"{\"weight_map\":{\"a\":null}}", "must be text, found null"},
      {"{\"weight_map\":{\"a\":[\"b\"]}}", "must be text, found array"},
      {index_of(kMap, "[]"), "metadata must be an object"},
      {index_of(kMap, "null"), "metadata must be an object"},
      {index_of(kMap, R"({"total_size":"72"})"), "total_size must be a number"},
      {index_of(kMap, R"({"total_size":-72})"), "total_size must be a number"},
      {index_of(kMap, R"({"total_size":1e300})"), "total_size must be a number"},
      {index_of(kMap, R"({"total_size":NaN})"), "JSON"},
      {index_of(kMap, R"({"total_size":1e999})"), "index.json"},
      {index_of(kMap, R"({"total_size":71})"), "total_size is 71, and the tensors have 72 bytes"},
      {index_of(kMap) + "x", "index.json"},
      {index_of(kMap, R"({"total_size":72,"total_size":72})"), "twice"},
      {"{\"weight_map\":{\"a\":\"x.safetensors\",\"a\":\"y.safetensors\"}}", "twice"},
      {"{\"weight_map\":" + kMap + ",\"weight_map\":" + kMap + "}", "twice"},
      {std::string(1'000'000, '['), "brackets"},
      {"{\"weight_map\":" + std::string(1'000'000, '{'), "index.json"},
      {std::string(65U << 20U, ' '), "index.json"},
      {"{\"\xC3\x28\":1}", "index.json"},
  };
}

std::vector<HostileIndex> hostile_maps() {
  const std::string first = std::string("\"") + kFirst + "\"";
  const std::string second = std::string("\"") + kSecond + "\"";
  return {
      {index_of("{\"a\":" + first + ",\"b\":" + second + "}"), "tensor \"c\" of"},
      {index_of("{\"a\":" + second + ",\"b\":" + second + ",\"c\":" + second + "}"), "in no file"},
      {index_of("{\"a\":" + second + ",\"b\":" + first + ",\"c\":" + second + "}"),
       "in another file"},
      {index_of("{\"a\":" + first + ",\"b\":" + second + ",\"c\":" + second + ",\"d\":" + second +
                "}"),
       "tensor \"d\" is said to be in"},
  };
}

TEST_CASE("model files: hostile indexes are refused, and the message names the file") {
  const TemporaryDirectory directory;
  std::vector<HostileIndex> all = hostile_names();
  for (const auto& more : {hostile_structure(), hostile_maps()}) {
    all.insert(all.end(), more.begin(), more.end());
  }
  REQUIRE(all.size() >= 45);
  for (const HostileIndex& hostile : all) {
    INFO(hostile.text.substr(0, 200));
    write_shards(directory.path(), hostile.text);
    const std::string message = message_of([&] { ModelFiles files(directory.path()); });
    CHECK_THAT(message, Catch::Contains(hostile.message));
    CHECK_THAT(message, Catch::Contains(directory.path().string()));
    CHECK(message.size() < 700);
  }
}

TEST_CASE("model files: bombs cost little more memory than their own size") {
  constexpr std::size_t kSize = std::size_t{16} << 20U;
  const auto filled = [](std::string begin, const std::string& entry) {
    while (begin.size() + entry.size() < kSize) begin += entry;
    return begin;
  };
  const std::vector<HostileIndex> bombs = {
      {filled("[", "[],"), "entries"},
      {filled("{\"weight_map\":[", "{},"), "entries"},
      {filled("[", "0,"), "entries"},
      {filled("{\"weight_map\":{", "\"\":\"\","), "entries"},
      {filled("{\"weight_map\":{\"a\":\"", "x"), "index.json"},
      {filled("", "[1]"), "index.json"},
      {filled("", " ") + std::string(1U << 20U, ' '), "index.json"},
  };
  const TemporaryDirectory directory;
  for (const HostileIndex& bomb : bombs) {
    write_shards(directory.path(), bomb.text);
    std::string message;
    const std::uint64_t growth = test::memory_growth(
        [&] { message = message_of([&] { ModelFiles files(directory.path()); }); });
    INFO(bomb.text.substr(0, 40) << ": memory rose by " << growth << " MiB");
    CHECK_THAT(message, Catch::Contains(bomb.message));
#ifndef __SANITIZE_ADDRESS__  // which keeps freed memory on purpose
    CHECK(growth < 64);
#endif
  }
}

TEST_CASE("model files: a tensor in two files, or two ways to be a model, are refused") {
  const TemporaryDirectory directory;
  write_shards(directory.path(), index_of(kMap));
  write_safetensors(directory.path() / kFirst, tensors_of({"a", "b"}), {});
  CHECK_THAT(message_of([&] { ModelFiles files(directory.path()); }),
             Catch::Contains("tensor \"b\" is in " + std::string(kFirst) + " and in " + kSecond));
  write_safetensors(directory.path() / kWeightsName, tensors_of({"a"}), {});
  CHECK_THAT(message_of([&] { ModelFiles files(directory.path()); }), Catch::Contains("both"));
}

TEST_CASE("model files: pickles are not read, and the message says how to convert them") {
  const TemporaryDirectory directory;
  CHECK_THAT(message_of([&] { ModelFiles files(directory.path()); }),
             Catch::Contains("holds no model"));
  write_bytes(directory.path() / "pytorch_model.bin", "x");
  CHECK_THAT(message_of([&] { ModelFiles files(directory.path()); }),
             Catch::Contains("pickle") && Catch::Contains("save_pretrained"));
  CHECK_THAT(message_of([&] { ModelFiles files(directory.path() / "no"); }),
             Catch::Contains("is no directory"));
}

TEST_CASE("model files: links out of the directory are not followed, but for a cache's snapshot") {
  const TemporaryDirectory outside;
  write_safetensors(outside.path() / "secret", tensors_of({"a"}), {});
  const TemporaryDirectory directory;
  fs::create_symlink(outside.path() / "secret", directory.path() / kWeightsName);
  CHECK_THAT(message_of([&] { ModelFiles files(directory.path()); }),
             Catch::Contains("out of its directory"));
  fs::remove(directory.path() / kWeightsName);
  write_safetensors(directory.path() / "real", tensors_of({"a"}), {});
  fs::create_symlink("real", directory.path() / kWeightsName);
  CHECK(ModelFiles(directory.path()).tensors().size() == 1);

  // The way of Hugging Face's cache, and the same name to somewhere else.
  const TemporaryDirectory cache;
  const fs::path snapshot = cache.path() / "models--x" / "snapshots" / "0123";
  fs::create_directories(snapshot);
  fs::create_directories(cache.path() / "models--x" / "blobs");
  write_safetensors(cache.path() / "models--x" / "blobs" / "4567", tensors_of({"a", "b"}), {});
  fs::create_symlink("../../blobs/4567", snapshot / kWeightsName);
  CHECK(ModelFiles(snapshot).tensors().size() == 2);
  const fs::path link = cache.path() / "link";
  fs::create_symlink(snapshot, link);
  CHECK(ModelFiles(link).tensors().size() == 2);
  fs::remove(snapshot / kWeightsName);
  fs::create_symlink(outside.path() / "secret", snapshot / kWeightsName);
  CHECK_THAT(message_of([&] { ModelFiles files(snapshot); }),
             Catch::Contains("out of its directory"));
  fs::remove(snapshot / kWeightsName);
  fs::create_symlink("nowhere", snapshot / kWeightsName);
  CHECK_THAT(message_of([&] { ModelFiles files(snapshot); }), Catch::Contains("cannot open"));
}

struct Model {
  WantedTensors wanted;
  TemporaryDirectory directory;

  Model() {
    for (const std::string name : {"model.embed.weight", "model.0.weight", "model.norm.weight"}) {
      wanted.tensors.push_back({name, DType::kFloat32, {2, 3}});
    }
    wanted.ignored = {".inv_freq"};
    wanted.embedding = "model.embed.weight";
  }
  std::string refusal(const std::vector<TensorSource>& tensors) const {
    write_safetensors(directory.path() / kWeightsName, tensors, {});
    return message_of([&] {
      const ModelFiles files(directory.path());
      match(files, wanted);
      check_tied_head(files, wanted);
    });
  }
};

TEST_CASE("model files: names and shapes must be the model's, all of them") {
  const Model model;
  const auto good = [] {
    return tensors_of({"model.embed.weight", "model.0.weight", "model.norm.weight"});
  };
  CHECK(model.refusal(good()) == "");
  auto tensors = good();
  tensors.push_back(pattern_tensor("model.0.rotary.inv_freq", DType::kInt64, {4}, 1));
  CHECK(model.refusal(tensors) == "");
  tensors.push_back(pattern_tensor("model.1.weight", DType::kFloat32, {2, 3}, 1));
  CHECK_THAT(model.refusal(tensors), Catch::Contains("the model has no such: model.1.weight"));
  tensors = good();
  tensors.pop_back();
  CHECK_THAT(model.refusal(tensors), Catch::Contains("1 of the 3 tensors") &&
                                         Catch::Contains("not there: model.norm.weight"));
  tensors.push_back(pattern_tensor("model.norm.weight", DType::kFloat32, {3, 2}, 1));
  CHECK_THAT(model.refusal(tensors), Catch::Contains("model.norm.weight is float32 [3, 2]"));
  tensors.back() = pattern_tensor("model.norm.weight", DType::kInt32, {2, 3}, 1);
  CHECK_THAT(model.refusal(tensors), Catch::Contains("expected a float type [2, 3]"));
  tensors.back() = pattern_tensor("model.norm.weight", DType::kFloat16, {2, 3}, 1);
  CHECK(model.refusal(tensors) == "");
}

TEST_CASE("model files: a prefix may be left out of all names, not of some") {
  Model model;
  model.wanted.prefix = "model.";
  CHECK(model.refusal(tensors_of({"embed.weight", "0.weight", "norm.weight"})) == "");
  CHECK(model.refusal(tensors_of({"model.embed.weight", "model.0.weight", "model.norm.weight"})) ==
        "");
  CHECK_THAT(model.refusal(tensors_of({"embed.weight", "0.weight", "model.norm.weight"})),
             Catch::Contains("2 of the 3 tensors"));
}

TEST_CASE("model files: a tied head is the embedding, or refused") {
  Model model;
  auto tensors = tensors_of({"model.embed.weight", "model.0.weight", "model.norm.weight"});
  TensorSource head = tensors.front();
  head.info.name = "lm_head.weight";
  tensors.push_back(head);
  CHECK_THAT(model.refusal(tensors), Catch::Contains("no such: lm_head.weight"));
  model.wanted.tied_head = "lm_head.weight";
  CHECK(model.refusal(tensors) == "");
  tensors.back() = pattern_tensor("lm_head.weight", DType::kFloat32, {2, 3}, 2);
  CHECK_THAT(model.refusal(tensors), Catch::Contains("tie_word_embeddings"));
}

}  // namespace
}  // namespace longspan::checkpoint
