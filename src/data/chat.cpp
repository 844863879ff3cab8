#include "longspan/data/chat.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "data/chat_rules.h"
#include "data/encode_behind.h"
#include "longspan/base/error.h"

namespace longspan::data {

class ChatTemplate::Impl {
 public:
  Impl(std::string name, const Tokenizer& tokenizer)
      : name_(std::move(name)), rules_(chat_rules(name_, tokenizer)), tokenizer_(&tokenizer) {
    look_up(rules_.begin);
    for (const TurnForm* form : {&rules_.system, &rules_.user, &rules_.assistant}) {
      for (const std::string& token : {form->open, form->header_close, form->close}) {
        look_up(token);
      }
      for (const std::string& text : {form->header, form->lead, form->tail}) {
        texts_.try_emplace(text, tokenizer_->encode(text));
      }
    }
  }

  const std::string& name() const { return name_; }
  TokenId end_id() const { return ids_.at(rules_.assistant.close); }

  MaskedTokens encode(const std::vector<ChatTurn>& turns) const {
    check(turns);
    MaskedTokens out;
    put_token(rules_.begin, out.ids);
    std::string joined;  // what the system said, where it has no turn of its own
    for (const ChatTurn& turn : turns) {
      if (turn.role == "system" && rules_.system_joins_user) {
        joined = turn.content + "\n\n";
        continue;
      }
      const TokenRange content = put_turn(form_of(turn.role), joined + shown(turn), out.ids);
      joined.clear();
      if (!turn.train.value_or(turn.role == "assistant") || content.begin == content.end) continue;
      if (!out.loss.empty() && out.loss.back().end == content.begin) {
        out.loss.back().end = content.end;
      } else {
        out.loss.push_back(content);
      }
    }
    return out;
  }

  std::vector<TokenId> prompt(const std::vector<ChatTurn>& turns) const {
    check(turns);
    if (turns.back().role == "assistant" ||
        (turns.back().role == "system" && rules_.system_joins_user)) {
      throw base::InputError(
          fmt::format("turn {} is the {}'s, and a chat that the model is to answer ends with a "
                      "user's turn",
                      turns.size(), turns.back().role));
    }
    std::vector<TokenId> ids = encode(turns).ids;
    put_header(rules_.assistant, ids);
    return ids;
  }

 private:
  /// The id of a control token that the template needs.
  void look_up(const std::string& token) {
    if (token.empty()) return;
    const std::optional<TokenId> id = tokenizer_->special_id(token);
    if (!id) {
      throw base::InputError(
          fmt::format("the chat template \"{}\" needs the token {}, which the tokenizer does not "
                      "have among its special or added tokens",
                      name_, token));
    }
    const std::vector<TokenId> as_text = tokenizer_->encode(token);
    if (std::find(as_text.begin(), as_text.end(), *id) != as_text.end()) {
      throw base::InputError(
          fmt::format("the chat template \"{}\" needs {} as a control token, but the tokenizer "
                      "finds it in plain text, so that any message could contain it; mark it "
                      "\"special\": true among the added_tokens of tokenizer.json",
                      name_, token));
    }
    ids_[token] = *id;
  }

  void check(const std::vector<ChatTurn>& turns) const {
    if (turns.empty()) throw base::InputError("a chat without turns");
    bool user_next = true;
    for (std::size_t index = 0; index < turns.size(); ++index) {
      const ChatTurn& turn = turns[index];
      const auto refuse = [&](const std::string& why) {
        throw base::InputError(fmt::format("turn {}: {}", index + 1, why));
      };
      if (turn.role == "tool" || turn.role == "function") {
        refuse(
            fmt::format("the role \"{}\" is not supported: the chat templates here have no "
                        "place for tools",
                        turn.role));
      }
      if (turn.role == "system") {
        if (index > 0) refuse("only the first turn may be the system's");
        if (rules_.system_joins_user) check_joined_system(turns);
        continue;
      }
      const bool is_user = turn.role == "user";
      if (!is_user && turn.role != "assistant") {
        refuse(fmt::format("there is no role \"{}\"; there are system, user and assistant",
                           turn.role));
      }
      if (is_user && turn.train.value_or(false) && rules_.user.close.empty()) {
        refuse(
            fmt::format("the chat template \"{}\" with [INST] as text cannot train a user's "
                        "turn: its content shares tokens with what is around it",
                        name_));
      }
      if (rules_.alternates && is_user != user_next) {
        refuse(
            fmt::format("the chat template \"{}\" has user and assistant take turns, beginning "
                        "with the user; here it is the {}'s turn, found {}",
                        name_, user_next ? "user" : "assistant", turn.role));
      }
      user_next = !is_user;
    }
  }

