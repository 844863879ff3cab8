#include "data/chat_rules.h"

#include <fmt/format.h>

#include "data/utf8.h"
#include "longspan/base/error.h"
#include "longspan/data/chat.h"

namespace longspan::data {
namespace {

constexpr const char* kInstruction = "[INST]";
constexpr const char* kInstructionEnd = "[/INST]";

ChatRules chatml() {
  const auto turn = [](const std::string& role) {
    TurnForm form;
    form.open = "<|im_start|>";
    form.lead = role + "\n";
    form.close = "<|im_end|>";
    form.tail = "\n";
    return form;
  };
  ChatRules rules;
  rules.system = turn("system");
  rules.user = turn("user");
  rules.assistant = turn("assistant");
  return rules;
}

ChatRules llama3() {
  const auto turn = [](const std::string& role) {
    TurnForm form;
    form.open = "<|start_header_id|>";
    form.header = role;
    form.header_close = "<|end_header_id|>";
    form.lead = "\n\n";
    form.close = "<|eot_id|>";
    return form;
  };
  ChatRules rules;
  rules.begin = "<|begin_of_text|>";
  rules.system = turn("system");
  rules.user = turn("user");
  rules.assistant = turn("assistant");
  rules.trims = true;
  rules.trims_assistant = true;
  return rules;
}

ChatRules gemma() {
  const auto turn = [](const std::string& role) {
    TurnForm form;
    form.open = "<start_of_turn>";
    form.lead = role + "\n";
    form.close = "<end_of_turn>";
    form.tail = "\n";
    return form;
  };
  ChatRules rules;
  rules.begin = "<bos>";
  rules.user = turn("user");
  rules.assistant = turn("model");
  rules.system_joins_user = true;
  rules.alternates = true;
  rules.trims = true;
  rules.trims_assistant = true;
  return rules;
}

/// From the third version on [INST] is a token; before it was text.
ChatRules mistral(bool has_tokens) {
  ChatRules rules;
  rules.begin = "<s>";
  rules.user.open = has_tokens ? kInstruction : "";
  rules.user.lead = has_tokens ? "" : "[INST] ";
  rules.user.trail = has_tokens ? "" : " [/INST]";
  rules.user.close = has_tokens ? kInstructionEnd : "";
  rules.assistant.close = "</s>";
  rules.system_joins_user = true;
  rules.alternates = true;
  rules.trims_assistant = has_tokens;
  return rules;
}

/// What Python's str.isspace() says of a character.
bool is_space(char32_t code) {
  return (code >= 0x09 && code <= 0x0d) || (code >= 0x1c && code <= 0x20) || code == 0x85 ||
         code == 0xa0 || code == 0x1680 || (code >= 0x2000 && code <= 0x200a) || code == 0x2028 ||
         code == 0x2029 || code == 0x202f || code == 0x205f || code == 0x3000;
}

}  // namespace

std::string_view trimmed(std::string_view text) {
  std::size_t begin = 0;
  while (begin < text.size()) {
    const Character character = character_at(text, begin);
    if (!is_space(character.code)) break;
    begin += character.bytes;
  }
  text.remove_prefix(begin);
  while (!text.empty()) {
    std::size_t last = text.size() - 1;  // where the last character may begin
    while (last > 0 && text.size() - last < 3 &&
           (static_cast<unsigned char>(text[last]) >> 6U) == 2)
      --last;
    const Character character = character_at(text, last);
    if (last + character.bytes != text.size() || !is_space(character.code)) break;
    text.remove_suffix(character.bytes);
  }
  return text;
}

std::vector<std::string> telling_tokens(const std::string& name) {
  if (name == "chatml") return {"<|im_start|>", "<|im_end|>"};
  if (name == "llama3") return {"<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"};
  if (name == "gemma") return {"<start_of_turn>", "<end_of_turn>"};
  return {kInstruction, kInstructionEnd};
}

ChatRules chat_rules(const std::string& name, const Tokenizer& tokenizer) {
  if (name == "chatml") return chatml();
  if (name == "llama3") return llama3();
  if (name == "gemma") return gemma();
  if (name == "mistral") return mistral(tokenizer.special_id(kInstruction).has_value());
  throw base::InputError(fmt::format("there is no chat template \"{}\"; there are {}", name,
                                     fmt::join(ChatTemplate::names(), ", ")));
}

}  // namespace longspan::data
