#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "longspan/data/token_range.h"
#include "longspan/data/tokenizer.h"

namespace longspan::data {

/// One message of a chat.
struct ChatTurn {
  std::string role;  ///< "system", "user" or "assistant"
  std::string content;
  /// Whether its content counts in the loss; absent: an assistant's does, others' do not.
  std::optional<bool> train;
};

/// A document of which not all tokens need count in the loss.
struct MaskedTokens {
  std::vector<TokenId> ids;
  /// Tokens that are to be predicted: ascending, not empty, none touching the next.
  std::vector<TokenRange> loss;
};

/// How a chat becomes tokens, for training and for generation alike. What each template writes is
/// in docs/formats.md.
///
/// Control tokens are ids of the tokenizer; what people wrote is encoded as text and never becomes
/// one, whatever it spells. The header of an assistant's turn is encoded by itself, as `prompt`
/// ends with it; so a model is trained to go on from exactly what generation gives it.
/// Thread-safe after construction.
class ChatTemplate {
 public:
  /// "chatml", "llama3", "gemma", "mistral".
  static const std::vector<std::string>& names();
  /// The template whose control tokens the tokenizer has; none when it has those of none or of
  /// several. Mistral's without [INST] as a token is never told: its tokens are everybody's.
  static std::optional<std::string> detect(const Tokenizer& tokenizer);
  /// The tokenizer must outlive the template. Throws InputError for an unknown name, and for a
  /// tokenizer that lacks a control token or would find one in plain text.
  static ChatTemplate make(const std::string& name, const Tokenizer& tokenizer);

  const std::string& name() const;
  /// The whole chat. The loss is of the contents of assistants' turns and of the token that ends
  /// each, or as the turns' `train` says. Throws InputError naming the turn (from 1) for an unknown
  /// role, an order of roles that the template does not have, and a `train` where it has no
  /// tokens for it.
  MaskedTokens encode(const std::vector<ChatTurn>& turns) const;
  /// The chat, whose last turn is not an assistant's, and the header of an assistant's turn: what a
  /// model answers. Throws InputError as `encode`.
  std::vector<TokenId> prompt(const std::vector<ChatTurn>& turns) const;
  /// Ids of which any ends an assistant's turn.
  std::vector<TokenId> end_ids() const;

 private:
  class Impl;
  explicit ChatTemplate(std::shared_ptr<const Impl> impl);
  std::shared_ptr<const Impl> impl_;
};

}  // namespace longspan::data