  void check_joined_system(const std::vector<ChatTurn>& turns) const {
    if (turns.size() == 1) {
      throw base::InputError(fmt::format(
          "turn 1: the chat template \"{}\" writes what the system says into the first turn of "
          "the user, and there is none",
          name_));
    }
    if (turns.front().train.value_or(false)) {
      throw base::InputError(fmt::format(
          "turn 1: the chat template \"{}\" has no turn of the system that could be trained",
          name_));
    }
  }

  const TurnForm& form_of(const std::string& role) const {
    return role == "user" ? rules_.user : role == "system" ? rules_.system : rules_.assistant;
  }

  std::string shown(const ChatTurn& turn) const {
    const bool trims = turn.role == "assistant" ? rules_.trims_assistant : rules_.trims;
    return trims ? std::string(trimmed(turn.content)) : turn.content;
  }

  void put_token(const std::string& token, std::vector<TokenId>& ids) const {
    if (!token.empty()) ids.push_back(ids_.at(token));
  }
  static void append(const std::vector<TokenId>& more, std::vector<TokenId>& ids) {
    ids.insert(ids.end(), more.begin(), more.end());
  }
  /// One of the template's own.
  void put_text(const std::string& text, std::vector<TokenId>& ids) const {
    append(texts_.at(text), ids);
  }

  void put_header(const TurnForm& form, std::vector<TokenId>& ids) const {
    put_token(form.open, ids);
    put_text(form.header, ids);
    put_token(form.header_close, ids);
    put_text(form.lead, ids);
  }

  /// Gives the tokens of the content and of what ends the turn.
  TokenRange put_turn(const TurnForm& form, const std::string& content,
                      std::vector<TokenId>& ids) const {
    TokenRange range;
    if (form.trail.empty()) {
      put_header(form, ids);
      range.begin = static_cast<std::int64_t>(ids.size());
      append(encode_behind(*tokenizer_, form.lead, texts_.at(form.lead), content), ids);
    } else {
      put_token(form.open, ids);
      range.begin = static_cast<std::int64_t>(ids.size());
      append(tokenizer_->encode(form.lead + content + form.trail), ids);
    }
    put_token(form.close, ids);
    range.end = static_cast<std::int64_t>(ids.size());
    put_text(form.tail, ids);
    return range;
  }

  std::string name_;
  ChatRules rules_;
  const Tokenizer* tokenizer_;
  std::map<std::string, TokenId> ids_;                 ///< of the control tokens
  std::map<std::string, std::vector<TokenId>> texts_;  ///< ids of the template's own texts
};

ChatTemplate::ChatTemplate(std::shared_ptr<const Impl> impl) : impl_(std::move(impl)) {}

const std::vector<std::string>& ChatTemplate::names() {
  static const std::vector<std::string> kNames = {"chatml", "llama3", "gemma", "mistral"};
  return kNames;
}

std::optional<std::string> ChatTemplate::detect(const Tokenizer& tokenizer) {
  std::optional<std::string> found;
  for (const std::string& name : names()) {
    const std::vector<std::string> tokens = telling_tokens(name);
    const bool has_all = std::all_of(tokens.begin(), tokens.end(), [&](const std::string& token) {
      return tokenizer.special_id(token).has_value();
    });
    if (!has_all) continue;
    if (found) return std::nullopt;
    found = name;
  }
  return found;
}

ChatTemplate ChatTemplate::make(const std::string& name, const Tokenizer& tokenizer) {
  return ChatTemplate(std::make_shared<const Impl>(name, tokenizer));
}

const std::string& ChatTemplate::name() const { return impl_->name(); }

MaskedTokens ChatTemplate::encode(const std::vector<ChatTurn>& turns) const {
  return impl_->encode(turns);
}

std::vector<TokenId> ChatTemplate::prompt(const std::vector<ChatTurn>& turns) const {
  return impl_->prompt(turns);
}

std::vector<TokenId> ChatTemplate::end_ids() const { return {impl_->end_id()}; }

}  // namespace longspan::data
