#include "train/heritage.h"

#include <algorithm>
#include <filesystem>
#include <string>

#include "train/adapter_files.h"

namespace longspan::train {

TokenIds Heritage::token_ids() const {
  if (tokenizer == nullptr) return ids;
  const auto text = [](data::TokenId id) {
    return id < 0 ? std::string("null") : std::to_string(id);
  };
  return {text(tokenizer->bos_id()), text(tokenizer->eos_id()), "null"};
}

Heritage heritage_of(const Job& job, const data::Tokenizer* tokenizer) {
  Heritage heritage;
  heritage.tokenizer = tokenizer;
  if (job.model_from.empty()) return heritage;
  heritage.ids = read_pretrained(job.model_from).ids;
  heritage.companions = read_companions(job.model_from);
  if (const auto lora = job.lora()) {
    heritage.adapter = {*lora,
                        std::filesystem::absolute(job.model_from).lexically_normal().string()};
  }
  if (tokenizer != nullptr) {
    std::erase_if(heritage.companions,
                  [](const auto& file) { return file.name != kGenerationConfigName; });
  }
  return heritage;
}

CheckpointExtras checkpoint_extras(const model::Decoder& model, const Heritage& heritage) {
  CheckpointExtras extras;
  extras.texts.push_back({"config.json", config_json(model.config(), base::name_of(model.dtype()),
                                                     heritage.token_ids())});
  if (heritage.adapter) {
    extras.weights_name = kAdapterWeightsName;
    extras.texts.push_back({kAdapterConfigName, heritage.adapter->to_json(model.config())});
  }
  extras.texts.insert(extras.texts.end(), heritage.companions.begin(), heritage.companions.end());
  if (heritage.tokenizer != nullptr) {
    extras.write_more = [tokenizer = heritage.tokenizer](const std::filesystem::path& directory) {
      tokenizer->save(directory);
    };
  }
  return extras;
}

}  // namespace longspan::train
