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

const std::vector<SlotWords>& saved_slots() {
  static const std::vector<SlotWords> kSlotWords = {
      {Slot::kBlockInput, "block_input", "a block's input"},
      {Slot::kBlockMiddle, "block_middle",
       "what a block's MLP adds to, and what norms of the branches' results went over"},
      {Slot::kAttentionQkv, "attention_qkv",
       "queries, keys and values, and what norms of heads went over"},
      {Slot::kAttentionOutput, "attention_output", "what the attention gave"},
      {Slot::kMlpUp, "mlp_up", "the MLP's up-projection: gate and up"},
  };
  return kSlotWords;
}

std::vector<SavePolicyWords> save_policies(Slot slot) {
  using Codes = nn::SavePolicy::Codes;
  std::vector<SavePolicyWords> words = {
      {{Codes::kNone, false}, "full", "as it is, on the device"},
      {{Codes::kNone, true}, "host", "as it is, in host memory"},
      {{Codes::kBlocks, false},
       "int8",
       "in 8-bit codes of up to 128 neighbours with one range: not exact"},
      {{Codes::kBlocks, true}, "int8+host", "both"},
  };
  // A row of heads is another on each layout of ranks, and so would be its codes.
  if (slot == Slot::kAttentionQkv || slot == Slot::kAttentionOutput) return words;
  words.push_back({{Codes::kRows, false}, "int8_rows", "in 8-bit codes, a range for each token"});
  words.push_back({{Codes::kRows, true}, "int8_rows+host", "both"});
  return words;
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

/// A word for each layer: one for all, or "0-15: block, 16: block_keep_attention".
template <typename Value>
class LayerWords {
 public:
  struct Word {
    std::string name;
    Value value;
  };

  /// Layers that the text does not name get the first of the words.
  LayerWords(std::vector<Word> words, std::string key, std::int64_t layers)
      : words_(std::move(words)),
        key_(std::move(key)),
        values_(static_cast<std::size_t>(layers), words_.front().value) {}

  std::vector<Value> read(const std::string& text) {
    text_ = text;
    if (const Word* word = find(text)) {
      std::fill(values_.begin(), values_.end(), word->value);
      return values_;
    }
    std::size_t begin = 0;
    while (begin != std::string::npos) {
      const std::size_t comma = text.find(',', begin);
      read_range(std::string_view(text).substr(begin, comma - begin));
      begin = comma == std::string::npos ? comma : comma + 1;
    }
    return values_;
  }

 private:
  const Word* find(std::string_view name) const {
    const auto found = std::find_if(words_.begin(), words_.end(),
                                    [&](const Word& word) { return word.name == name; });
    return found == words_.end() ? nullptr : &*found;
  }

  [[noreturn]] void refuse(const std::string& why) const {
    std::string legal;
    for (const Word& word : words_) legal += fmt::format("\"{}\", ", word.name);
    throw InputError(fmt::format(
        "{} is \"{}\": {}; legal: {}or ranges of layers in rising order such as \"0-3: {}, 4-7: "
        "{}\"",
        key_, text_, why, legal, words_[1].name, words_[words_.size() > 2 ? 2 : 0].name));
  }

  void read_range(std::string_view part) {
    const std::size_t colon = part.find(':');
    if (colon == std::string_view::npos) {
      refuse(fmt::format("\"{}\" is none of these words and names no layers", trimmed(part)));
    }
    const std::string_view name = trimmed(part.substr(colon + 1));
    const Word* word = find(name);
    if (word == nullptr) refuse(fmt::format("\"{}\" is none of these words", name));
    const std::string_view range = trimmed(part.substr(0, colon));
    const std::size_t dash = range.find('-');
    const auto first = whole_number(trimmed(range.substr(0, dash)));
    const auto last =
        dash == std::string_view::npos ? first : whole_number(trimmed(range.substr(dash + 1)));
    if (!first || !last) refuse(fmt::format("\"{}\" is no range of layers", range));
    const auto layers = static_cast<std::int64_t>(values_.size());
    if (*first < next_ || *last < *first || *last >= layers) {
      refuse(fmt::format("layers {} do not rise within 0-{}", range, layers - 1));
    }
    std::fill(values_.begin() + *first, values_.begin() + *last + 1, word->value);
    next_ = *last + 1;
  }

  std::vector<Word> words_;
  std::string key_;
  std::string text_;
  std::vector<Value> values_;
  std::int64_t next_ = 0;
};

std::vector<Checkpointing> parse_levels(const std::string& text, const std::string& key,
                                        std::int64_t layers) {
  std::vector<LayerWords<Checkpointing>::Word> words;
  for (const CheckpointingWords& level : checkpointing_levels()) {
    words.push_back({level.name, level.level});
  }
  return LayerWords<Checkpointing>(std::move(words), key, layers).read(text);
}

std::vector<nn::SavePolicy> parse_slot(const SlotWords& slot, const std::string& text,
                                       const std::string& key, std::int64_t layers) {
  std::vector<LayerWords<nn::SavePolicy>::Word> words;
  for (const SavePolicyWords& policy : save_policies(slot.slot)) {
    words.push_back({policy.name, policy.policy});
  }
  return LayerWords<nn::SavePolicy>(std::move(words), key, layers).read(text);
}

}  // namespace

