#include "longspan/data/tokenizer.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "data/byte_tokenizer.h"
#include "data/hf/hf_tokenizer.h"
#include "data/sentencepiece_tokenizer.h"
#include "longspan/base/error.h"
#include "longspan/base/file.h"
#include "longspan/base/json.h"

namespace longspan::data {
namespace {

namespace fs = std::filesystem;

std::unique_ptr<Tokenizer> load_model(const fs::path& file) {
  return std::make_unique<SentencePieceTokenizer>(base::read_text(file), file.string());
}

nlohmann::json read_config(const fs::path& file) {
  std::error_code error;
  if (!fs::exists(file, error)) return nlohmann::json::object();
  nlohmann::json config = base::try_parse_json(base::read_text(file));
  if (config.is_object()) return config;
  throw base::InputError(
      fmt::format("cannot load the tokenizer {}: not a JSON object", file.string()));
}

std::unique_ptr<Tokenizer> load_directory(const fs::path& directory) {
  // What transformers reads is tokenizer.json, and added tokens are there alone. A sentencepiece
  // model that this program saved is read itself: it gives back every byte.
  const nlohmann::json config = read_config(directory / "tokenizer_config.json");
  std::error_code error;
  const bool has_json = fs::exists(directory / "tokenizer.json", error);
  const bool has_model = fs::exists(directory / "tokenizer.model", error);
  const bool model_is_exact = config.value(kExactFile, nlohmann::json()) == "tokenizer.model";
  if (has_model && (!has_json || model_is_exact)) return load_model(directory / "tokenizer.model");
  if (has_json) return std::make_unique<hf::HfTokenizer>(directory / "tokenizer.json");
  if (config.value("tokenizer_class", nlohmann::json()) == "ByT5Tokenizer" &&
      config.value("extra_ids", nlohmann::json()) == 0) {
    return std::make_unique<ByteTokenizer>();
  }
  throw base::InputError(fmt::format(
      "cannot load the tokenizer {}: expected a tokenizer.json or tokenizer.model there, or a "
      "tokenizer_config.json of the class ByT5Tokenizer with extra_ids 0",
      directory.string()));
}

}  // namespace

std::unique_ptr<Tokenizer> load_tokenizer(const std::string& name_or_path) {
  if (name_or_path == "bytes") return std::make_unique<ByteTokenizer>();
  std::error_code error;
  if (fs::is_directory(name_or_path, error)) return load_directory(name_or_path);
  if (!fs::exists(name_or_path, error)) {
    throw base::InputError(fmt::format(
        "no tokenizer {}: expected \"bytes\", a tokenizer.json, a sentencepiece .model file or a "
        "directory with one",
        name_or_path));
  }
  if (fs::path(name_or_path).extension() == ".json") {
    return std::make_unique<hf::HfTokenizer>(name_or_path);
  }
  return load_model(name_or_path);
}

}  // namespace longspan::data
