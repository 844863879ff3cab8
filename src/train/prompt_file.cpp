#include "train/prompt_file.h"

#include <fmt/format.h>

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string_view>

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

FilePrompt read_json_line(std::string_view line, const std::string& place,
                          const data::Tokenizer& tokenizer) {
  const json object = base::parse_json(line, place);
  if (!object.is_object()) throw InputError(fmt::format("{}: expected a JSON object", place));
  if (object.contains("completions")) {
    throw InputError(fmt::format(
        "{} has \"completions\", which are added to each line; rename the field", place));
  }
  const auto prompt = object.find("prompt");
  if (prompt == object.end() || !prompt->is_string()) {
    throw InputError(fmt::format("{}: expected a text under \"prompt\"", place));
  }
  return {base::json_text(object), prompt_ids(tokenizer, prompt->get<std::string>())};
}

}  // namespace

std::vector<FilePrompt> read_prompts(const std::string& path, const data::Tokenizer& tokenizer) {
  const base::MappedFile file(path);
  const std::string extension = std::filesystem::path(path).extension();
  const bool is_json = extension == ".jsonl" || extension == ".ndjson";
  std::vector<FilePrompt> prompts;
  std::string_view rest = file.text();
  for (std::int64_t number = 1; !rest.empty(); ++number) {
    const std::size_t end = std::min(rest.find('\n'), rest.size());
    const std::string_view line = rest.substr(0, end);
    rest.remove_prefix(std::min(end + 1, rest.size()));
    prompts.push_back(is_json ? read_json_line(line, fmt::format("{}:{}", path, number), tokenizer)
                              : read_text_line(line, tokenizer));
  }
  if (prompts.empty()) throw InputError(fmt::format("{} is empty: it holds no prompt", path));
  return prompts;
}

}  // namespace longspan::train
