#include "train/pretrained.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <utility>

#include "longspan/backend/dry.h"
#include "longspan/base/error.h"
#include "longspan/base/file.h"
#include "longspan/base/json.h"
#include "longspan/model/weight_files.h"
#include "longspan/train/clip_job.h"
#include "train/states.h"

namespace longspan::train {
namespace {

namespace fs = std::filesystem;
using base::InputError;
using nlohmann::json;
using nlohmann::ordered_json;

constexpr std::size_t kMaxConfigBytes = std::size_t{1} << 20U;
// The largest tokenizer.json that is published has some 35 MB.
constexpr std::uint64_t kMaxCompanionBytes = std::uint64_t{256} << 20U;

/// bos_token_id and the like: a number, a list of them (of eos), or none.
std::string token_ids(const json& config, const char* key, const std::string& file) {
  const auto found = config.find(key);
  if (found == config.end() || found->is_null()) return "null";
  const json list = found->is_array() ? *found : json::array({*found});
  for (const json& id : list) {
    if (id.is_number_integer()) continue;
    throw InputError(fmt::format("{}: {} is {}; expected a token id, a list of them or null", file,
                                 key, base::json_text(*found)));
  }
  return base::json_text(*found);
}

}  // namespace

Pretrained read_pretrained(const fs::path& directory) {
  std::error_code ignored;
  if (!fs::is_directory(directory, ignored)) {
    throw InputError(fmt::format("{} is no directory; expected that of a model, with {}",
                                 directory.string(), checkpoint::kConfigName));
  }
  const fs::path path = checkpoint::model_file(directory, checkpoint::kConfigName);
  const std::string name = (directory / checkpoint::kConfigName).string();
  const base::MappedFile file(path);
  const json document = base::parse_json(file.text(), name, kMaxConfigBytes);
  if (document.is_object() && document.value("model_type", json()) == kClipModelType) {
    throw InputError(fmt::format(
        "{}: model_type is \"{}\": a model of clips, and this command is for models of texts", name,
        kClipModelType));
  }
  Pretrained result;
  result.config = model::ModelConfig::from_config_json(std::string(file.text()), name);
  result.ids = {token_ids(document, "bos_token_id", name),
                token_ids(document, "eos_token_id", name),
                token_ids(document, "pad_token_id", name)};
  for (const char* key : {"torch_dtype", "dtype"}) {
    const auto found = document.find(key);
    if (found != document.end() && found->is_string()) result.dtype = found->get<std::string>();
  }
  return result;
}

std::string config_json(const model::ModelConfig& config, const std::string& dtype,
                        const TokenIds& ids) {
  const std::string plain = config.to_config_json(dtype, -1, -1);
  ordered_json out = ordered_json::parse(plain);
  out["bos_token_id"] = base::parse_plain_json(ids.bos);
  out["eos_token_id"] = base::parse_plain_json(ids.eos);
  if (ids.pad != "null") out["pad_token_id"] = base::parse_plain_json(ids.pad);
  return base::json_text(out, 2) + "\n";
}

std::string generation_config_json(const TokenIds& ids) {
  ordered_json out;
  out["_from_model_config"] = true;
  for (const auto& [key, text] :
       {std::pair("bos_token_id", ids.bos), {"eos_token_id", ids.eos}, {"pad_token_id", ids.pad}}) {
    if (text != "null") out[key] = base::parse_plain_json(text);
  }
  return base::json_text(out, 2) + "\n";
}

std::vector<checkpoint::TextFile> read_companions(const fs::path& directory) {
  std::vector<checkpoint::TextFile> files;
  for (const char* name :
       {"tokenizer.json", "tokenizer.model", "tokenizer_config.json", "special_tokens_map.json",
        "added_tokens.json", "vocab.json", "merges.txt", "chat_template.jinja",
        "chat_template.json", kGenerationConfigName}) {
    if (!checkpoint::has_file(directory, name)) continue;
    const base::InputFile file(checkpoint::model_file(directory, name));
    if (file.size() > kMaxCompanionBytes) {
      throw InputError(fmt::format("{} has {}, at most {} are taken over",
                                   (directory / name).string(), base::format_bytes(file.size()),
                                   base::format_bytes(kMaxCompanionBytes)));
    }
    std::string text(file.size(), '\0');
    file.read(0, text.size(), text.data());
    files.push_back({name, std::move(text)});
  }
  return files;
}

checkpoint::WantedTensors wanted_tensors(const nn::ParameterSet& parameters,
                                         const model::ModelConfig& config) {
  model::WeightFiles files = model::weight_files(config);
  checkpoint::WantedTensors wanted;
  for (const nn::Parameter& parameter : parameters.parameters()) {
    wanted.tensors.push_back({parameter.name, base::DType::kFloat32, parameter.shape.extents()});
  }
  wanted.prefix = std::move(files.prefix);
  wanted.ignored = std::move(files.ignored);
  wanted.tied_head = std::move(files.tied_head);
  wanted.embedding = std::move(files.embedding);
  return wanted;
}

checkpoint::WantedTensors wanted_tensors(const model::ModelConfig& config) {
  backend::DryBackend nothing(backend::DeviceProfile::load("cpu"), 1);
  model::Decoder model(config, base::DType::kFloat32, nothing);
  return wanted_tensors(model.parameters(), config);
}

base::DType widest_dtype(const checkpoint::ModelFiles& files,
                         const std::map<std::string, std::string>& names) {
  base::DType widest = files.tensors().at(names.begin()->second).dtype;
  for (const auto& [wanted, stored] : names) {
    const base::DType other = files.tensors().at(stored).dtype;
    const bool halves = other != widest && base::size_of(other) == 2 && base::size_of(widest) == 2;
    if (halves) {
      widest = base::DType::kFloat32;  // neither bfloat16 nor float16 holds the other
    } else if (base::size_of(other) > base::size_of(widest)) {
      widest = other;
    }
  }
  return widest;
}

namespace {

/// The files of a model, opened and compared with its parameters.
class WeightSource {
 public:
  WeightSource(const fs::path& directory, model::Decoder& model, const comm::Communicator& world)
      : files_(directory), parameters_(&model.parameters()) {
    const checkpoint::WantedTensors wanted = wanted_tensors(*parameters_, model.config());
    names_ = checkpoint::match(files_, wanted);
    if (world.rank() == 0) checkpoint::check_tied_head(files_, wanted);
  }

