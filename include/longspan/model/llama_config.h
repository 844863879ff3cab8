#pragma once

#include <cstdint>
#include <string>

namespace longspan::model {

/// The options of the Llama family, named as in Hugging Face's config.json.
struct LlamaConfig {
  std::int64_t vocab_size = 0;
  std::int64_t hidden_size = 0;
  std::int64_t intermediate_size = 0;
  std::int64_t num_hidden_layers = 0;
  std::int64_t num_attention_heads = 0;
  std::int64_t num_key_value_heads = 0;  ///< 0: as many as attention heads
  std::int64_t head_dim = 0;             ///< 0: hidden_size / num_attention_heads
  std::int64_t max_position_embeddings = 2048;
  double rms_norm_eps = 1e-5;
  double rope_theta = 10000.0;
  bool tie_word_embeddings = false;
  double initializer_range = 0.02;

  /// Fills the zeros that stand for a default and checks what belongs together (heads that divide,
  /// even head_dim, positive sizes). Throws InputError naming the key under `where`
  /// ("model" gives "model.num_attention_heads").
  void resolve(const std::string& where);

  /// Parameters in all; a tied head counts once.
  std::int64_t parameters() const;
  /// Model FLOPs of forward and backward: 6 per matmul weight and token (the embedding look-up is
  /// no matmul; the head is one, tied or not), and 12 * heads * head_dim a layer for each pair of a
  /// query and a key it sees (forward: q.k and p.v at 2 FLOPs each; backward: twice that).
  /// `attention_pairs` is the sum of n * (n + 1) / 2 over documents of n tokens: causal attention
  /// counted once, recomputation not at all.
  double training_flops(std::int64_t tokens, double attention_pairs) const;

  /// The text of config.json with which `transformers` builds LlamaForCausalLM. `dtype`:
  /// "float32" or "bfloat16". A negative id means that there is no such token. `*this` must be
  /// resolved.
  std::string to_config_json(const std::string& dtype, std::int64_t bos_id,
                             std::int64_t eos_id) const;
  /// Reads a config.json text written by us or by transformers, and resolves it; what we cannot do
  /// (other architectures, rope scaling, biases, other activations) throws InputError naming key
  /// and file.
  static LlamaConfig from_config_json(const std::string& text, const std::string& file);
};

}  // namespace longspan::model
