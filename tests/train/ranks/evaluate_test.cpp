// Evaluation by 1 to 4 ranks against the model itself, window by window.
#include "longspan/train/evaluate.h"

#include <fmt/format.h>

#include <catch2/catch.hpp>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <limits>

#include "longspan/base/error.h"
#include "longspan/base/random.h"
#include "longspan/checkpoint/model_files.h"
#include "longspan/data/token_file_writer.h"
#include "tests/model/fixture.h"
#include "tests/support/temporary_directory.h"
#include "tests/train/ranks/step_bench.h"
#include "train/pretrained.h"

namespace longspan {
namespace {

using base::DType;
using Catch::Matchers::Contains;
using test::world;
using Documents = std::vector<std::vector<data::TokenId>>;

/// A directory of all ranks, with a model in float64 and token files.
struct Directory {
  explicit Directory(const model::ModelConfig& model_config) : config(model_config) {
    path = own.path().string();
    world().broadcast(path, 0);
    if (world().rank() == 0) write_model();
    world().barrier();
  }
  ~Directory() { world().barrier(); }

  std::filesystem::path model() const { return std::filesystem::path(path) / "model"; }

  void write_model(double poison = 0) {
    decoder.parameters().initialise(5, 0.3);
    std::filesystem::create_directories(model());
    std::vector<checkpoint::TensorSource> tensors;
    int number = 0;
    for (const auto& wanted : train::wanted_tensors(config).tensors) {
      auto numbers = model::test::values(*backend, decoder.parameters().weight(number++));
      if (poison != 0) numbers.back() = poison;
      tensors.push_back({{wanted.name, DType::kFloat64, wanted.shape},
                         [numbers](std::uint64_t first, std::uint64_t count, void* out) {
                           std::memcpy(out, reinterpret_cast<const char*>(numbers.data()) + first,
                                       count);
                         }});
    }
    checkpoint::write_safetensors(model() / checkpoint::kWeightsName, tensors, {});
    std::ofstream(model() / checkpoint::kConfigName) << train::config_json(config, "float64", {});
  }

  /// Rank 0 writes the file; documents have 3 bytes of text a token.
  std::string write(const std::string& name, const Documents& documents,
                    const std::string& hash = {}) const {
    const std::string file = (std::filesystem::path(path) / name).string();
    if (world().rank() == 0) {
      const auto writer =
          data::TokenFileWriter::create(file, data::TokenFormat::kTokens, 300, hash);
      for (const auto& document : documents) {
        writer->add_document(document, 3 * static_cast<std::int64_t>(document.size()));
      }
      writer->finish();
    }
    world().barrier();
    return file;
  }

