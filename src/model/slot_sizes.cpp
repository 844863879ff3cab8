#include "longspan/model/slot_sizes.h"

#include "model/composition.h"

namespace longspan::model {

using backend::Index;

BySlot<Index> slot_elements(const ModelConfig& config, const HeldTokens& held) {
  const Composition composition = composition_of(config);
  const Index head_dim = config.head_dim;
  const Index own_heads = held.tokens * config.num_attention_heads * head_dim;
  const Index own_kv_heads = held.tokens * config.num_key_value_heads * head_dim;
  const bool is_gated = composition.activation != nn::Activation::kGeluTanh;
  const Index normed_branches = (composition.attention.output_norm.empty() ? 0 : 1) +
                                (composition.mlp.output_norm.empty() ? 0 : 1);
  BySlot<Index> elements;
  elements[Slot::kBlockInput] = held.tokens * config.hidden_size;
  elements[Slot::kBlockMiddle] = (1 + normed_branches) * held.tokens * config.hidden_size;
  elements[Slot::kAttentionQkv] =
      held.attention_tokens * (held.heads + 2 * held.kv_heads) * head_dim +
      (composition.attention.query_norm.empty() ? 0 : own_heads + own_kv_heads);
  elements[Slot::kAttentionOutput] =
      own_heads + (held.is_exchanged ? held.attention_tokens * held.heads * head_dim : 0);
  elements[Slot::kMlpUp] = held.tokens * (is_gated ? 2 : 1) * config.intermediate_size;
  return elements;
}

}  // namespace longspan::model
