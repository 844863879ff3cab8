// Weights of a model directory on ranks that hold parts of them.
#include <catch2/catch.hpp>
#include <filesystem>
#include <fstream>
#include <map>
#include <string>

#include "longspan/base/error.h"
#include "longspan/checkpoint/convert.h"
#include "longspan/checkpoint/model_files.h"
#include "tests/model/fixture.h"
#include "tests/support/temporary_directory.h"
#include "tests/train/ranks/step_bench.h"
#include "train/pretrained.h"
#include "train/states.h"

namespace longspan {
namespace {

using base::DType;
using test::world;

struct SharedDirectory {
  SharedDirectory() : path(own.path().string()) { world().broadcast(path, 0); }
  ~SharedDirectory() { world().barrier(); }
  longspan::test::TemporaryDirectory own;
  std::string path;
};

struct Part {
  Part(const train::Job& part_job, comm::Communicator& ranks)
      : job(part_job), step(job, *backend, ranks) {}

  train::Job job;
  std::unique_ptr<backend::Backend> backend = model::test::make_backend();
  train::TrainingStep step;
};

using Weights = std::map<std::string, std::vector<float>>;

/// Numbers that bfloat16 and float16 round, and each differently.
Weights make_weights(const nn::ParameterSet& parameters) {
  Weights weights;
  std::uint32_t state = 1;
  for (const nn::Parameter& parameter : parameters.parameters()) {
    auto& numbers = weights[parameter.name];
    for (backend::Index i = 0; i < parameter.shape.elements(); ++i) {
      state = state * 1664525U + 1013904223U;
      numbers.push_back(static_cast<float>(state >> 8U) / 16777216.0F - 0.5F);
    }
  }
  return weights;
}

checkpoint::TensorSource source_of(const checkpoint::TensorInfo& info,
                                   const std::vector<float>& numbers) {
  std::vector<std::byte> bytes(info.bytes());
  checkpoint::convert(bytes.data(), info.dtype, numbers.data(), DType::kFloat32, numbers.size());
  return {info, [bytes](std::uint64_t first, std::uint64_t count, void* out) {
            std::memcpy(out, bytes.data() + first, count);
          }};
}

/// As other programs may write it: two files in this dtype, names without the prefix, a tied head,
/// and a tensor that is none of the model's.
void write_model(const std::filesystem::path& directory, const model::ModelConfig& config,
                 const nn::ParameterSet& parameters, const Weights& weights, DType dtype) {
  const checkpoint::WantedTensors wanted = train::wanted_tensors(parameters, config);
  std::vector<checkpoint::TensorSource> files[2];
  std::string map;
  const auto add = [&](const std::string& name, std::vector<std::int64_t> shape,
                       const std::vector<float>& numbers) {
    const std::size_t file = files[0].size() > files[1].size() ? 1 : 0;
    files[file].push_back(source_of({name, dtype, std::move(shape)}, numbers));
    map += (map.empty() ? "\"" : ",\"") + name + "\":\"" + std::to_string(file) + ".safetensors\"";
  };
  for (const auto& tensor : wanted.tensors) {
    const bool has_prefix = !wanted.prefix.empty() && tensor.name.starts_with(wanted.prefix);
    const auto& numbers = weights.at(tensor.name);
    add(has_prefix ? tensor.name.substr(wanted.prefix.size()) : tensor.name, tensor.shape, numbers);
    if (tensor.name == wanted.embedding && !wanted.tied_head.empty()) {
      add(wanted.tied_head, tensor.shape, numbers);
    }
  }
  add("x.0" + wanted.ignored.front(), {2}, {1.0F, 2.0F});
  for (int file = 0; file < 2; ++file) {
    checkpoint::write_safetensors(directory / (std::to_string(file) + ".safetensors"), files[file],
                                  {});
  }
  std::ofstream(directory / checkpoint::kIndexName) << "{\"weight_map\":{" << map << "}}";
}

/// What a rank holds of such states, which must be these numbers in their dtype.
void check_states(const std::vector<train::StateTensor>& states, const nn::ParameterSet& parameters,
                  const Weights& weights, DType through) {
  std::size_t seen = 0;
  CHECK(states.size() == parameters.parameters().size());
  for (const train::StateTensor& state : states) {
    const auto& numbers = weights.at(parameters.at(state.parameter).name);
    const backend::Index first = state.part(parameters, parameters.partition().rank()).begin;
    const auto count = static_cast<std::size_t>(state.held.elements());
    std::vector<std::byte> stored(count * base::size_of(through));
    std::vector<std::byte> expected(state.held.bytes());
    checkpoint::convert(stored.data(), through, numbers.data() + first, DType::kFloat32, count);
    checkpoint::convert(expected.data(), state.held.dtype(), stored.data(), through, count);
    std::vector<std::byte> found(state.held.bytes());
    state.where->copy_to_host(found.data(), state.held, found.size());
    CHECK(found == expected);
    seen += count;
  }
  CHECK((seen > 0 || parameters.partition().ranks() > 1));
}

TEST_CASE("every rank takes its own part of a model directory, converted to the job's precision") {
  const model::ModelConfig config = GENERATE(from_range(model::test::small_configs()));
  const std::string precision = GENERATE(as<std::string>(), "fp32", "bf16");
  const DType dtype = GENERATE(DType::kFloat32, DType::kBFloat16, DType::kFloat16);
  const int stage = GENERATE(0, 1, 2, 3);
  INFO(config.model_type << ", " << precision << " of " << base::name_of(dtype) << ", stage "
                         << stage);
  const SharedDirectory shared;
  train::Job job = test::small_job(config, stage);
  job.training.precision = precision;
  Part part(job, world());
  const nn::ParameterSet& parameters = part.step.model().parameters();
  const Weights weights = make_weights(parameters);
  if (world().rank() == 0) {
    write_model(shared.path, part.step.model().config(), parameters, weights, dtype);
  }
  world().barrier();
  train::load_pretrained(shared.path, part.step.model(), part.step.optimizer(), *part.backend,
                         world());
  check_states(train::weights_of(parameters, *part.backend), parameters, weights, dtype);
  // The masters have what the file has, also where the weights were rounded.
  if (precision == "bf16") {
    check_states(part.step.optimizer().master(), parameters, weights, dtype);
  }
  CHECK(part.step.optimizer().updates() == 0);
}

TEST_CASE("a directory of another model is refused") {
  const SharedDirectory shared;
  train::Job job = test::small_job(true, 3);
  Part part(job, world());
  const nn::ParameterSet& parameters = part.step.model().parameters();
  Weights weights = make_weights(parameters);
  if (world().rank() == 0) {
    write_model(shared.path, part.step.model().config(), parameters, weights, DType::kFloat32);
  }
  world().barrier();
  job.model.num_hidden_layers += 1;
  Part larger(job, world());
  CHECK_THROWS_WITH(train::load_pretrained(shared.path, larger.step.model(),
                                           larger.step.optimizer(), *larger.backend, world()),
                    Catch::Contains("are not there: model.layers.3."));
  job.model.num_hidden_layers -= 2;
  Part smaller(job, world());
  CHECK_THROWS_WITH(train::load_pretrained(shared.path, smaller.step.model(),
                                           smaller.step.optimizer(), *smaller.backend, world()),
                    Catch::Contains("the model has no such: model.layers.2."));
}

}  // namespace
}  // namespace longspan
