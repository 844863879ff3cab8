#include "longspan/data/tokenizer.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "data/byte_tokenizer.h"
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

std::unique_ptr<Tokenizer> load_directory(const fs::path& directory) {
  if (fs::exists(directory / "tokenizer.model")) return load_model(directory / "tokenizer.model");
  const fs::path file = directory / "tokenizer_config.json";
  const auto config = base::try_parse_json(base::read_text(file));
  if (!config.is_object()) {
    throw base::InputError(
        fmt::format("cannot load the tokenizer {}: not a JSON object", file.string()));
  }
  const auto type = config.find("tokenizer_class");
  const auto extra = config.find("extra_ids");
  const bool plain_bytes =
      type != config.end() && *type == "ByT5Tokenizer" && extra != config.end() && *extra == 0;
  if (!plain_bytes) {
    throw base::InputError(fmt::format(
        "cannot load the tokenizer {}: expected a tokenizer.model beside it, or the class "
        "ByT5Tokenizer with extra_ids 0",
        file.string()));
  }
  return std::make_unique<ByteTokenizer>();
}

}  // namespace

std::unique_ptr<Tokenizer> load_tokenizer(const std::string& name_or_path) {
  if (name_or_path == "bytes") return std::make_unique<ByteTokenizer>();
  std::error_code error;
  if (fs::is_directory(name_or_path, error)) return load_directory(name_or_path);
  if (!fs::exists(name_or_path, error)) {
    throw base::InputError(fmt::format(
        "no tokenizer {}: expected \"bytes\", a sentencepiece .model file or a directory with one",
        name_or_path));
  }
  return load_model(name_or_path);
}

}  // namespace longspan::data
