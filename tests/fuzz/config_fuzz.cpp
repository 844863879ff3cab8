// A config.json: what is understood is written, and what is written is understood as the same.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <nlohmann/json.hpp>
#include <string>

#include "longspan/base/error.h"
#include "longspan/base/json.h"
#include "longspan/model/model_config.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using longspan::model::ModelConfig;
  const std::string text(reinterpret_cast<const char*>(data), size);
  try {
    longspan::base::parse_json(text, "config.json");
    const ModelConfig config = ModelConfig::from_config_json(text, "config.json");
    const std::string written = config.to_config_json("float32", -1, -1);
    const ModelConfig again = ModelConfig::from_config_json(written, "config.json");
    if (again.to_config_json("float32", -1, -1) != written) std::abort();
  } catch (const longspan::base::InputError&) {
  }
  return 0;
}