MemoryPolicy MemoryPolicy::parse(const std::string& checkpointing, const std::string& mlp,
                                 const std::string& lm_head, std::int64_t layers,
                                 const std::string& where) {
  MemoryPolicy policy;
  policy.layers_ = parse_levels(checkpointing, where + ".activation_checkpointing", layers);
  policy.mlp_is_whole_ = mlp == "none";
  if (!policy.mlp_is_whole_) policy.mlp_ = parse_ranges(mlp, where + ".mini_sequence.mlp");
  policy.lm_head_ = parse_ranges(lm_head, where + ".mini_sequence.lm_head");
  return policy;
}

void MemoryPolicy::set_slots(const SlotTexts& texts, const std::string& where, bool may_be_absent,
                             nn::SavePolicy::Rounding rounding) {
  slots_.assign(layers_.size(), {});
  bool has_codes = false;
  for (const SlotWords& slot : saved_slots()) {
    const std::string key = fmt::format("{}.{}", where, slot.name);
    const auto layers = static_cast<std::int64_t>(layers_.size());
    const std::vector<nn::SavePolicy> policies = parse_slot(slot, texts[slot.slot], key, layers);
    for (std::int64_t layer = 0; layer < layers; ++layer) {
      nn::SavePolicy policy = policies[static_cast<std::size_t>(layer)];
      if (policy == nn::SavePolicy{}) continue;
      if (policy.codes != nn::SavePolicy::Codes::kNone) {
        has_codes = true;
        policy.rounding = rounding;
      }
      if (!keeps(slot.slot, layer)) {
        if (may_be_absent) continue;
        throw InputError(fmt::format(
            "{} is \"{}\", but layer {} does not keep {}: it is computed again ({}); leave that "
            "layer out, or change what it keeps",
            key, texts[slot.slot], layer, slot.holds,
            checkpointing(layer) == Checkpointing::kNone
                ? "memory.mini_sequence.mlp"
                : fmt::format("memory.activation_checkpointing \"{}\"",
                              words_of(checkpointing(layer)).name)));
      }
      slots_[static_cast<std::size_t>(layer)][slot.slot] = policy;
    }
  }
  if (has_codes || rounding == nn::SavePolicy::Rounding::kNearest) return;
  throw InputError(fmt::format(
      "{}.rounding is \"stochastic\", but nothing waits in 8-bit codes that could be rounded; give "
      "{}.block_input, say, the word \"int8\", or leave rounding out",
      where, where));
}

bool MemoryPolicy::rounds_at_random() const {
  return std::any_of(slots_.begin(), slots_.end(), [](const SlotPolicies& layer) {
    return std::any_of(layer.values.begin(), layer.values.end(), [](const nn::SavePolicy& policy) {
      return policy.rounding == nn::SavePolicy::Rounding::kStochastic;
    });
  });
}

bool MemoryPolicy::keeps(Slot slot, std::int64_t layer) const {
  const bool keeps_all = checkpointing(layer) == Checkpointing::kNone;
  switch (slot) {
    case Slot::kBlockInput:
      return true;
    case Slot::kAttentionOutput:
      return checkpointing(layer) != Checkpointing::kBlock;
    case Slot::kMlpUp:
      return keeps_all && !mlp(layer);
    case Slot::kBlockMiddle:
    case Slot::kAttentionQkv:
      break;
  }
  return keeps_all;
}

const SlotPolicies& MemoryPolicy::slots(std::int64_t layer) const {
  static const SlotPolicies kFull{};
  return slots_.empty() ? kFull : slots_.at(static_cast<std::size_t>(layer));
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
