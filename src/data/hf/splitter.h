#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "data/hf/json_node.h"
#include "data/hf/regex.h"
#include "data/hf/unicode_age.h"

namespace longspan::data::hf {

/// What is looked for in a text: a regular expression or a fixed text (not empty).
class Pattern {
 public:
  /// Of {"String": ...} or {"Regex": ...}.
  explicit Pattern(const JsonNode& node);
  static Pattern fixed(std::string text);
  /// A regular expression of this program, or one that the file spells out.
  static Pattern regex(const std::string& text);

  bool find(std::string_view text, std::size_t from, MatchScratch& scratch, Match& match) const;

 private:
  Pattern() = default;

  std::string fixed_;
  std::unique_ptr<Regex> regex_;
};

/// A part of a text on its way to the model. `first`: it begins where the whole text does.
using PieceSink = std::function<void(std::string_view piece, bool first)>;

/// What becomes of the matches of a Split, with the names of tokenizer.json.
enum class SplitBehavior { kRemoved, kIsolated, kMergedWithPrevious, kMergedWithNext, kContiguous };

SplitBehavior read_behavior(const JsonNode& node);

/// Cuts a text at the matches of a pattern.
class Splitter {
 public:
  /// `invert`: what lies between the matches counts as matches, and they as what lies between.
  Splitter(Pattern pattern, SplitBehavior behavior, bool invert)
      : pattern_(std::move(pattern)), behavior_(behavior), invert_(invert) {}

  void split(std::string_view text, bool first, MatchScratch& scratch, const PieceSink& sink) const;

  /// A cut at any place where a match ended gives the pieces behind it: the search can begin there.
  bool can_resume() const {
    return behavior_ == SplitBehavior::kIsolated || behavior_ == SplitBehavior::kRemoved;
  }
  /// For `can_resume`: the pieces from `begin` on. Asks `go_on` before the first and behind each
  /// match whether to continue from that place; returns where it ended.
  std::size_t split_from(const AgedText& text, std::size_t begin, bool first, MatchScratch& scratch,
                         const std::function<bool(std::size_t)>& go_on,
                         const PieceSink& sink) const;

 private:
  Pattern pattern_;
  SplitBehavior behavior_;
  bool invert_;
};

}  // namespace longspan::data::hf
