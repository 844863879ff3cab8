#include "train/training_state.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "longspan/base/error.h"
#include "longspan/base/file.h"
#include "longspan/base/json.h"
#include "longspan/checkpoint/safetensors.h"

namespace longspan::train {
namespace {

namespace fs = std::filesystem;
using base::InputError;
using nlohmann::json;
using nlohmann::ordered_json;

constexpr int kTrainerFormat = 2;
constexpr int kOldestTrainerFormat = 1;  // which did not count tokens

checkpoint::TensorInfo info_of(const StateTensor& state) {
  checkpoint::TensorInfo info;
  info.name = state.name;
  info.dtype = state.held.dtype();
  info.shape = state.shape.extents();
  return info;
}

checkpoint::TensorSource source_of(StateReader& reader, std::size_t number) {
  const StateTensor& state = reader.states()[number];
  const auto element = base::size_of(state.held.dtype());
  return {info_of(state), [=, &reader](std::uint64_t first, std::uint64_t count, void* out) {
            reader.read(number, static_cast<backend::Index>(first / element),
                        static_cast<backend::Index>(count / element), out);
          }};
}

std::string trainer_json(const Progress& progress) {
  ordered_json out;
  out["format"] = kTrainerFormat;
  out["step"] = progress.step;
  out["tokens"] = progress.tokens;
  out["updates"] = progress.updates;
  out["skipped"] = progress.skipped;
  out["skipped_in_row"] = progress.skipped_in_row;
  out["sampling"] = progress.sampling;
  return base::json_text(out, 2) + "\n";
}

/// Throws when the file's tensor is not the job's.
void check_tensor(const checkpoint::SafetensorsFile& file, const std::filesystem::path& path,
                  const checkpoint::TensorInfo& expected) {
  const auto found = file.tensors().find(expected.name);
  if (found == file.tensors().end()) {
    throw InputError(fmt::format(
        "{} has no tensor {}; the job's model, its precision or its optimizer is not the "
        "checkpoint's",
        path.string(), expected.name));
  }
  if (found->second.dtype != expected.dtype || found->second.shape != expected.shape) {
    throw InputError(fmt::format("{}: {} is {} [{}], and the job has {} [{}]", path.string(),
                                 expected.name, base::name_of(found->second.dtype),
                                 fmt::join(found->second.shape, ", "),
                                 base::name_of(expected.dtype), fmt::join(expected.shape, ", ")));
  }
}

/// Takes what this rank holds of these states, which the file has.
void take_states(const checkpoint::SafetensorsFile& file, const std::vector<StateTensor>& states,
                 const nn::ParameterSet& parameters) {
  for (const StateTensor& state : states) {
    const std::size_t size = base::size_of(state.held.dtype());
    load_state(state, parameters, [&](backend::Index first, backend::Index count, void* out) {
      file.read(state.name, static_cast<std::uint64_t>(first) * size,
                static_cast<std::uint64_t>(count) * size, out);
    });
  }
}

/// The same of states that a file has, and nothing else.
void load_states(const std::filesystem::path& path, const std::vector<StateTensor>& states,
                 const nn::ParameterSet& parameters) {
  const checkpoint::SafetensorsFile file(path);
  for (const StateTensor& state : states) check_tensor(file, path, info_of(state));
  if (file.tensors().size() != states.size()) {
    throw InputError(fmt::format("{} has {} tensors, and the job {}", path.string(),
                                 file.tensors().size(), states.size()));
  }
  take_states(file, states, parameters);
}

/// A file without tensors is not written: an optimizer that keeps nothing has none.
void load_optimizer(const std::filesystem::path& path, optim::Optimizer& optimizer,
                    const nn::ParameterSet& parameters) {
  const bool is_there = fs::exists(path);
  if (is_there == optimizer.states().empty()) {
    throw InputError(fmt::format(
        "{} {}; the job's optimizer or its precision is not the checkpoint's", path.string(),
        is_there ? "is the state of an optimizer, and the job's keeps none"
                 : "is not there, and the job's optimizer keeps a state"));
  }
  if (!is_there) return;
  const std::vector<StateTensor> choice = optimizer.choice();
  if (!choice.empty()) {
    const checkpoint::SafetensorsFile file(path);
    for (const StateTensor& state : choice) check_tensor(file, path, info_of(state));
    take_states(file, choice, parameters);
    optimizer.take_choice();
  }
  load_states(path, optimizer.states(), parameters);
}

}  // namespace

Progress read_progress(const std::filesystem::path& step_directory) {
  const auto file = step_directory / "trainer.json";
  try {
    const json in = base::parse_plain_json(base::read_text(file));
    const int format = in.at("format").get<int>();
    if (format < kOldestTrainerFormat || format > kTrainerFormat) {
      throw InputError(fmt::format("{} has format {}, and this version reads formats {} to {}",
                                   file.string(), format, kOldestTrainerFormat, kTrainerFormat));
    }
    Progress progress;
    progress.step = in.at("step").get<std::int64_t>();
    if (format > kOldestTrainerFormat) progress.tokens = in.at("tokens").get<std::int64_t>();
    progress.updates = in.at("updates").get<std::int64_t>();
    progress.skipped = in.at("skipped").get<std::int64_t>();
    progress.skipped_in_row = in.at("skipped_in_row").get<std::int64_t>();
    progress.sampling = in.at("sampling").get<std::string>();
    return progress;
  } catch (const json::exception& error) {
    throw InputError(fmt::format("{} is not a trainer state: {}", file.string(), error.what()));
  }
}

checkpoint::Contents checkpoint_contents(const nn::ParameterSet& trained, StateReader& reader,
                                         const Progress& progress, const CheckpointExtras& extras) {
  checkpoint::Contents contents;
  const std::size_t weights = trained.parameters().size();
  for (std::size_t state = 0; state < reader.states().size(); ++state) {
    auto& tensors = state < weights ? contents.weights : contents.optimizer;
    tensors.push_back(source_of(reader, state));
  }
  contents.weights_name = extras.weights_name;
  contents.texts = extras.texts;
  contents.texts.push_back({"trainer.json", trainer_json(progress)});
  contents.write_more = extras.write_more;
  return contents;
}

Progress load_checkpoint(const std::filesystem::path& step_directory, ParameterStep& step,
                         backend::Backend& backend, const std::string& weights_name) {
  nn::ParameterSet& parameters = step.parameters();
  optim::Optimizer& optimizer = step.optimizer();
  load_states(step_directory / weights_name, weights_of(parameters, backend), parameters);
  load_optimizer(step_directory / "optimizer.safetensors", optimizer, parameters);
  parameters.directions().set_there();
  parameters.row_sampling().take();
  if (!optimizer.saves_master()) optimizer.reset_master();
  const Progress progress = read_progress(step_directory);
  optimizer.set_updates(progress.updates);
  return progress;
}

}  // namespace longspan::train
