#include "tests/model/fixture.h"

#include <catch2/catch.hpp>
#include <cmath>
#include <cstring>
#include <nlohmann/json.hpp>
#include <numeric>

#include "longspan/base/file.h"
#include "tests/support/test_data.h"

namespace longspan::model::test {

using backend::Index;
using backend::MemoryTag;
using backend::Tensor;
using base::DType;

namespace {

template <typename T>
std::vector<T> payload(const base::MappedFile& file, const nlohmann::json& entry) {
  std::uint64_t header_bytes = 0;
  std::memcpy(&header_bytes, file.data(), sizeof(header_bytes));
  const std::size_t begin = entry.at("data_offsets").at(0);
  const std::size_t end = entry.at("data_offsets").at(1);
  const std::size_t start = sizeof(header_bytes) + header_bytes;
  REQUIRE(begin <= end);
  REQUIRE(start + end <= file.size());
  std::vector<T> values((end - begin) / sizeof(T));
  std::memcpy(values.data(), file.data() + start + begin, end - begin);
  return values;
}

}  // namespace

Batch Batch::document(std::size_t i) const {
  const auto slice = [&](const std::vector<std::int32_t>& all) {
    return std::vector<std::int32_t>(all.begin() + cu_seqlens[i], all.begin() + cu_seqlens[i + 1]);
  };
  return {slice(tokens), slice(labels), slice(positions), {0, cu_seqlens[i + 1] - cu_seqlens[i]}};
}

Fixture read_fixture(const std::string& name, const std::string& folder) {
  const std::string path =
      (longspan::test::data_folder() / "model" / folder / (name + ".safetensors")).string();
  const base::MappedFile file(path);
  std::uint64_t header_bytes = 0;
  REQUIRE(file.size() > sizeof(header_bytes));
  std::memcpy(&header_bytes, file.data(), sizeof(header_bytes));
  const auto header = nlohmann::json::parse(file.text().substr(sizeof(header_bytes), header_bytes));

  Fixture fixture;
  fixture.config = ModelConfig::from_config_json(header.at("__metadata__").at("config"), path);
  if (header.at("__metadata__").contains("adapter")) {
    fixture.adapter = header.at("__metadata__").at("adapter");
  }
  fixture.batch = {payload<std::int32_t>(file, header.at("tokens")),
                   payload<std::int32_t>(file, header.at("labels")),
                   payload<std::int32_t>(file, header.at("positions")),
                   payload<std::int32_t>(file, header.at("cu_seqlens"))};
  fixture.loss_scale = payload<double>(file, header.at("loss_scale")).at(0);
  fixture.nll_sum = payload<double>(file, header.at("nll_sum")).at(0);
  fixture.logits = payload<float>(file, header.at("logits"));
  for (const auto& [key, entry] : header.items()) {
    if (key.starts_with("weight/")) {
      const auto weight = payload<float>(file, entry);
      fixture.weights[key.substr(7)] = {weight.begin(), weight.end()};
    } else if (key.starts_with("gradient/")) {
      fixture.gradients[key.substr(9)] = payload<double>(file, entry);
    }
  }
  return fixture;
}

std::unique_ptr<backend::Backend> make_backend() {
  return backend::make_cpu_backend(std::size_t{512} << 20U);
}

std::vector<double> values(backend::Backend& backend, const Tensor& tensor) {
  const Tensor exact = backend.allocate(tensor.shape(), DType::kFloat64, MemoryTag::kWorkspace);
  backend.copy(exact, tensor);
  std::vector<double> host(static_cast<std::size_t>(tensor.elements()));
  backend.copy_to_host(host.data(), exact, exact.bytes());
  return host;
}

void load_weights(backend::Backend& backend, Decoder& model,
                  const std::map<std::string, std::vector<double>>& weights) {
  load_weights(backend, model.parameters(), weights);
}

void load_weights(backend::Backend& backend, nn::ParameterSet& parameters,
                  const std::map<std::string, std::vector<double>>& weights) {
  REQUIRE(parameters.parameters().size() == weights.size());
  int number = 0;
  for (const nn::Parameter& parameter : parameters.parameters()) {
    INFO(parameter.name);
    REQUIRE(weights.contains(parameter.name));
    const std::vector<double>& host = weights.at(parameter.name);
    REQUIRE(host.size() == static_cast<std::size_t>(parameter.shape.elements()));
    const Tensor exact = backend.allocate(parameter.shape, DType::kFloat64, MemoryTag::kWorkspace);
    backend.copy_from_host(exact, host.data(), exact.bytes());
    backend.copy(parameters.weight(number++), exact);
  }
}

std::map<std::string, std::vector<double>> gradients(backend::Backend& backend, Decoder& model) {
  std::map<std::string, std::vector<double>> by_name;
  int number = 0;
  for (const nn::Parameter& parameter : model.parameters().parameters()) {
    by_name[parameter.name] = values(backend, model.parameters().gradient(number++));
  }
  return by_name;
}

ModelConfig small_sizes() {
  ModelConfig config;
  config.vocab_size = 50;
  config.hidden_size = 16;
  config.intermediate_size = 24;
  config.num_hidden_layers = 2;
  config.num_attention_heads = 4;
  return config;
}

ModelConfig small_config(bool tied) {
  ModelConfig config = small_sizes();
  config.num_key_value_heads = 2;
  config.tie_word_embeddings = tied;
  config.resolve("model");
  return config;
}

ModelConfig small_gpt2() {
  ModelConfig config = small_sizes();
  config.model_type = "gpt2";
  config.resolve("model");
  return config;
}

std::vector<ModelConfig> small_configs() {
  std::vector<ModelConfig> configs{small_config(true)};
  for (const auto& [model_type, description] : model_types()) {
    ModelConfig config = small_sizes();
    config.model_type = model_type;
    if (model_type != "gpt2") config.num_key_value_heads = 2;
    const bool is_gemma = model_type.starts_with("gemma");
    if (is_gemma || model_type == "mistral") config.sliding_window = 4;
    if (is_gemma) config.num_hidden_layers = 3;  // with a window and without
    if (is_gemma || model_type == "qwen3") config.head_dim = 6;
    if (model_type == "gemma3_text")
      config.layer_types = {"sliding_attention", "full_attention", "sliding_attention"};
    config.resolve("model");
    configs.push_back(config);
  }
  return configs;
}

Batch random_batch(const ModelConfig& config, const std::vector<std::int32_t>& lengths,
                   std::uint64_t seed) {
  const base::RandomStream stream(seed, base::Purpose::kTest, 0, 0);
  const auto vocab = static_cast<std::uint64_t>(config.vocab_size);
  Batch batch;
  batch.cu_seqlens = {0};
  for (const std::int32_t length : lengths) {
    batch.cu_seqlens.push_back(batch.cu_seqlens.back() + length);
    for (std::int32_t i = 0; i < length; ++i) {
      const std::size_t t = batch.tokens.size();
      batch.tokens.push_back(static_cast<std::int32_t>(stream.bits(2 * t) % vocab));
      batch.labels.push_back(static_cast<std::int32_t>(stream.bits(2 * t + 1) % vocab));
      batch.positions.push_back(i);
    }
  }
  return batch;
}

LossResult run(Decoder& model, const Batch& batch, double loss_scale, std::uint64_t step) {
  std::vector<std::int32_t> numbers(batch.tokens.size());
  std::iota(numbers.begin(), numbers.end(), 0);
  const TokenDraws draws{.seed = 3, .step = step, .numbers = numbers};
  TokenBatch told = batch;
  told.draws = &draws;
  return model.forward_backward(told, loss_scale);
}

}  // namespace longspan::model::test
