#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "data/hf/json_node.h"

namespace longspan::data::hf {

/// What is done to a text before it is cut into pieces. Thread-safe after construction.
class NormalizerStep {
 public:
  virtual ~NormalizerStep() = default;
  NormalizerStep() = default;
  NormalizerStep(const NormalizerStep&) = delete;
  NormalizerStep& operator=(const NormalizerStep&) = delete;
  /// `begins`: the text does not just go on behind bytes that are not valid UTF-8.
  virtual std::string apply(std::string_view text, bool begins) const = 0;
};

/// The "normalizer" of a tokenizer.json: NFC, NFD, NFKC, NFKD, Replace, Prepend, and Sequence of
/// them.
class Normalizer {
 public:
  Normalizer() = default;
  /// Adds a step or a Sequence. Throws InputError naming a step that is not supported.
  void add(const JsonNode& node);

  bool changes_nothing() const { return steps_.empty(); }
  /// `text` must be valid UTF-8 and not be empty. `begins`: it begins the whole text, or stands
  /// behind an added token; what only goes on behind bytes that are not valid UTF-8 gets no prefix.
  std::string apply(std::string_view text, bool begins) const;

 private:
  std::vector<std::unique_ptr<NormalizerStep>> steps_;
};

}  // namespace longspan::data::hf
