#include "train/training_state.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "longspan/base/error.h"
#include "longspan/base/file.h"
#include "longspan/checkpoint/safetensors.h"

namespace longspan::train {
namespace {

using backend::Tensor;
using base::InputError;
using nlohmann::json;
using nlohmann::ordered_json;

constexpr int kTrainerFormat = 1;

checkpoint::TensorInfo info_of(const std::string& name, const Tensor& tensor,
                               const backend::Shape& shape) {
  checkpoint::TensorInfo info;
  info.name = name;
  info.dtype = tensor.dtype();
  for (int axis = 0; axis < shape.rank(); ++axis) info.shape.push_back(shape[axis]);
  return info;
}

checkpoint::TensorSource source_of(const std::string& name, const Tensor& flat,
                                   const nn::Parameter& parameter, backend::Backend& backend) {
  const Tensor part = flat.rows(parameter.offset, parameter.offset + parameter.shape.elements());
  return {info_of(name, part, parameter.shape),
          [part, &backend](std::uint64_t first, std::uint64_t count, void* out) {
            const auto element = base::size_of(part.dtype());
            const auto begin = static_cast<backend::Index>(first / element);
            const auto end = static_cast<backend::Index>((first + count) / element);
            backend.copy_to_host(out, part.rows(begin, end), count);
          }};
}

/// A state of the optimizer: the prefix of its names, and its flat tensor.
struct State {
  const char* prefix;
  Tensor flat;
};

std::vector<State> states_of(const optim::AdamW& optimizer, const nn::ParameterSet& parameters) {
  std::vector<State> states = {{"moment1.", optimizer.moment1()},
                               {"moment2.", optimizer.moment2()}};
  if (optimizer.master().raw() != parameters.weights().raw()) {
    states.push_back({"master.", optimizer.master()});
  }
  return states;
}

std::string trainer_json(const Progress& progress) {
  ordered_json out;
  out["format"] = kTrainerFormat;
  out["step"] = progress.step;
  out["updates"] = progress.updates;
  out["skipped"] = progress.skipped;
  out["skipped_in_row"] = progress.skipped_in_row;
  out["sampling"] = progress.sampling;
  return out.dump(2) + "\n";
}

Progress read_progress(const std::filesystem::path& file) {
  try {
    const json in = json::parse(base::read_text(file));
    if (in.at("format").get<int>() != kTrainerFormat) {
      throw InputError(fmt::format("{} has format {}, and this version reads format {}",
                                   file.string(), in.at("format").dump(), kTrainerFormat));
    }
    Progress progress;
    progress.step = in.at("step").get<std::int64_t>();
    progress.updates = in.at("updates").get<std::int64_t>();
    progress.skipped = in.at("skipped").get<std::int64_t>();
    progress.skipped_in_row = in.at("skipped_in_row").get<std::int64_t>();
    progress.sampling = in.at("sampling").get<std::string>();
    return progress;
  } catch (const json::exception& error) {
    throw InputError(fmt::format("{} is not a trainer state: {}", file.string(), error.what()));
  }
}

void load_tensor(const checkpoint::SafetensorsFile& file, const std::filesystem::path& path,
                 const std::string& name, const Tensor& flat, const nn::Parameter& parameter,
                 backend::Backend& backend) {
  const Tensor part = flat.rows(parameter.offset, parameter.offset + parameter.shape.elements());
  const auto expected = info_of(name, part, parameter.shape);
  const auto found = file.tensors().find(name);
  if (found == file.tensors().end()) {
    throw InputError(fmt::format(
        "{} has no tensor {}; the job's model, or its precision, is not the checkpoint's",
        path.string(), name));
  }
  if (found->second.dtype != expected.dtype || found->second.shape != expected.shape) {
    throw InputError(fmt::format("{}: {} is {} [{}], and the job's model has {} [{}]",
                                 path.string(), name, base::name_of(found->second.dtype),
                                 fmt::join(found->second.shape, ", "),
                                 base::name_of(expected.dtype), fmt::join(expected.shape, ", ")));
  }
  backend.copy_from_host(part, file.data(name), part.bytes());
}

void check_count(const checkpoint::SafetensorsFile& file, const std::filesystem::path& path,
                 std::size_t expected) {
  if (file.tensors().size() == expected) return;
  throw InputError(fmt::format("{} has {} tensors, and the job's model {}", path.string(),
                               file.tensors().size(), expected));
}

}  // namespace

checkpoint::Contents checkpoint_contents(model::Llama& model, const optim::AdamW& optimizer,
                                         backend::Backend& backend, const Progress& progress,
                                         const data::Tokenizer* tokenizer) {
  checkpoint::Contents contents;
  const nn::ParameterSet& parameters = model.parameters();
  for (const nn::Parameter& parameter : parameters.parameters()) {
    contents.weights.push_back(source_of(parameter.name, parameters.weights(), parameter, backend));
  }
  for (const State& state : states_of(optimizer, parameters)) {
    for (const nn::Parameter& parameter : parameters.parameters()) {
      contents.optimizer.push_back(
          source_of(state.prefix + parameter.name, state.flat, parameter, backend));
    }
  }
  contents.texts.push_back({"config.json", model.config().to_config_json(
                                               base::name_of(model.dtype()),
                                               tokenizer != nullptr ? tokenizer->bos_id() : -1,
                                               tokenizer != nullptr ? tokenizer->eos_id() : -1)});
  contents.texts.push_back({"trainer.json", trainer_json(progress)});
  if (tokenizer != nullptr) {
    contents.write_more = [tokenizer](const std::filesystem::path& directory) {
      tokenizer->save(directory);
    };
  }
  return contents;
}

void load_weights(const std::filesystem::path& step_directory, model::Llama& model,
                  backend::Backend& backend) {
  const nn::ParameterSet& parameters = model.parameters();
  const auto path = step_directory / "model.safetensors";
  const checkpoint::SafetensorsFile file(path);
  check_count(file, path, parameters.parameters().size());
  for (const nn::Parameter& parameter : parameters.parameters()) {
    load_tensor(file, path, parameter.name, parameters.weights(), parameter, backend);
  }
}

Progress load_checkpoint(const std::filesystem::path& step_directory, model::Llama& model,
                         optim::AdamW& optimizer, backend::Backend& backend) {
  load_weights(step_directory, model, backend);
  const nn::ParameterSet& parameters = model.parameters();
  const auto optimizer_path = step_directory / "optimizer.safetensors";
  const checkpoint::SafetensorsFile optimizer_file(optimizer_path);
  const auto states = states_of(optimizer, parameters);
  check_count(optimizer_file, optimizer_path, states.size() * parameters.parameters().size());
  for (const State& state : states) {
    for (const nn::Parameter& parameter : parameters.parameters()) {
      load_tensor(optimizer_file, optimizer_path, state.prefix + parameter.name, state.flat,
                  parameter, backend);
    }
  }
  const Progress progress = read_progress(step_directory / "trainer.json");
  optimizer.set_updates(progress.updates);
  return progress;
}

}  // namespace longspan::train
