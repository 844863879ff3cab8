#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "longspan/train/generate.h"

namespace longspan::train {

struct ChatOptions {
  /// Of these, `samples` counts for nothing; max_tokens 0: as many as the context leaves.
  GenerateOptions generate;
  std::string chat_template;  ///< its name; empty: told by the tokenizer
  std::string system;         ///< what the chat begins with; empty: nothing
};

/// How a turn of the chat went.
struct ChatAnswer {
  std::string text;
  bool is_whole = false;     ///< the model came to its end, or to a stop text
  bool was_refused = false;  ///< the turn has no room: it was not taken, and there is no answer
  std::int64_t run = 0;      ///< tokens that were run before the first of the answer
  std::int64_t length = 0;   ///< tokens of the chat
  std::int64_t context = 0;  ///< at most so many
};

/// A chat with a model: keys and values of what was said stay where they are from turn to turn, and
/// only what is new is run. (What the model said is encoded anew for the next turn; where that
/// gives other tokens than it had drawn, these are run.) The same seed and turns give the same
/// answers.
class ChatSession {
 public:
  /// Throws InputError, also for a tokenizer without a chat template, DamagedCheckpointError and
  /// OutOfMemoryError.
  explicit ChatSession(const ChatOptions& options);
  ~ChatSession();

  const std::vector<std::string>& notes() const;
  const std::string& template_name() const;

  /// Adds a turn of the user, and gives the answer, whose pieces (whole UTF-8 characters) go to
  /// `tell` as they come. Stops early, as if max_tokens were reached, when `stops` says so.
  ChatAnswer answer(const std::string& text, const std::function<void(const std::string&)>& tell,
                    const std::function<bool()>& stops);
  /// Begins anew, with the system's turn alone.
  void reset();

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace longspan::train
