#include "train/loaded_model.h"

#include <fmt/format.h>
#include <omp.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

#include "longspan/base/error.h"
#include "longspan/base/file.h"
#include "longspan/base/json.h"
#include "longspan/checkpoint/model_files.h"
#include "longspan/checkpoint/store.h"
#include "longspan/train/device.h"
#include "train/adapter_files.h"
#include "train/precision.h"
#include "train/pretrained.h"
#include "train/resources.h"
#include "train/run_directory.h"

namespace longspan::train {
namespace {

namespace fs = std::filesystem;
using base::DType;
using base::InputError;
using nlohmann::json;

/// The directory of the model that `path` names. What trainer.json lies in is a checkpoint, and
/// without its manifest none that counts.
fs::path find_model(const fs::path& path, bool verifies) {
  const bool is_model =
      (checkpoint::has_file(path, checkpoint::kConfigName) || holds_adapter(path)) &&
      !checkpoint::has_file(path, checkpoint::kManifestName) &&
      !checkpoint::has_file(path, "trainer.json");
  if (is_model) return path;
  try {
    fs::path step = find_checkpoint(path);
    if (verifies) checkpoint::verify(step);
    return step;
  } catch (const InputError& error) {
    throw InputError(
        fmt::format("{}, or that of a model, with config.json, or of an adapter, with {}",
                    error.what(), kAdapterConfigName));
  }
}

/// Adds the ids of "eos_token_id": a number, a list of numbers, or null.
void add_ids(std::set<data::TokenId>& ids, const json& value, std::int64_t vocab,
             const std::string& file) {
  if (value.is_null()) return;
  const json list = value.is_array() ? value : json::array({value});
  for (const json& id : list) {
    const bool is_legal =
        id.is_number_integer() && id >= 0 && id < vocab;  // as numbers, whatever their size
    if (!is_legal) {
      throw InputError(
          fmt::format("{}: eos_token_id is {}; expected ids of the model's vocabulary, 0 to {}",
                      file, base::json_text(value), vocab - 1));
    }
    ids.insert(id.get<data::TokenId>());
  }
}

/// Of generation_config.json, where there is one.
json generation_ends(const fs::path& directory) {
  if (!checkpoint::has_file(directory, kGenerationConfigName)) return {};
  const json settings = base::read_json(checkpoint::model_file(directory, kGenerationConfigName));
  if (!settings.is_object()) {
    throw InputError(
        fmt::format("{} is not a JSON object", (directory / kGenerationConfigName).string()));
  }
  const auto found = settings.find("eos_token_id");
  return found == settings.end() ? json() : *found;
}

bool has_tokenizer(const fs::path& directory) {
  return std::any_of(std::begin(kTokenizerNames), std::end(kTokenizerNames),
                     [&](const char* name) { return checkpoint::has_file(directory, name); });
}

}  // namespace

ModelChoice choice_of(const GenerateOptions& options) {
  return {options.model, options.tokenizer, options.dtype, options.device, options.base};
}

LoadedModel::LoadedModel(const ModelChoice& choice, comm::Communicator& world) {
  omp_set_num_threads(thread_count(Job(), world.local_size()));
  comm::run_agreed(world, [&] { read(choice, world); });
}

void LoadedModel::read(const ModelChoice& choice, const comm::Communicator& world) {
  directory_ = find_model(choice.path, world.rank() == 0);
  std::optional<AdaptedModel> adapted;
  if (holds_adapter(directory_)) adapted = read_adapted_model(directory_, choice.base);
  if (!adapted && !choice.base.empty()) {
    throw InputError(
        fmt::format("--base names {}, but {} holds a model and no adapter; leave it out",
                    choice.base, directory_.string()));
  }
  const fs::path weights = adapted ? adapted->base : directory_;
  const Pretrained model = adapted ? adapted->model : read_pretrained(directory_);
  load_tokenizer(choice.tokenizer, adapted && !has_tokenizer(directory_) ? weights : directory_,
                 model.config);
  const std::int64_t vocab = model.config.vocab_size;
  add_ids(end_ids_, base::parse_plain_json(model.ids.eos), vocab,
          (weights / checkpoint::kConfigName).string());
  add_ids(end_ids_, generation_ends(weights), vocab, (weights / kGenerationConfigName).string());

  const checkpoint::ModelFiles files(weights);
  const auto names = checkpoint::match(files, wanted_tensors(model.config));
  backend_ = make_device(choice.device, world);
  const DType dtype = choose_dtype(choice.dtype, widest_dtype(files, names));
  decoder_ = std::make_unique<model::Decoder>(
      model.config, dtype, *backend_, model::MemoryPolicy(), nn::Placement{.trains = false},
      nullptr,
      model::TrainingMethods{.lora = adapted ? std::optional(adapted->lora) : std::nullopt});
  load_pretrained(weights, *decoder_, *backend_, world);
  if (adapted) load_adapter(directory_, *decoder_, *backend_);
}

void LoadedModel::load_tokenizer(const std::string& name, const fs::path& directory,
                                 const model::ModelConfig& config) {
  if (name.empty() && !has_tokenizer(directory)) return;
  tokenizer_name_ = name.empty() ? directory.string() : name;
  tokenizer_ = data::load_tokenizer(tokenizer_name_);
  if (tokenizer_->vocab_size() > config.vocab_size) {
    throw InputError(fmt::format("the tokenizer {} has {} ids, and the model of {} only {}",
                                 tokenizer_name_, tokenizer_->vocab_size(), directory_.string(),
                                 config.vocab_size));
  }
  if (tokenizer_->eos_id() >= 0) end_ids_.insert(tokenizer_->eos_id());
}

const data::Tokenizer& LoadedModel::needed_tokenizer() const {
  if (tokenizer_) return *tokenizer_;
  throw InputError(
      fmt::format("{} holds no tokenizer; name one with --tokenizer", directory_.string()));
}

/// What was asked for, or the files' own where it can be computed in; else float32, which holds the
/// numbers of both halves.
DType LoadedModel::choose_dtype(const std::string& asked, DType stored) {
  std::string why_not;
  if (!asked.empty()) {
    const DType dtype = dtype_of_precision(asked);
    if (backend_->supports(dtype, &why_not)) return dtype;
    throw InputError(fmt::format("{} does not work here: {}", asked, why_not));
  }
  if (stored == DType::kFloat16) {
    notes_.push_back(
        "the weights are float16, which nothing is computed in: they become float32, which holds "
        "them exactly (bf16 takes half the memory and rounds them)");
    return DType::kFloat32;
  }
  if (backend_->supports(stored, &why_not)) return stored;
  notes_.push_back(
      fmt::format("the weights are {} and become float32: {}", base::name_of(stored), why_not));
  return DType::kFloat32;
}

}  // namespace longspan::train
