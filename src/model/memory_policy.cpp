#include "longspan/model/memory_policy.h"

#include <fmt/format.h>

#include <algorithm>
#include <string_view>
#include <utility>

#include "longspan/base/error.h"
#include "longspan/base/size_text.h"
#include "model/layer_words.h"
#include "model/save_words.h"

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

std::vector<Checkpointing> parse_levels(const std::string& text, const std::string& key,
                                        std::int64_t layers) {
  std::vector<std::string> names;
  for (const CheckpointingWords& level : checkpointing_levels()) names.emplace_back(level.name);
  const auto read = [](std::string_view word, std::string& why_not) {
    const auto& levels = checkpointing_levels();
    const auto found = std::find_if(levels.begin(), levels.end(),
                                    [&](const auto& level) { return level.name == word; });
    if (found != levels.end()) return std::optional(found->level);
    why_not = none_of_these(word);
    return std::optional<Checkpointing>();
  };
  return LayerWords<Checkpointing>(read, std::move(names), "", key, layers).read(text);
}

std::vector<nn::SaveParts> parse_slot(const SlotWords& slot, const std::string& text,
                                      const std::string& key, std::int64_t layers) {
  std::vector<std::string> names;
  for (const SavePolicyWords& policy : save_policies(slot.slot)) names.emplace_back(policy.name);
  const auto read = [&slot](std::string_view word, std::string& why_not) {
    return read_parts(word, slot, why_not);
  };
  const char* parts = "parts of the tokens such as \"0.6 host | full\", ";
  return LayerWords<nn::SaveParts>(read, std::move(names), parts, key, layers).read(text);
}

/// The same with all codes rounded so.
nn::SaveParts rounded(const nn::SaveParts& parts, nn::SavePolicy::Rounding rounding) {
  std::vector<nn::SaveParts::Part> all = parts.parts();
  for (nn::SaveParts::Part& part : all) {
    if (part.policy.codes != nn::SavePolicy::Codes::kNone) part.policy.rounding = rounding;
  }
  return nn::SaveParts(all);
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
    const std::vector<nn::SaveParts> policies = parse_slot(slot, texts[slot.slot], key, layers);
    for (std::int64_t layer = 0; layer < layers; ++layer) {
      const nn::SaveParts& parts = policies[static_cast<std::size_t>(layer)];
      if (parts.is_full()) continue;
      has_codes = has_codes || parts.has_codes();
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
      slots_[static_cast<std::size_t>(layer)][slot.slot] = rounded(parts, rounding);
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
    return std::any_of(layer.values.begin(), layer.values.end(),
                       [](const nn::SaveParts& parts) { return parts.rounds_at_random(); });
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
