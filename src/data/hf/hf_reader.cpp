#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <nlohmann/json.hpp>

#include "data/hf/bpe_reader.h"
#include "data/hf/hf_tokenizer.h"
#include "longspan/base/error.h"
#include "longspan/base/file.h"
#include "longspan/base/json.h"

namespace longspan::data::hf {
namespace {

constexpr std::size_t kMostBytes = std::size_t{64} << 20U;
constexpr const char* kTokenizer = "tokenizer.json";
constexpr const char* kConfig = "tokenizer_config.json";
constexpr const char* kSpecialMap = "special_tokens_map.json";
/// What else of a tokenizer may lie beside tokenizer.json: not read here, but saved with it.
constexpr std::array kCarried = {"added_tokens.json", "chat_template.jinja", "chat_template.json",
                                 "vocab.json",        "merges.txt",          "tokenizer.model"};

std::uint64_t new_instance() {
  static std::atomic<std::uint64_t> count{0};
  return ++count;
}

}  // namespace

HfTokenizer::HfTokenizer(const std::filesystem::path& file) : instance_(new_instance()) {
  files_[kTokenizer] = base::read_text(file);
  if (file.filename() == kTokenizer) read_companions(file.parent_path());
  read(file.string());
}

HfTokenizer::HfTokenizer(std::string json, const std::string& name) : instance_(new_instance()) {
  files_[kTokenizer] = std::move(json);
  read(name);
}

void HfTokenizer::read_companions(const std::filesystem::path& directory) {
  const auto add = [&](const char* name) {
    const std::filesystem::path file = directory / name;
    std::error_code error;
    if (std::filesystem::exists(file, error)) files_[name] = base::read_text(file);
  };
  add(kConfig);
  add(kSpecialMap);
  for (const char* const name : kCarried) add(name);
}

TokenFinder HfTokenizer::finder(bool normalized) const {
  std::vector<AddedToken> tokens;
  std::vector<std::string> patterns;
  for (const AddedToken& token : added_) {
    if (token.normalized != normalized) continue;
    const std::string pattern = normalized ? normalizer_.apply(token.content, true) : token.content;
    if (pattern.empty()) continue;  // as the reference, which never finds it
    tokens.push_back(token);
    patterns.push_back(pattern);
  }
  return {std::move(tokens), patterns};
}

void HfTokenizer::read(const std::string& name) {
  const nlohmann::json json = base::parse_json(files_.at(kTokenizer), name, kMostBytes);
  const JsonNode file(json, name);
  file.allow_only({"version", "truncation", "padding", "added_tokens", "normalizer",
                   "pre_tokenizer", "post_processor", "decoder", "model"});
  added_ = read_added_tokens(file);
  const std::size_t own = added_.size();
  if (const auto config = files_.find(kConfig); config != files_.end()) {
    const std::string config_name = (std::filesystem::path(name).parent_path() / kConfig).string();
    const nlohmann::json value = base::parse_json(config->second, config_name, kMostBytes);
    read_added_tokens_decoder(JsonNode(value, config_name), added_);
  }
  for (std::size_t index = own; index < added_.size(); ++index) {
    hashed_extra_ += fmt::format("\n{} {}", added_[index].id, added_[index].content);
  }
  if (const auto node = file.find("normalizer")) normalizer_.add(*node);
  if (const auto node = file.find("pre_tokenizer")) pre_tokenizer_.add(*node);
  Decoder decoder;
  if (const auto node = file.find("decoder")) decoder = Decoder(*node);
  BpeParts parts = read_bpe(file.at("model"), added_, pre_tokenizer_.is_byte_level());
  prefix_spaces_ = decoder.prefix_spaces();
  for (const std::string& token : parts.tokens) decoded_.push_back(decoder.bytes_of(token));
  for (const AddedToken& token : added_) {
    decoded_[static_cast<std::size_t>(token.id)] = token.special ? "" : token.content;
    special_ids_.emplace(token.content, token.id);
  }
  finder_ = finder(false);
  normalized_finder_ = finder(true);
  const auto post_processor = file.find("post_processor");
  const DocumentMarks marks =
      post_processor ? read_post_processor(*post_processor) : DocumentMarks();
  read_marks(marks, parts.tokens, name);
  model_ = std::make_unique<BpeModel>(std::move(parts));
}

void HfTokenizer::read_marks(const DocumentMarks& from_template,
                             const std::vector<std::string>& tokens, const std::string& name) {
  DocumentMarks marks;
  for (const char* const companion : {kConfig, kSpecialMap}) {
    const auto text = files_.find(companion);
    if (text == files_.end()) continue;
    const std::string file = (std::filesystem::path(name).parent_path() / companion).string();
    const nlohmann::json json = base::parse_json(text->second, file, kMostBytes);
    const DocumentMarks found = read_configured_marks(JsonNode(json, file));
    if (!marks.bos) marks.bos = found.bos;
    if (!marks.eos) marks.eos = found.eos;
  }
  if (!marks.bos) marks.bos = from_template.bos;
  if (!marks.eos) marks.eos = from_template.eos;
  const auto is_special = [](const AddedToken& token) { return token.special; };
  if (!marks.eos && std::count_if(added_.begin(), added_.end(), is_special) == 1) {
    marks.eos = std::find_if(added_.begin(), added_.end(), is_special)->content;
  }
  if (!marks.eos) {
    throw base::InputError(fmt::format(
        "cannot load the tokenizer {}: nothing says which token ends a document; put a {} with "
        "\"eos_token\" beside it, the file being named {}",
        name, kConfig, kTokenizer));
  }
  const auto id_of = [&](const std::string& content) {
    const auto found = std::find(tokens.begin(), tokens.end(), content);
    if (found == tokens.end()) {
      throw base::InputError(
          fmt::format("cannot load the tokenizer {}: it has no token {}, which is to begin or end "
                      "a document",
                      name, shown(content)));
    }
    return static_cast<TokenId>(found - tokens.begin());
  };
  eos_ = id_of(*marks.eos);
  bos_ = marks.bos ? id_of(*marks.bos) : eos_;
  for (const TokenId id : {bos_, eos_}) decoded_[static_cast<std::size_t>(id)].clear();
  if (!files_.contains(kConfig)) {
    const nlohmann::json config = {{"tokenizer_class", "PreTrainedTokenizerFast"},
                                   {"bos_token", marks.bos ? *marks.bos : *marks.eos},
                                   {"eos_token", *marks.eos},
                                   {"clean_up_tokenization_spaces", false}};
    files_[kConfig] = base::json_text(config, 2) + "\n";
  }
}

}  // namespace longspan::data::hf
