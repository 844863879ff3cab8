#include <fmt/format.h>

#include <algorithm>

#include "longspan/base/error.h"
#include "model/family.h"

namespace longspan::model {

// One function a file of model/families.
Family llama();
Family gpt2();
Family qwen2();
Family qwen3();
Family mistral();
Family phi3();
Family gemma2();
Family gemma3_text();

const std::vector<Family>& families() {
  static const std::vector<Family> kFamilies = {llama(),   gpt2(), qwen2(),  qwen3(),
                                                mistral(), phi3(), gemma2(), gemma3_text()};
  return kFamilies;
}

const Family* find_family(const std::string& model_type) {
  const auto found = std::find_if(families().begin(), families().end(), [&](const Family& family) {
    return family.model_type == model_type;
  });
  return found == families().end() ? nullptr : &*found;
}

const Family& family_of(const ModelConfig& config) {
  const Family* const family = find_family(config.model_type);
  if (family == nullptr) {
    throw base::InternalError(
        fmt::format("a model of the unknown family \"{}\" is used", config.model_type));
  }
  return *family;
}

Composition composition_of(const ModelConfig& config) { return family_of(config).compose(config); }

}  // namespace longspan::model
