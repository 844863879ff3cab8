#include "train/adapter_files.h"

#include <fmt/format.h>

#include <algorithm>
#include <vector>

#include "longspan/base/error.h"
#include "longspan/base/file.h"
#include "longspan/checkpoint/convert.h"
#include "longspan/checkpoint/model_files.h"
#include "train/states.h"

namespace longspan::train {
namespace {

namespace fs = std::filesystem;
using base::InputError;

constexpr std::uint64_t kMaxConfigBytes = std::uint64_t{1} << 20U;

/// The base that an adapter names, which PEFT would also look for in the hub.
fs::path find_base(const fs::path& adapter, const model::AdapterConfig& config,
                   const std::string& chosen) {
  const std::string& base = chosen.empty() ? config.base : chosen;
  std::error_code ignored;
  if (!base.empty() && fs::is_directory(base, ignored)) return base;
  if (!chosen.empty()) {
    throw InputError(
        fmt::format("{} is no directory; expected that of the adapter's base model", chosen));
  }
  throw InputError(fmt::format(
      "{}: base_model_name_or_path is \"{}\", which is no directory here; name that of the base "
      "model with --base",
      (adapter / kAdapterConfigName).string(), config.base));
}

/// Takes what this rank holds of these states out of the file.
void load_from(const checkpoint::SafetensorsFile& file, const std::vector<StateTensor>& states,
               const nn::ParameterSet& parameters) {
  load_converted(states, parameters, [&](const nn::Parameter& parameter) {
    const std::string& name = parameter.name;
    return StoredNumbers{file.tensors().at(name).dtype,
                         [&file, &name](std::uint64_t first, std::uint64_t bytes, void* out) {
                           file.read(name, first, bytes, out);
                         }};
  });
}

nn::ParameterSet& adapters_of(model::Decoder& model) {
  if (model.adapters() != nullptr) return *model.adapters();
  throw base::InternalError("an adapter is loaded into a model without");
}

}  // namespace

bool holds_adapter(const fs::path& directory) {
  return checkpoint::has_file(directory, kAdapterConfigName);
}

model::AdapterConfig read_adapter_config(const fs::path& directory) {
  std::error_code ignored;
  if (!fs::is_directory(directory, ignored) || !holds_adapter(directory)) {
    throw InputError(fmt::format("{} is not the directory of an adapter: it has no {}",
                                 directory.string(), kAdapterConfigName));
  }
  const base::MappedFile file(checkpoint::model_file(directory, kAdapterConfigName));
  const std::string name = (directory / kAdapterConfigName).string();
  if (file.size() > kMaxConfigBytes) {
    throw InputError(fmt::format("{} has {}, expected at most {}", name,
                                 base::format_bytes(file.size()),
                                 base::format_bytes(kMaxConfigBytes)));
  }
  return model::AdapterConfig::from_json(std::string(file.text()), name);
}

AdaptedModel read_adapted_model(const fs::path& adapter, const std::string& base) {
  const model::AdapterConfig config = read_adapter_config(adapter);
  AdaptedModel result{adapter, find_base(adapter, config, base), config.lora, {}};
  result.model = read_pretrained(result.base);
  // How positions were turned in training, say, may be another than the base's.
  if (checkpoint::has_file(adapter, checkpoint::kConfigName)) {
    result.model.config = read_pretrained(adapter).config;
  }
  model::check_targets(result.lora.target_modules, result.model.config,
                       fmt::format("{}: target_modules", (adapter / kAdapterConfigName).string()));
  return result;
}

std::unique_ptr<checkpoint::SafetensorsFile> open_adapter(const fs::path& directory,
                                                          const nn::ParameterSet& parameters) {
  if (!checkpoint::has_file(directory, kAdapterWeightsName)) {
    throw InputError(fmt::format("{} holds no {}; other files of weights are not read",
                                 directory.string(), kAdapterWeightsName));
  }
  auto opened = std::make_unique<checkpoint::SafetensorsFile>(
      checkpoint::model_file(directory, kAdapterWeightsName));
  const checkpoint::SafetensorsFile& file = *opened;
  const std::string name = (directory / kAdapterWeightsName).string();
  for (const nn::Parameter& parameter : parameters.parameters()) {
    const auto found = file.tensors().find(parameter.name);
    if (found == file.tensors().end()) {
      throw InputError(fmt::format("{} has no tensor {}, which {} asks for", name, parameter.name,
                                   kAdapterConfigName));
    }
    const checkpoint::TensorInfo& info = found->second;
    if (info.shape == parameter.shape.extents() && checkpoint::is_float(info.dtype)) continue;
    throw InputError(fmt::format("{}: {} is {} [{}]; expected a float type {}", name,
                                 parameter.name, base::name_of(info.dtype),
                                 fmt::join(info.shape, ", "), parameter.shape.to_string()));
  }
  if (file.tensors().size() == parameters.parameters().size()) return opened;
  std::vector<std::string> expected;
  for (const nn::Parameter& parameter : parameters.parameters()) expected.push_back(parameter.name);
  for (const auto& [tensor, info] : file.tensors()) {
    if (std::find(expected.begin(), expected.end(), tensor) != expected.end()) continue;
    throw InputError(fmt::format("{} has a tensor {}, of which {} and the model know nothing", name,
                                 tensor, kAdapterConfigName));
  }
  return opened;
}

void load_adapter(const fs::path& directory, model::Decoder& model, backend::Backend& backend) {
  const nn::ParameterSet& parameters = adapters_of(model);
  load_from(*open_adapter(directory, parameters), weights_of(parameters, backend), parameters);
}

void load_adapter(const fs::path& directory, model::Decoder& model, optim::Optimizer& optimizer,
                  backend::Backend& backend) {
  const nn::ParameterSet& parameters = adapters_of(model);
  const auto file = open_adapter(directory, parameters);
  load_from(*file, weights_of(parameters, backend), parameters);
  if (optimizer.saves_master()) {
    load_from(*file, optimizer.master(), parameters);
  } else {
    optimizer.reset_master();
  }
}

}  // namespace longspan::train
