#pragma once

#include <filesystem>
#include <memory>
#include <string>

#include "longspan/checkpoint/safetensors.h"
#include "longspan/model/decoder.h"
#include "longspan/model/lora.h"
#include "longspan/optim/optimizer.h"
#include "train/pretrained.h"

// Adapters in PEFT's format: a directory with adapter_config.json and adapter_model.safetensors.
namespace longspan::train {

inline constexpr const char* kAdapterConfigName = "adapter_config.json";
inline constexpr const char* kAdapterWeightsName = "adapter_model.safetensors";

/// Whether the directory holds an adapter, and not a model.
bool holds_adapter(const std::filesystem::path& directory);

/// Reads adapter_config.json of a directory. Throws InputError naming file and key.
model::AdapterConfig read_adapter_config(const std::filesystem::path& directory);

/// An adapter's directory and that of the model beside which it was trained.
struct AdaptedModel {
  std::filesystem::path adapter;
  std::filesystem::path base;
  model::LoraConfig lora;
  Pretrained model;  ///< the base's; as it was trained, where the adapter's directory says how
};

/// `base`: instead of the directory that adapter_config.json names; empty: that one. Throws
/// InputError, also where the adapter is for other modules than the model has.
AdaptedModel read_adapted_model(const std::filesystem::path& adapter, const std::string& base);

/// The file with an adapter's weights. Throws InputError when it does not hold exactly these
/// parameters, in float types.
std::unique_ptr<checkpoint::SafetensorsFile> open_adapter(const std::filesystem::path& directory,
                                                          const nn::ParameterSet& parameters);

/// Takes the adapters' weights out of a directory: every rank reads what it holds.
void load_adapter(const std::filesystem::path& directory, model::Decoder& model,
                  backend::Backend& backend);
/// The same, and the master weights of an optimizer that has some.
void load_adapter(const std::filesystem::path& directory, model::Decoder& model,
                  optim::Optimizer& optimizer, backend::Backend& backend);

}  // namespace longspan::train
