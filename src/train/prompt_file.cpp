#include "train/prompt_file.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>
#include <string_view>
#include <utility>

#include "longspan/base/error.h"
#include "longspan/base/file.h"
#include "longspan/base/json.h"
#include "train/continuation.h"
#include "train/text_stream.h"

namespace longspan::train {
namespace {

using base::InputError;
using nlohmann::json;

FilePrompt read_text_line(std::string_view line, const data::Tokenizer& tokenizer) {
  if (line.ends_with('\r')) line.remove_suffix(1);
  const std::string text(line);
  const json object{{"prompt", as_utf8(text)}};
  return {base::json_text(object), prompt_ids(tokenizer, text)};
}

std::string text_of(const json& object, const char* key, const std::string& place) {
  const auto found = object.is_object() ? object.find(key) : object.end();
  if (found != object.end() && found->is_string()) return found->get<std::string>();
  throw InputError(fmt::format("{}: expected a text under \"{}\"", place, key));
}

/// Of a list of {"role": ..., "content": ...}.
std::vector<data::ChatTurn> turns_of(const json& messages, const std::string& place) {
  if (!messages.is_array() || messages.empty()) {
    throw InputError(fmt::format("{}: expected a list of messages under \"messages\"", place));
  }
  std::vector<data::ChatTurn> turns;
  for (const json& message : messages) {
    turns.push_back({text_of(message, "role", place), text_of(message, "content", place), {}});
  }
  return turns;
}

/// Prompts of JSON lines; the template is made when a chat is met.
class JsonPrompts {
 public:
  JsonPrompts(const data::Tokenizer& tokenizer, std::string chat_template)
      : tokenizer_(&tokenizer), name_(std::move(chat_template)) {}

  FilePrompt read(std::string_view line, const std::string& place) {
    const json object = base::parse_json(line, place);
    if (!object.is_object()) throw InputError(fmt::format("{}: expected a JSON object", place));
    if (object.contains("completions")) {
      throw InputError(fmt::format(
          "{} has \"completions\", which are added to each line; rename the field", place));
    }
    const bool is_chat = object.contains("messages");
    if (is_chat == object.contains("prompt")) {
      throw InputError(fmt::format("{}: expected either \"prompt\" or \"messages\"", place));
    }
    return {base::json_text(object),
            is_chat ? chat_ids(object.at("messages"), place)
                    : prompt_ids(*tokenizer_, text_of(object, "prompt", place)),
            is_chat};
  }

 private:
  std::vector<data::TokenId> chat_ids(const json& messages, const std::string& place) {
    const std::vector<data::ChatTurn> turns = turns_of(messages, place);
    if (!template_) template_.emplace(make_chat_template(name_, *tokenizer_));
    try {
      return template_->prompt(turns);
    } catch (const InputError& error) {
      throw InputError(fmt::format("{}: {}", place, error.what()));
    }
  }

  const data::Tokenizer* tokenizer_;
  std::string name_;
  std::optional<data::ChatTemplate> template_;
};

}  // namespace

data::ChatTemplate make_chat_template(const std::string& name, const data::Tokenizer& tokenizer) {
  if (!name.empty()) return data::ChatTemplate::make(name, tokenizer);
  if (const auto told = data::ChatTemplate::detect(tokenizer)) {
    return data::ChatTemplate::make(*told, tokenizer);
  }
  throw InputError(fmt::format(
      "the tokenizer has the control tokens of no chat template, or of several; name one "
      "with --chat-template: {}",
      fmt::join(data::ChatTemplate::names(), ", ")));
}

std::vector<FilePrompt> read_prompts(const std::string& path, const data::Tokenizer& tokenizer,
                                     const std::string& chat_template) {
  const base::MappedFile file(path);
  const std::string extension = std::filesystem::path(path).extension();
  const bool is_json = extension == ".jsonl" || extension == ".ndjson";
  JsonPrompts reader(tokenizer, chat_template);
  std::vector<FilePrompt> prompts;
  std::string_view rest = file.text();
  for (std::int64_t number = 1; !rest.empty(); ++number) {
    const std::size_t end = std::min(rest.find('\n'), rest.size());
    const std::string_view line = rest.substr(0, end);
    rest.remove_prefix(std::min(end + 1, rest.size()));
    prompts.push_back(is_json ? reader.read(line, fmt::format("{}:{}", path, number))
                              : read_text_line(line, tokenizer));
  }
  if (prompts.empty()) throw InputError(fmt::format("{} is empty: it holds no prompt", path));
  return prompts;
}

}  // namespace longspan::train
