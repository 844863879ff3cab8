#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "data/hf/json_node.h"

namespace longspan::data::hf {

/// The "decoder" of a tokenizer.json: ByteLevel, Metaspace, Replace, ByteFallback, Fuse, Strip, and
/// Sequence of them. Gives bytes, where the reference gives characters: what is not valid UTF-8
/// stays as it is. Thread-safe after construction.
class Decoder {
 public:
  /// None: every token is its own text.
  Decoder() = default;
  /// Throws InputError naming a step that is not supported.
  explicit Decoder(const JsonNode& node) { add(node); }

  std::string bytes_of(std::string_view token) const;
  /// Spaces that were put before the text, and are taken off it again.
  int prefix_spaces() const { return prefix_spaces_; }

 private:
  void add(const JsonNode& node);
  void add_metaspace(const JsonNode& node);
  void add_strip(const JsonNode& node);

  bool byte_level_ = false;
  bool byte_fallback_ = false;
  bool fused_ = false;
  int prefix_spaces_ = 0;
  std::vector<std::pair<std::string, std::string>> replaced_;
};

}  // namespace longspan::data::hf
