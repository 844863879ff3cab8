#pragma once

#include <memory>
#include <string_view>
#include <vector>

#include "data/hf/json_node.h"
#include "data/hf/splitter.h"

namespace longspan::data::hf {

/// One step of a pre-tokenizer: cuts or changes pieces. Thread-safe after construction.
class PreTokenizerStep {
 public:
  virtual ~PreTokenizerStep() = default;
  PreTokenizerStep() = default;
  PreTokenizerStep(const PreTokenizerStep&) = delete;
  PreTokenizerStep& operator=(const PreTokenizerStep&) = delete;

  virtual void apply(std::string_view piece, bool first, MatchScratch& scratch,
                     const PieceSink& sink) const = 0;
  /// The step as a splitter that can begin at any match, if it is one.
  virtual const Splitter* resumable() const { return nullptr; }
};

/// The "pre_tokenizer" of a tokenizer.json: ByteLevel, Split, Digits, Punctuation, Whitespace,
/// WhitespaceSplit, Metaspace, and Sequence of them. A ByteLevel must be the last step: the model
/// then reads bytes, and no step ever sees their spelling.
class PreTokenizer {
 public:
  PreTokenizer() = default;
  /// Adds a step or a Sequence. Throws InputError naming a step that is not supported.
  void add(const JsonNode& node);

  bool is_byte_level() const { return byte_level_; }
  /// Cuts a text; `first`: it is the begin of the whole text.
  void split(std::string_view text, bool first, const PieceSink& sink) const;

  /// The first step, when the pieces behind the end of one of its matches do not depend on what
  /// lies before: then a text can be cut by several threads. Else null.
  const Splitter* resumable() const {
    return steps_.empty() ? nullptr : steps_.front()->resumable();
  }
  /// For `resumable`: the sink for its pieces, which applies the other steps. Both arguments must
  /// outlive it.
  PieceSink behind_first(MatchScratch& scratch, const PieceSink& sink) const {
    return chain(1, scratch, sink);
  }

 private:
  void add_byte_level(const JsonNode& node);
  void add_metaspace(const JsonNode& node);
  void add_splitter(Pattern pattern, SplitBehavior behavior, bool invert);
  PieceSink chain(std::size_t step, MatchScratch& scratch, const PieceSink& sink) const;

  std::vector<std::unique_ptr<PreTokenizerStep>> steps_;
  bool byte_level_ = false;
};

/// The pattern of GPT-2, which a ByteLevel with use_regex cuts with.
inline constexpr const char* kGpt2Pattern =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

}  // namespace longspan::data::hf
