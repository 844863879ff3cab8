#include "cli/chat.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <csignal>
#include <cstdio>
#include <ctime>
#include <iostream>
#include <string>

namespace longspan::cli {
namespace {

/// SIGINT is blocked, in this thread and those that it starts from now on, and asked for between
/// tokens; never handled (see train::StopSignals for why). While a line is read it ends the
/// process.
class Interrupts {
 public:
  Interrupts() {
    sigemptyset(&set_);
    sigaddset(&set_, SIGINT);
    pthread_sigmask(SIG_BLOCK, &set_, nullptr);
  }
  ~Interrupts() { pthread_sigmask(SIG_UNBLOCK, &set_, nullptr); }
  Interrupts(const Interrupts&) = delete;
  Interrupts& operator=(const Interrupts&) = delete;

  bool came() const {
    const timespec now{};
    return sigtimedwait(&set_, nullptr, &now) > 0;
  }
  bool read_line(std::string& line) const {
    pthread_sigmask(SIG_UNBLOCK, &set_, nullptr);
    const bool has_line = static_cast<bool>(std::getline(std::cin, line));
    pthread_sigmask(SIG_BLOCK, &set_, nullptr);
    return has_line;
  }

 private:
  sigset_t set_{};
};

void note(const std::string& remark) { fmt::print(stderr, "note: {}\n", remark); }

/// A slash and letters: what is not text for the model.
bool is_command(const std::string& line) {
  return line.size() > 1 && line.front() == '/' &&
         std::all_of(line.begin() + 1, line.end(),
                     [](unsigned char letter) { return std::isalpha(letter) != 0; });
}

class Chat {
 public:
  explicit Chat(const train::ChatOptions& options)
      : is_terminal_(::isatty(STDIN_FILENO) == 1), session_(options) {
    for (const std::string& remark : session_.notes()) note(remark);
    if (!is_terminal_) return;
    note(
        fmt::format("chat template {}; /reset begins anew, /exit or Ctrl-D leaves, Ctrl-C ends an "
                    "answer",
                    session_.template_name()));
  }

  void run() {
    std::string line;
    while (read(line)) {
      if (line == "/exit") return;
      if (line == "/reset") {
        session_.reset();
        if (is_terminal_) note("the chat begins anew");
      } else if (is_command(line)) {
        note(fmt::format("there is no command {}; there are /reset and /exit", line));
      } else if (!line.empty()) {
        answer(line);
      }
    }
    if (is_terminal_) say("\n");
  }

 private:
  static void say(const std::string& text) {
    fmt::print("{}", text);
    std::fflush(stdout);
  }

  bool read(std::string& line) const {
    if (is_terminal_) say("> ");
    if (!interrupts_.read_line(line)) return false;
    if (line.ends_with('\r')) line.pop_back();
    return true;
  }

  void answer(const std::string& line) {
    const train::ChatAnswer answer =
        session_.answer(line, say, [this] { return is_terminal_ && interrupts_.came(); });
    if (answer.was_refused) {
      note(fmt::format(
          "the context is full: the chat would have {} tokens with this turn, which was not taken, "
          "and there is room for {}; /reset begins anew",
          answer.length, answer.context));
      return;
    }
    say("\n");
    if (!answer.is_whole && answer.length >= answer.context) {
      note(fmt::format("the context of {} tokens is full; /reset begins anew", answer.context));
    }
  }

  Interrupts interrupts_;  // before the threads that the session starts
  bool is_terminal_;
  train::ChatSession session_;
};

}  // namespace

void run_chat(const train::ChatOptions& options) { Chat(options).run(); }

}  // namespace longspan::cli