  longspan::test::TemporaryDirectory own;
  std::string path;
  model::ModelConfig config;
  std::unique_ptr<backend::Backend> backend = model::test::make_backend();
  model::Decoder decoder{config, DType::kFloat64, *backend};
};

Documents documents_of(const std::vector<int>& lengths) {
  const base::RandomStream random(6, base::Purpose::kTest, 0, 0);
  Documents documents;
  std::uint64_t at = 0;
  for (const int length : lengths) {
    documents.emplace_back();
    for (int i = 0; i < length; ++i) {
      documents.back().push_back(static_cast<data::TokenId>(random.bits(at++) % 50));
    }
  }
  return documents;
}

train::Evaluation evaluate(const train::EvaluateOptions& options, comm::Communicator& ranks) {
  return train::evaluate(
      options, ranks, [](const std::string&) {}, [](std::size_t, std::size_t) {});
}

train::Evaluation evaluate(const train::EvaluateOptions& options) {
  return evaluate(options, world());
}

/// NLL of documents' tokens, each window run by itself, in 64 bits.
double direct_nll(Directory& directory, const Documents& documents, std::size_t length,
                  std::size_t stride) {
  double sum = 0;
  for (const auto& document : documents) {
    std::size_t counted = 0;
    for (std::size_t begin = 0; counted < document.size(); begin += stride) {
      const std::size_t end = std::min(begin + length, document.size());
      model::test::Batch batch;
      for (std::size_t i = begin; i < end; ++i) {
        batch.tokens.push_back(document[i]);
        batch.positions.push_back(static_cast<std::int32_t>(i - begin));
        const bool counts = i >= counted && i + 1 < document.size();
        batch.labels.push_back(counts ? document[i + 1] : backend::kIgnoredLabel);
      }
      batch.cu_seqlens = {0, static_cast<std::int32_t>(end - begin)};
      sum += directory.decoder.evaluate(batch).nll_sum;
      counted = end;
    }
  }
  return sum;
}

TEST_CASE("evaluate: the sum of what the model gives each window, for every family") {
  Directory directory(GENERATE(from_range(model::test::small_configs())));
  INFO(directory.config.model_type);
  if (world().rank() > 0) directory.decoder.parameters().initialise(5, 0.3);
  const Documents documents = documents_of({40, 1, 7, 0, 23, 64, 2, 11});
  const std::string file = directory.write("x.tokens", documents);
  for (const auto& [length, stride] : {std::pair{64, 64}, {16, 16}, {16, 5}, {9, 1}, {1, 1}}) {
    train::EvaluateOptions options{.model = directory.model().string(), .files = {file}};
    options.context_length = length;
    options.stride = stride;
    const train::Evaluation found = evaluate(options);
    CHECK(found.precision == "float64");
    CHECK(found.nll == Approx(direct_nll(directory, documents, static_cast<std::size_t>(length),
                                         static_cast<std::size_t>(stride)))
                           .epsilon(1e-12));
    CHECK(found.targets == 39 + 6 + 22 + 63 + 1 + 10);
    CHECK(found.tokens == 148);
    CHECK(found.documents == 7);
    CHECK(found.text_bytes == 3.0 * 148);
    CHECK(*found.bits_per_byte() == Approx(found.nll / std::log(2.0) / (3 * 148)));
  }
}

TEST_CASE("evaluate: the same bits for every number of ranks") {
  Directory directory(model::test::small_config(true));
  // Rows are of 8192 tokens: this makes seven.
  std::vector<int> lengths;
  for (int i = 0; i < 600; ++i) lengths.push_back(20 + i % 150);
  const std::string file = directory.write("x.tokens", documents_of(lengths));
  train::EvaluateOptions options{.model = directory.model().string(), .files = {file}};
  options.precision = "fp32";
  options.context_length = 64;
  const std::string together = train::evaluation_json(evaluate(options));
  const auto alone = comm::make_single_communicator();
  CHECK(together == train::evaluation_json(evaluate(options, *alone)));
}

using Counts = std::vector<std::vector<std::int64_t>>;  // first, last, targets

Counts counts_of(const train::Evaluation& evaluation) {
  Counts counts;
  for (const auto& one : evaluation.positions) counts.push_back({one.first, one.last, one.targets});
  return counts;
}

TEST_CASE("evaluate: how many tokens there are at which positions") {
  const Directory directory(model::test::small_config(false));
  const std::string file = directory.write("x.tokens", documents_of({5, 1, 9}));
  train::EvaluateOptions options{.model = directory.model().string(), .files = {file}};
  // [0 4) [4 5) of the first document, [0 4) [4 8) [8 9) of the last: its ends predict nothing.
  options.context_length = 4;
  CHECK(counts_of(evaluate(options)) == Counts{{0, 0, 3}, {1, 1, 3}, {2, 3, 6}});
  // Of windows [0 4) [2 6) [4 8) [6 9) only the first has labels at positions 0 and 1.
  options.stride = 2;
  CHECK(counts_of(evaluate(options)) == Counts{{0, 0, 2}, {1, 1, 2}, {2, 3, 8}});
  options.stride = 0;
  options.context_length = 7;
  CHECK(counts_of(evaluate(options)) == Counts{{0, 0, 3}, {1, 1, 2}, {2, 3, 4}, {4, 6, 3}});
  // The longest document: shorter than max_position_embeddings.
  options.context_length = 0;
  const train::Evaluation whole = evaluate(options);
  CHECK(whole.context_length == 9);
  CHECK(whole.stride == 9);
  CHECK(counts_of(whole) == Counts{{0, 0, 2}, {1, 1, 2}, {2, 3, 4}, {4, 7, 4}});
  // Five tokens, and two of the last document; the second of these still predicts the third.
  options.max_tokens = 8;
  const train::Evaluation first = evaluate(options);
  CHECK(first.tokens == 8);
  CHECK(first.documents == 3);
  CHECK(counts_of(first) == Counts{{0, 0, 2}, {1, 1, 2}, {2, 3, 2}});
  // Two files count as one.
  options.max_tokens = 0;
  options.files.push_back(directory.write("y.tokens", documents_of({3})));
  CHECK(evaluate(options).targets == whole.targets + 2);
}

TEST_CASE("evaluate: what is refused, on all ranks alike") {
  Directory directory(model::test::small_gpt2());
  const std::string good = directory.write("x.tokens", documents_of({30}));
  const auto refused = [&](train::EvaluateOptions options, const std::string& word,
                           const std::string& file = {}) {
    options.model = directory.model().string();
    options.files = {file.empty() ? good : file};
    CHECK_THROWS_WITH(evaluate(options), Contains(word));
    CHECK_THROWS_AS(evaluate(options), base::Error);
  };
  refused({.stride = 31}, "--stride");
  refused({.context_length = 8, .stride = 9}, "--stride 9");
  refused({.raw_type = "uint16"}, "--raw-type");
  refused({.document_end = 3}, "--document-end");
  refused({.precision = "fp32"}, "none.tokens", directory.path + "/none.tokens");
  refused({.tokenizer = "bytes"}, "259 ids");
  refused({}, "token 50", directory.write("wide.tokens", {{1, 2, 50}}));
  refused({}, "two tokens", directory.write("short.tokens", {{1}, {2}}));
  // Learned positions end where their table does.
  Documents longer = documents_of({1100});
  refused({.context_length = 1100}, "max_position_embeddings",
          directory.write("longer.tokens", longer));
  if (world().rank() == 0) directory.write_model(std::numeric_limits<double>::quiet_NaN());
  world().barrier();
  refused({}, "not finite");
}

TEST_CASE("evaluate: a file that was made with another tokenizer is refused") {
  model::ModelConfig config = model::test::small_sizes();
  config.vocab_size = 259;
  config.resolve("model");
  const Directory directory(config);
  const std::string ours = data::load_tokenizer("bytes")->hash();
  std::string other = ours;
  other[0] = other[0] == '0' ? '1' : '0';
  train::EvaluateOptions options{.model = directory.model().string()};
  options.tokenizer = "bytes";
  options.files = {directory.write("ours.tokens", documents_of({9}), ours)};
  CHECK(evaluate(options).targets == 8);
  options.files = {directory.write("theirs.tokens", documents_of({9}), other)};
  CHECK_THROWS_WITH(evaluate(options), Contains("theirs.tokens") && Contains("another tokenizer") &&
                                           Contains("\"bytes\""));
  options.tokenizer.clear();  // the model has none: there is nothing to compare with
  CHECK(evaluate(options).targets == 8);
}

TEST_CASE("evaluate: text, JSON and picture say the same") {
  const Directory directory(model::test::small_config(true));
  train::EvaluateOptions options{.model = directory.model().string()};
  options.files = {directory.write("x.tokens", documents_of({40, 17}))};
  const train::Evaluation evaluation = evaluate(options);
  const std::string text = train::evaluation_text(evaluation);
  CHECK_THAT(text, Contains(fmt::format("loss {:.6f}", evaluation.loss())));
  const std::string svg = train::evaluation_picture(evaluation);
  CHECK(svg.starts_with("<svg"));
  CHECK(svg.ends_with("</svg>\n"));
  for (const auto& one : evaluation.positions) {
    CHECK_THAT(text, Contains(fmt::format("{:.4f}", one.loss())));
    CHECK_THAT(svg, Contains(fmt::format(">{:.3f}<", one.loss())));
  }
  CHECK_THAT(train::evaluation_json(evaluation),
             Contains(fmt::format("\"targets\":{},", evaluation.targets)));
}

}  // namespace
}  // namespace longspan
