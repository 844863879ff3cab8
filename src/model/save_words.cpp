#include "model/save_words.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <vector>

#include "model/layer_words.h"

namespace longspan::model {
namespace {

using nn::kRecompute;
using nn::SaveParts;
using nn::SavePolicy;

/// "0.25" of 250000 millionths.
std::string fraction_text(std::int64_t millionths) {
  std::string text =
      fmt::format("{}.{:06}", millionths / SaveParts::kWhole, millionths % SaveParts::kWhole);
  text.erase(text.find_last_not_of('0') + 1);
  if (text.back() == '.') text.pop_back();
  return text;
}

std::string name_of(SavePolicy policy) {
  policy.rounding = SavePolicy::Rounding::kNearest;
  for (const SlotWords& slot : saved_slots()) {
    for (const SavePolicyWords& words : save_policies(slot.slot)) {
      if (words.policy == policy) return words.name;
    }
  }
  return "";
}

/// Takes a number off the beginning of a part, if there is one: in millionths, or -1 where it is no
/// fraction that can be told exactly.
std::optional<std::int64_t> take_fraction(std::string_view& part) {
  if (part.empty() || std::string_view("0123456789.-+").find(part.front()) == part.npos) {
    return std::nullopt;
  }
  const std::string_view number = part.substr(0, part.find(' '));
  part = trimmed(part.substr(number.size()));
  double fraction = 0;
  const auto [end, error] = std::from_chars(number.data(), number.data() + number.size(), fraction);
  if (error != std::errc() || end != number.data() + number.size()) return -1;
  if (!(fraction >= 0 && fraction <= 1)) return -1;
  const double millionths = std::round(fraction * SaveParts::kWhole);
  if (std::abs(fraction * SaveParts::kWhole - millionths) > 1e-6) return -1;
  return static_cast<std::int64_t>(millionths);
}

/// Reads the parts of one text, one after another.
class PartsReader {
 public:
  PartsReader(const SlotWords& slot, std::string& why_not) : slot_(&slot), why_not_(&why_not) {}

  std::optional<SaveParts> read(std::string_view text) {
    std::vector<SaveParts::Part> parts;
    for (std::size_t begin = 0; begin != std::string_view::npos;) {
      const std::size_t bar = text.find('|', begin);
      const bool is_last = bar == std::string_view::npos;
      if (!read_part(trimmed(text.substr(begin, bar - begin)), is_last)) return std::nullopt;
      parts.push_back(part_);
      begin = is_last ? bar : bar + 1;
    }
    return SaveParts(parts);
  }

 private:
  bool refuse(const std::string& why) {
    *why_not_ = why;
    return false;
  }

  bool read_part(std::string_view text, bool is_last) {
    const std::string whole(text);
    const std::optional<std::int64_t> fraction = take_fraction(text);
    if (fraction == -1) {
      return refuse(
          fmt::format("\"{}\" begins with no fraction from 0 to 1 of at most six decimals", whole));
    }
    if (!find_policy(text)) return false;
    if (!fraction && !is_last) {
      return refuse(fmt::format("\"{}\" has no fraction; all parts but the last have one", whole));
    }
    part_.end = fraction ? end_ + *fraction : SaveParts::kWhole;
    if (part_.end > SaveParts::kWhole || (is_last && part_.end < SaveParts::kWhole)) {
      return refuse(fmt::format("the fractions add up to {}{}", fraction_text(part_.end),
                                is_last ? ", not to 1" : ", more than 1"));
    }
    end_ = part_.end;
    return true;
  }

  bool find_policy(std::string_view word) {
    const std::vector<SavePolicyWords> words = save_policies(slot_->slot);
    const auto found = std::find_if(words.begin(), words.end(),
                                    [&](const SavePolicyWords& one) { return one.name == word; });
    if (found == words.end()) {
      return refuse(word == "recompute" && slot_->why_kept != nullptr
                        ? fmt::format("it has no \"recompute\": {}", slot_->why_kept)
                        : none_of_these(word));
    }
    part_.policy = found->policy;
    return true;
  }

  const SlotWords* slot_;
  std::string* why_not_;
  SaveParts::Part part_;
  std::int64_t end_ = 0;
};

}  // namespace

const std::vector<SlotWords>& saved_slots() {
  static const std::vector<SlotWords> kSlotWords = {
      {Slot::kBlockInput, "block_input", "a block's input",
       "all else of the block is made again of it"},
      {Slot::kBlockMiddle, "block_middle",
       "what a block's MLP adds to, and what norms of the branches' results went over",
       "it is what the attention gave, projected, which the backward has only later; "
       "memory.activation_checkpointing \"block_keep_attention\" makes it again"},
      {Slot::kAttentionQkv, "attention_qkv",
       "queries, keys and values, and what norms of heads went over", nullptr},
      {Slot::kAttentionOutput, "attention_output", "what the attention gave",
       "each token's takes the keys and values of all before it; memory.activation_checkpointing "
       "\"block\" makes it again"},
      {Slot::kMlpUp, "mlp_up", "the MLP's up-projection: gate and up", nullptr},
  };
  return kSlotWords;
}

std::vector<SavePolicyWords> save_policies(Slot slot) {
  using Codes = SavePolicy::Codes;
  std::vector<SavePolicyWords> words = {
      {{Codes::kNone, false}, "full", "as it is, on the device"},
      {{Codes::kNone, true}, "host", "as it is, in host memory"},
      {{Codes::kBlocks, false},
       "int8",
       "in 8-bit codes of up to 128 neighbours with one range: not exact"},
      {{Codes::kBlocks, true}, "int8+host", "both"},
  };
  // A row of heads is another on each layout of ranks, and so would be its codes.
  if (slot != Slot::kAttentionQkv && slot != Slot::kAttentionOutput) {
    words.push_back({{Codes::kRows, false}, "int8_rows", "in 8-bit codes, a range for each token"});
    words.push_back({{Codes::kRows, true}, "int8_rows+host", "both"});
  }
  if (slot == Slot::kAttentionQkv) {
    words.push_back({kRecompute, "recompute",
                     "not at all: the backward makes it again of the block's input; not where "
                     "Ulysses ranks exchange heads"});
  } else if (slot == Slot::kMlpUp) {
    words.push_back(
        {kRecompute, "recompute", "not at all: the backward makes it again of block_middle"});
  }
  return words;
}

std::string text_of(const SaveParts& parts) {
  std::string text;
  std::int64_t begin = 0;
  for (const SaveParts::Part& part : parts.parts()) {
    const bool is_last = part.end == SaveParts::kWhole;
    if (!is_last) text += fraction_text(part.end - begin) + " ";
    text += name_of(part.policy);
    if (!is_last) text += " | ";
    begin = part.end;
  }
  return text;
}

std::optional<SaveParts> read_parts(std::string_view text, const SlotWords& slot,
                                    std::string& why_not) {
  return PartsReader(slot, why_not).read(text);
}

}  // namespace longspan::model
