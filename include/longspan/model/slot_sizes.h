#pragma once

#include "longspan/model/memory_policy.h"
#include "longspan/model/model_config.h"

namespace longspan::model {

/// What a rank holds of a pass: its tokens; and in attention, where Ulysses ranks exchange tokens
/// for heads, all tokens that they have between them, but of fewer heads.
struct HeldTokens {
  backend::Index tokens = 0;
  bool is_exchanged = false;
  backend::Index attention_tokens = 0;  ///< those of `tokens` where nothing is exchanged
  backend::Index heads = 0;
  backend::Index kv_heads = 0;
};

/// Elements that one block of a resolved config keeps in each slot, where it keeps the slot at all.
BySlot<backend::Index> slot_elements(const ModelConfig& config, const HeldTokens& held);

}  // namespace longspan::model
