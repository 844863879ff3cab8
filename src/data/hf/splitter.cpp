#include "data/hf/splitter.h"

#include <fmt/format.h>

namespace longspan::data::hf {

Pattern::Pattern(const JsonNode& node) {
  node.allow_only({"String", "Regex"});
  const auto text = node.find("String");
  const auto regex = node.find("Regex");
  if (text.has_value() == regex.has_value()) node.refuse("expected either \"String\" or \"Regex\"");
  if (regex) {
    regex_ = std::make_unique<Regex>(regex->string(), *regex);
  } else {
    fixed_ = text->string();
    if (fixed_.empty()) text->refuse("must not be empty");
  }
}

Pattern Pattern::fixed(std::string text) {
  Pattern pattern;
  pattern.fixed_ = std::move(text);
  return pattern;
}

Pattern Pattern::regex(const std::string& text) {
  Pattern pattern;
  pattern.regex_ = std::make_unique<Regex>(text);
  return pattern;
}

bool Pattern::find(std::string_view text, std::size_t from, MatchScratch& scratch,
                   Match& match) const {
  if (regex_) return regex_->find(text, from, scratch, match);
  const std::size_t at = text.find(fixed_, from);
  if (at == text.npos) return false;
  match = {at, at + fixed_.size()};
  return true;
}

SplitBehavior read_behavior(const JsonNode& node) {
  const std::string& name = node.string();
  if (name == "Removed") return SplitBehavior::kRemoved;
  if (name == "Isolated") return SplitBehavior::kIsolated;
  if (name == "MergedWithPrevious") return SplitBehavior::kMergedWithPrevious;
  if (name == "MergedWithNext") return SplitBehavior::kMergedWithNext;
  if (name == "Contiguous") return SplitBehavior::kContiguous;
  node.refuse(fmt::format(
      "{} is not supported; known are Removed, Isolated, MergedWithPrevious, MergedWithNext, "
      "Contiguous",
      shown(name)));
}

namespace {

/// Joins matches to their neighbours: gets matches and what lies between them, in order.
class Joiner {
 public:
  Joiner(std::string_view text, bool first, SplitBehavior behavior, const PieceSink& sink)
      : text_(text), first_(first), behavior_(behavior), sink_(sink) {}

  void add(Match part, bool is_match) {
    if (has_waiting_ && joins(is_match)) {
      waiting_.end = part.end;
    } else {
      flush();
      waiting_ = part;
      has_waiting_ = true;
    }
    last_is_match_ = is_match;
  }
  void flush() {
    if (!has_waiting_) return;
    sink_(text_.substr(waiting_.begin, waiting_.end - waiting_.begin),
          first_ && waiting_.begin == 0);
    has_waiting_ = false;
  }

 private:
  bool joins(bool is_match) const {
    if (behavior_ == SplitBehavior::kContiguous) return is_match == last_is_match_;
    if (behavior_ == SplitBehavior::kMergedWithPrevious) return is_match && !last_is_match_;
    return !is_match && last_is_match_;  // kMergedWithNext
  }

  std::string_view text_;
  bool first_;
  SplitBehavior behavior_;
  const PieceSink& sink_;
  Match waiting_;
  bool has_waiting_ = false;
  bool last_is_match_ = false;
};

}  // namespace

void Splitter::split(std::string_view text, bool first, MatchScratch& scratch,
                     const PieceSink& sink) const {
  const AgedText aged(text);
  if (can_resume()) {
    split_from(
        aged, 0, first, scratch, [](std::size_t) { return true; }, sink);
    return;
  }
  Joiner joiner(text, first, behavior_, sink);
  std::size_t at = 0;
  for (Match match; at < text.size() && pattern_.find(aged.shown(), at, scratch, match);
       at = match.end) {
    if (at < match.begin) joiner.add({at, match.begin}, invert_);
    joiner.add(match, !invert_);
  }
  if (at < text.size()) joiner.add({at, text.size()}, invert_);
  joiner.flush();
}

std::size_t Splitter::split_from(const AgedText& text, std::size_t begin, bool first,
                                 MatchScratch& scratch,
                                 const std::function<bool(std::size_t)>& go_on,
                                 const PieceSink& sink) const {
  const std::string_view original = text.original();
  const auto emit = [&](std::size_t from, std::size_t to, bool is_match) {
    if (from == to || (is_match && behavior_ == SplitBehavior::kRemoved)) return;
    sink(original.substr(from, to - from), first && from == 0);
  };
  std::size_t at = begin;
  while (at < original.size() && go_on(at)) {
    Match match{original.size(), original.size()};
    pattern_.find(text.shown(), at, scratch, match);
    emit(at, match.begin, invert_);
    emit(match.begin, match.end, !invert_);
    at = match.end;
  }
  return at;
}

}  // namespace longspan::data::hf
