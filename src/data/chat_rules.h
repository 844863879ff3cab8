#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "longspan/data/tokenizer.h"

namespace longspan::data {

/// What a turn of some role is written as, in this order. Names of control tokens, or text; empty:
/// nothing.
struct TurnForm {
  std::string open;          ///< token
  std::string header;        ///< text
  std::string header_close;  ///< token
  std::string lead;          ///< text, joined to the content
  std::string trail;         ///< text, joined to the content
  std::string close;         ///< token: what ends the turn, and counts in the loss with the content
  std::string tail;          ///< text
};

/// What makes a template.
struct ChatRules {
  std::string begin;  ///< token that the chat begins with; empty: none
  TurnForm system;
  TurnForm user;
  TurnForm assistant;
  bool system_joins_user = false;  ///< the system's content stands in front of the first user's
  bool alternates = false;         ///< user and assistant take turns, the user first
  bool trims = false;              ///< contents lose the white space around them
  bool trims_assistant = false;    ///< the assistant's do
};

/// The rules of a template; Mistral's depend on the tokenizer. Throws InputError for a name that is
/// none of ChatTemplate::names.
ChatRules chat_rules(const std::string& name, const Tokenizer& tokenizer);

/// Control tokens by which the template of this name is told from the others.
std::vector<std::string> telling_tokens(const std::string& name);

/// Without the white space at both ends, of which Unicode's counts, too, as for Python and Jinja.
std::string_view trimmed(std::string_view text);

}  // namespace longspan::data
