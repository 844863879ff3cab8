#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>

#include "data/hf/json_node.h"

namespace longspan::data::hf {

/// A place in a text: [begin, end), bytes.
struct Match {
  std::size_t begin = 0;
  std::size_t end = 0;
};

/// What matching needs beside the pattern; one a thread.
class MatchScratch {
 public:
  MatchScratch();
  ~MatchScratch();
  MatchScratch(const MatchScratch&) = delete;
  MatchScratch& operator=(const MatchScratch&) = delete;

 private:
  friend class Regex;
  struct State;
  std::unique_ptr<State> state_;
};

/// A regular expression of a tokenizer.json. The files are written for Oniguruma with Ruby's
/// syntax; PCRE2 runs them (UTF, Unicode properties, compiled to machine code). What the two
/// understand differently is refused by name: `\w`, `\b`, `\h`, `^`, `$`, scripts, nested sets.
/// Thread-safe.
class Regex {
 public:
  /// `node` is where the pattern stands, for messages. Throws InputError for a pattern that is
  /// not valid, not supported, or that matches the empty text.
  Regex(const std::string& pattern, const JsonNode& node);
  /// A pattern of this program.
  explicit Regex(const std::string& pattern);
  ~Regex();
  Regex(const Regex&) = delete;
  Regex& operator=(const Regex&) = delete;

  /// The first match that begins at `from` or behind; false when there is none. `text` must be
  /// valid UTF-8 and `from` at a character. Throws InputError when the search takes more steps than
  /// a pattern that is linear in the text could need.
  bool find(std::string_view text, std::size_t from, MatchScratch& scratch, Match& match) const;

 private:
  struct Code;
  std::unique_ptr<Code> code_;
  std::string pattern_;
};

}  // namespace longspan::data::hf