  void load(const std::vector<StateTensor>& states) const {
    load_converted(states, *parameters_, find());
  }
  void load_weights(backend::Backend& backend) const {
    if (parameters_->packs()) {
      load_packed(*parameters_, backend, find());
    } else {
      load(weights_of(*parameters_, backend));
    }
  }

 private:
  std::function<StoredNumbers(const nn::Parameter&)> find() const {
    return [this](const nn::Parameter& parameter) {
      const std::string& name = names_.at(parameter.name);
      return StoredNumbers{files_.tensors().at(name).dtype,
                           [this, &name](std::uint64_t first, std::uint64_t bytes, void* out) {
                             files_.read(name, first, bytes, out);
                           }};
    };
  }

  checkpoint::ModelFiles files_;
  nn::ParameterSet* parameters_;
  std::map<std::string, std::string> names_;
};

}  // namespace

void load_pretrained(const fs::path& directory, model::Decoder& model, backend::Backend& backend,
                     const comm::Communicator& world) {
  WeightSource(directory, model, world).load_weights(backend);
}

void load_pretrained(const fs::path& directory, model::Decoder& model, optim::Optimizer& optimizer,
                     backend::Backend& backend, const comm::Communicator& world) {
  const WeightSource source(directory, model, world);
  source.load_weights(backend);
  if (optimizer.saves_master()) {
    source.load(optimizer.master());  // of what was rounded in the weights, nothing is lost here
  } else {
    optimizer.reset_master();
  }
}

}  // namespace longspan::train
