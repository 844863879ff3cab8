#include "longspan/model/memory_policy.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <string_view>

#include "longspan/base/error.h"
#include "longspan/base/size_text.h"

namespace longspan::model {

const std::vector<CheckpointingWords>& checkpointing_levels() {
  static const std::vector<CheckpointingWords> kLevels = {
      {Checkpointing::kNone, "none",
       "all that its backward needs but the outputs of norms and of the MLP's activation", ""},
      {Checkpointing::kBlock, "block", "its input; the backward computes the block again",
       "the block as far as its MLP, whose range by range"},
      {Checkpointing::kBlockKeepAttention, "block_keep_attention",
       "its input and what the attention gave; all but the attention again",
       "the block without its attention as far as its MLP, whose range by range"},
  };
  return kLevels;
}

const CheckpointingWords& words_of(Checkpointing level) {
  return *std::find_if(checkpointing_levels().begin(), checkpointing_levels().end(),
                       [&](const CheckpointingWords& words) { return words.level == level; });
}

namespace {

using base::InputError;
using nn::MiniSequence;

/// Large enough that a range's products run at full speed, small beside anything long.
constexpr std::size_t kAutoMlpBytes = std::size_t{64} << 20U;
constexpr std::size_t kAutoLmHeadBytes = std::size_t{256} << 20U;
/// A range reads and writes the whole gradient of the head's weight, which costs little only while
/// its products are large beside that.
constexpr backend::Index kAutoLmHeadTokens = 512;

std::string_view trimmed(std::string_view text) {
  while (!text.empty() && text.front() == ' ') text.remove_prefix(1);
  while (!text.empty() && text.back() == ' ') text.remove_suffix(1);
  return text;
}

std::optional<std::int64_t> whole_number(std::string_view text) {
  std::int64_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return number;
}

std::optional<MiniSequence> parse_ranges(const std::string& text, const std::string& key) {
  if (text == "auto") return std::nullopt;
  if (const auto count = whole_number(text)) {
    if (*count >= 1) return MiniSequence::count(*count);
  } else if (const auto bytes = base::parse_size(text); bytes && *bytes > 0) {
    return MiniSequence::budget(*bytes);
  }
  throw InputError(fmt::format(
      "{} is \"{}\"; legal: \"auto\", a size with a unit such as \"64MiB\", or a whole number of "
      "ranges, at least 1",
      key, text));
}

std::optional<Checkpointing> level_of(std::string_view word) {
  for (const CheckpointingWords& words : checkpointing_levels()) {
    if (word == words.name) return words.level;
  }
  return std::nullopt;
}

/// "0-15: block, 16: block_keep_attention".
class LayerRanges {
 public:
  LayerRanges(const std::string& text, std::string key, std::int64_t layers)
      : text_(text), key_(std::move(key)), levels_(static_cast<std::size_t>(layers)) {
    std::size_t begin = 0;
    while (begin != std::string::npos) {
      const std::size_t comma = text.find(',', begin);
      read(std::string_view(text).substr(begin, comma - begin));
      begin = comma == std::string::npos ? comma : comma + 1;
    }
  }

  const std::vector<Checkpointing>& levels() const { return levels_; }

 private:
  [[noreturn]] void refuse(const std::string& why) const {
    throw InputError(fmt::format(
        "{} is \"{}\": {}; legal: \"none\", \"block\", \"block_keep_attention\", or ranges of "
        "layers in rising order such as \"0-3: block, 4-7: block_keep_attention\"",
        key_, text_, why));
  }

  void read(std::string_view part) {
    const std::size_t colon = part.find(':');
    if (colon == std::string_view::npos) {
      refuse(fmt::format("\"{}\" is none of these words and names no layers", trimmed(part)));
    }
    const auto level = level_of(trimmed(part.substr(colon + 1)));
    if (!level) refuse(fmt::format("\"{}\" is no level", trimmed(part.substr(colon + 1))));
    const std::string_view range = trimmed(part.substr(0, colon));
    const std::size_t dash = range.find('-');
    const auto first = whole_number(trimmed(range.substr(0, dash)));
    const auto last =
        dash == std::string_view::npos ? first : whole_number(trimmed(range.substr(dash + 1)));
    if (!first || !last) refuse(fmt::format("\"{}\" is no range of layers", range));
    const auto layers = static_cast<std::int64_t>(levels_.size());
    if (*first < next_ || *last < *first || *last >= layers) {
      refuse(fmt::format("layers {} do not rise within 0-{}", range, layers - 1));
    }
    std::fill(levels_.begin() + *first, levels_.begin() + *last + 1, *level);
    next_ = *last + 1;
  }

  const std::string& text_;
  std::string key_;
  std::vector<Checkpointing> levels_;
  std::int64_t next_ = 0;
};

}  // namespace

MemoryPolicy MemoryPolicy::parse(const std::string& checkpointing, const std::string& mlp,
                                 const std::string& lm_head, std::int64_t layers,
                                 const std::string& where) {
  MemoryPolicy policy;
  if (const auto level = level_of(checkpointing)) {
    policy.layers_.assign(static_cast<std::size_t>(layers), *level);
  } else {
    policy.layers_ =
        LayerRanges(checkpointing, where + ".activation_checkpointing", layers).levels();
  }
  policy.mlp_is_whole_ = mlp == "none";
  if (!policy.mlp_is_whole_) policy.mlp_ = parse_ranges(mlp, where + ".mini_sequence.mlp");
  policy.lm_head_ = parse_ranges(lm_head, where + ".mini_sequence.lm_head");
  return policy;
}

Checkpointing MemoryPolicy::checkpointing(std::int64_t layer) const {
  return layers_.empty() ? Checkpointing::kNone : layers_.at(static_cast<std::size_t>(layer));
}

std::optional<MiniSequence> MemoryPolicy::mlp(std::int64_t layer) const {
  if (mlp_) return mlp_;
  // A block that is recomputed keeps nothing of its MLP: there ranges cost no further work.
  if (checkpointing(layer) == Checkpointing::kNone) return std::nullopt;
  return mlp_is_whole_ ? MiniSequence::count(1) : MiniSequence::budget(kAutoMlpBytes);
}

MiniSequence MemoryPolicy::lm_head() const {
  return lm_head_.value_or(MiniSequence::budget(kAutoLmHeadBytes, kAutoLmHeadTokens));
}

}  // namespace longspan::model
