#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "longspan/checkpoint/model_files.h"
#include "longspan/checkpoint/store.h"
#include "longspan/comm/communicator.h"
#include "longspan/model/decoder.h"
#include "longspan/model/model_config.h"
#include "longspan/optim/optimizer.h"

namespace longspan::train {

inline constexpr const char* kGenerationConfigName = "generation_config.json";
/// Of which a directory that holds a tokenizer has one at least.
inline constexpr const char* kTokenizerNames[] = {"tokenizer.json", "tokenizer.model",
                                                  "tokenizer_config.json"};

/// Special tokens of a config.json, as JSON text: a number, a list of numbers, or null.
struct TokenIds {
  std::string bos = "null";
  std::string eos = "null";
  std::string pad = "null";
};

/// A model directory without its weights.
struct Pretrained {
  model::ModelConfig config;
  TokenIds ids;
  std::string dtype;  ///< that config.json names, such as "bfloat16"; may be empty
};

/// Reads config.json of a model directory. Throws InputError naming file and key.
Pretrained read_pretrained(const std::filesystem::path& directory);

/// The config.json of a model in this dtype ("float32", "bfloat16", ...) with these tokens.
std::string config_json(const model::ModelConfig& config, const std::string& dtype,
                        const TokenIds& ids);
/// The least generation_config.json that has these tokens.
std::string generation_config_json(const TokenIds& ids);

/// Files that belong to a model and are handed on as they are: those of its tokenizer and its chat
/// template, and generation_config.json.
std::vector<checkpoint::TextFile> read_companions(const std::filesystem::path& directory);

/// What the files of a model must hold: the parameters of a set, or of a config.
checkpoint::WantedTensors wanted_tensors(const nn::ParameterSet& parameters,
                                         const model::ModelConfig& config);
checkpoint::WantedTensors wanted_tensors(const model::ModelConfig& config);

/// The type of all tensors of a model's files; the widest, where they differ. `names` as from
/// checkpoint::match.
base::DType widest_dtype(const checkpoint::ModelFiles& files,
                         const std::map<std::string, std::string>& names);

/// Takes weights out of a model directory: every rank reads what it holds, piece by piece, and
/// converts it. Throws InputError when the directory is of another model. Called by every rank, of
/// which the first looks whether a tied head is the embedding.
void load_pretrained(const std::filesystem::path& directory, model::Decoder& model,
                     backend::Backend& backend, const comm::Communicator& world);
/// The same, and the master weights of an optimizer that has some, whose moments stay as they are.
void load_pretrained(const std::filesystem::path& directory, model::Decoder& model,
                     optim::Optimizer& optimizer, backend::Backend& backend,
                     const comm::Communicator& world);

}  // namespace longspan::train
