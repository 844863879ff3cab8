#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "longspan/nn/mini_sequence.h"

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

  /// Nothing is computed twice, and mini-sequences are "auto".
  MemoryPolicy() = default;

  Checkpointing checkpointing(std::int64_t layer) const;
  /// Absent: the MLP of this layer runs whole and keeps its intermediates.
  std::optional<nn::MiniSequence> mlp(std::int64_t layer) const;
  nn::MiniSequence lm_head() const;

 private:
  std::vector<Checkpointing> layers_;  // empty: none
  bool mlp_is_whole_ = false;
  std::optional<nn::MiniSequence> mlp_;      // absent: auto
  std::optional<nn::MiniSequence> lm_head_;  // absent: auto
};

}  // namespace longspan::model
