#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "longspan/nn/mini_sequence.h"
#include "longspan/nn/saved_input.h"

namespace longspan::model {

/// What a block keeps for its backward (Chen et al. 2016, "Training Deep Nets with Sublinear Memory
/// Cost"). The outputs of norms and of the MLP's activation are never kept.
enum class Checkpointing : std::uint8_t {
  kNone,                ///< everything else: nothing is computed twice
  kBlock,               ///< its input: the backward computes the block anew
  kBlockKeepAttention,  ///< its input, the attention's output and log-sum-exp: all but the
                        ///< attention
};

/// A level as a user meets it.
struct CheckpointingWords {
  Checkpointing level;
  const char* name;   ///< in the job file
  const char* keeps;  ///< what a block keeps
  const char* again;  ///< what of a block is computed again, besides what always is; empty: nothing
};
/// All levels, the one that keeps most first.
const std::vector<CheckpointingWords>& checkpointing_levels();
const CheckpointingWords& words_of(Checkpointing level);

/// What a block may keep that is large (its statistics are not).
enum class Slot : std::uint8_t {
  kBlockInput,
  kBlockMiddle,
  kAttentionQkv,
  kAttentionOutput,
  kMlpUp,
};
inline constexpr std::size_t kSlots = 5;

/// Something of each slot.
template <typename T>
struct BySlot {
  std::array<T, kSlots> values{};  ///< in the order of Slot

  static BySlot all(const T& value) {
    BySlot same;
    same.values.fill(value);
    return same;
  }
  T& operator[](Slot slot) { return values[static_cast<std::size_t>(slot)]; }
  const T& operator[](Slot slot) const { return values[static_cast<std::size_t>(slot)]; }
  bool operator==(const BySlot&) const = default;
};
using SlotPolicies = BySlot<nn::SaveParts>;
using SlotTexts = BySlot<std::string>;

/// A slot as a user meets it.
struct SlotWords {
  Slot slot;
  const char* name;  ///< in the job file
  const char* holds;
  const char* why_kept;  ///< why no row of it is made again by itself; null: it can be
};
/// All slots, in the order of Slot.
const std::vector<SlotWords>& saved_slots();

/// A way to keep a slot as a user meets it.
struct SavePolicyWords {
  nn::SavePolicy policy;
  const char* name;
  const char* meaning;
};
/// Those that are legal for a slot.
std::vector<SavePolicyWords> save_policies(Slot slot);

/// How a slot waits in a user's words: a policy's name, or parts of the tokens, in their order,
/// each with its fraction, of which the last has the rest: "0.6 host | recompute".
std::string text_of(const nn::SaveParts& parts);

/// How a model keeps what its backward needs, and in what portions it works.
class MemoryPolicy {
 public:
  /// From the job file's words. `checkpointing`: "none", "block", "block_keep_attention", or
  /// ranges of layers such as "0-15: block, 16-31: block_keep_attention" (others: none).
  /// `mlp` and `lm_head`: "auto", a size with a unit ("64MiB"), a whole number (of ranges), and for
  /// the MLP "none". Throws InputError that says which under `where` ("memory") is wrong.
  static MemoryPolicy parse(const std::string& checkpointing, const std::string& mlp,
                            const std::string& lm_head, std::int64_t layers,
                            const std::string& where);

  /// Nothing is computed twice, mini-sequences are "auto", and slots wait as they are.
  MemoryPolicy() = default;

  /// How slots wait: for each the name of a policy, or parts of the tokens such as
  /// "0.6 host | full" (see text_of), or ranges of layers with one of these each such as
  /// "0-15: int8, 16-31: host" (others: full). `rounding`: of all codes. Throws InputError that
  /// says which under `where` ("memory.saved_inputs") is wrong; one of a slot that a layer does not
  /// keep is wrong, too, unless `may_be_absent`, and so is stochastic rounding of no codes.
  void set_slots(const SlotTexts& texts, const std::string& where, bool may_be_absent,
                 nn::SavePolicy::Rounding rounding = nn::SavePolicy::Rounding::kNearest);

  Checkpointing checkpointing(std::int64_t layer) const;
  /// Absent: the MLP of this layer runs whole and keeps its intermediates.
  std::optional<nn::MiniSequence> mlp(std::int64_t layer) const;
  nn::MiniSequence lm_head() const;
  const SlotPolicies& slots(std::int64_t layer) const;
  /// Whether a layer keeps the slot at all.
  bool keeps(Slot slot, std::int64_t layer) const;
  /// Whether some layer rounds codes at random: a pass that trains then needs draws.
  bool rounds_at_random() const;

 private:
  std::vector<Checkpointing> layers_;  // empty: none
  std::vector<SlotPolicies> slots_;    // empty: full
  bool mlp_is_whole_ = false;
  std::optional<nn::MiniSequence> mlp_;      // absent: auto
  std::optional<nn::MiniSequence> lm_head_;  // absent: auto
};

}  // namespace longspan::model
