#include "data/hf/pre_tokenizer.h"

#include <fmt/format.h>

#include <string>

#include "data/utf8.h"

namespace longspan::data::hf {
namespace {

constexpr std::size_t kMostSteps = 64;

class SplitStep final : public PreTokenizerStep {
 public:
  explicit SplitStep(Splitter splitter) : splitter_(std::move(splitter)) {}
  void apply(std::string_view piece, bool first, MatchScratch& scratch,
             const PieceSink& sink) const override {
    splitter_.split(piece, first, scratch, sink);
  }
  const Splitter* resumable() const override {
    return splitter_.can_resume() ? &splitter_ : nullptr;
  }

 private:
  Splitter splitter_;
};

/// ByteLevel's add_prefix_space.
class PrefixSpace final : public PreTokenizerStep {
 public:
  void apply(std::string_view piece, bool first, MatchScratch&,
             const PieceSink& sink) const override {
    if (piece.starts_with(' ')) return sink(piece, first);
    sink(std::string(" ").append(piece), first);
  }
};

class Metaspace final : public PreTokenizerStep {
 public:
  enum class Prepend { kAlways, kFirst, kNever };
  Metaspace(std::string mark, Prepend prepend, bool split)
      : mark_(std::move(mark)), prepend_(prepend), split_(split) {}

  void apply(std::string_view piece, bool first, MatchScratch& scratch,
             const PieceSink& sink) const override {
    std::string text;
    for (const char byte : piece) {
      if (byte == ' ') {
        text += mark_;
      } else {
        text.push_back(byte);
      }
    }
    const bool prepends = prepend_ == Prepend::kAlways || (prepend_ == Prepend::kFirst && first);
    if (prepends && !text.starts_with(mark_)) text.insert(0, mark_);
    if (!split_) return sink(text, first);
    at_marks_.split(text, first, scratch, sink);
  }

 private:
  std::string mark_;
  Prepend prepend_;
  bool split_;
  Splitter at_marks_{Pattern::fixed(mark_), SplitBehavior::kMergedWithNext, false};
};

// Classes as Rust's standard library and its regex package have them, which the reference uses.
constexpr const char* kWord = R"([\p{Alphabetic}\p{M}\p{Nd}\p{Pc}\x{200c}\x{200d}])";
constexpr const char* kOther = R"([^\s\p{Alphabetic}\p{M}\p{Nd}\p{Pc}\x{200c}\x{200d}])";
constexpr const char* kPunctuation = R"([!-/:-@\[-`{-~\p{P}])";

}  // namespace

void PreTokenizer::add_splitter(Pattern pattern, SplitBehavior behavior, bool invert) {
  steps_.push_back(std::make_unique<SplitStep>(Splitter(std::move(pattern), behavior, invert)));
}

void PreTokenizer::add_byte_level(const JsonNode& node) {
  node.allow_only({"type", "add_prefix_space", "trim_offsets", "use_regex"});
  if (node.boolean("add_prefix_space", true)) steps_.push_back(std::make_unique<PrefixSpace>());
  if (node.boolean("use_regex", true)) {
    add_splitter(Pattern::regex(kGpt2Pattern), SplitBehavior::kIsolated, false);
  }
  byte_level_ = true;
}

void PreTokenizer::add_metaspace(const JsonNode& node) {
  node.allow_only(
      {"type", "replacement", "prepend_scheme", "split", "add_prefix_space", "str_rep"});
  const std::string scheme =
      node.string("prepend_scheme", node.boolean("add_prefix_space", true) ? "always" : "never");
  const std::string mark = node.string("replacement", "\xe2\x96\x81");
  if (mark.empty() || mark == " " || character_at(mark, 0).bytes != mark.size()) {
    node.at("replacement").refuse("must be one character, and not the space");
  }
  Metaspace::Prepend prepend = Metaspace::Prepend::kAlways;
  if (scheme == "first") {
    prepend = Metaspace::Prepend::kFirst;
  } else if (scheme == "never") {
    prepend = Metaspace::Prepend::kNever;
  } else if (scheme != "always") {
    node.refuse(fmt::format("prepend_scheme must be \"always\", \"first\" or \"never\", not {}",
                            shown(scheme)));
  }
  steps_.push_back(std::make_unique<Metaspace>(mark, prepend, node.boolean("split", true)));
}

void PreTokenizer::add(const JsonNode& node) {
  const std::string& type = node.type();
  if (steps_.size() >= kMostSteps) node.refuse(fmt::format("more than {} steps", kMostSteps));
  if (byte_level_) node.refuse("a step behind ByteLevel is not supported");
  if (type == "Sequence") {
    node.allow_only({"type", "pretokenizers"});
    for (const JsonNode& step : node.at("pretokenizers").elements()) add(step);
  } else if (type == "ByteLevel") {
    add_byte_level(node);
  } else if (type == "Split") {
    node.allow_only({"type", "pattern", "behavior", "invert"});
    add_splitter(Pattern(node.at("pattern")), read_behavior(node.at("behavior")),
                 node.boolean("invert", false));
  } else if (type == "Digits") {
    node.allow_only({"type", "individual_digits"});
    add_splitter(Pattern::regex(R"(\p{N})"),
                 node.boolean("individual_digits", false) ? SplitBehavior::kIsolated
                                                          : SplitBehavior::kContiguous,
                 false);
  } else if (type == "Punctuation") {
    node.allow_only({"type", "behavior"});
    const auto behavior = node.find("behavior");
    add_splitter(Pattern::regex(kPunctuation),
                 behavior ? read_behavior(*behavior) : SplitBehavior::kIsolated, false);
  } else if (type == "Whitespace") {
    node.allow_only({"type"});
    add_splitter(Pattern::regex(fmt::format("{}+|{}+", kWord, kOther)), SplitBehavior::kRemoved,
                 true);
  } else if (type == "WhitespaceSplit") {
    node.allow_only({"type"});
    add_splitter(Pattern::regex(R"(\s)"), SplitBehavior::kRemoved, false);
  } else if (type == "Metaspace") {
    add_metaspace(node);
  } else {
    node.refuse(fmt::format(
        "the pre-tokenizer {} is not supported; known are ByteLevel, Split, Digits, Punctuation, "
        "Whitespace, WhitespaceSplit, Metaspace, Sequence",
        shown(type)));
  }
}

PieceSink PreTokenizer::chain(std::size_t step, MatchScratch& scratch,
                              const PieceSink& sink) const {
  if (step >= steps_.size()) return [&sink](auto piece, bool first) { sink(piece, first); };
  return [this, step, &scratch, next = chain(step + 1, scratch, sink)](auto piece, bool first) {
    steps_[step]->apply(piece, first, scratch, next);
  };
}

void PreTokenizer::split(std::string_view text, bool first, const PieceSink& sink) const {
  MatchScratch scratch;
  chain(0, scratch, sink)(text, first);
}

}  // namespace longspan::data::hf
