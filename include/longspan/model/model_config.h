#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace longspan::model {

/// How rotary positions are stretched beyond the length that a model was first trained for, with
/// the names of config.json's rope_scaling. 0: not given.
struct RopeScaling {
  std::string rope_type = "default";  ///< or "linear", "llama3", "yarn": see model/rope.h
  double factor = 0.0;
  std::int64_t original_max_position_embeddings = 0;  ///< llama3, yarn
  double low_freq_factor = 0.0;                       ///< llama3
  double high_freq_factor = 0.0;                      ///< llama3
  double beta_fast = 0.0;                             ///< yarn; then 32
  double beta_slow = 0.0;                             ///< yarn; then 1
  double attention_factor = 0.0;                      ///< yarn; then 0.1 ln(factor) + 1

  bool operator==(const RopeScaling&) const = default;
};

/// The kinds of layers of `layer_types`.
inline constexpr const char* kFullAttention = "full_attention";
inline constexpr const char* kSlidingAttention = "sliding_attention";

/// A model: its family, and sizes under the names that Hugging Face uses for most families. Where
/// 0 is no legal value it stands for one that was not given: then the family's default holds.
/// A family may be without some of them, which must not be given then (`resolve`).
struct ModelConfig {
  std::string model_type = "llama";
  std::int64_t vocab_size = 0;
  std::int64_t hidden_size = 0;
  std::int64_t intermediate_size = 0;
  std::int64_t num_hidden_layers = 0;
  std::int64_t num_attention_heads = 0;
  std::int64_t num_key_value_heads = 0;  ///< 0: as many as attention heads
  std::int64_t head_dim = 0;             ///< 0: hidden_size / num_attention_heads
  std::int64_t max_position_embeddings = 0;
  double rms_norm_eps = 0.0;
  double layer_norm_epsilon = 0.0;
  double rope_theta = 0.0;
  double rope_local_base_freq = 0.0;  ///< rope_theta of layers with a window
  RopeScaling rope_scaling;           ///< of layers without one, where those have their own theta
  std::optional<std::int64_t> sliding_window;     ///< keys a query sees at most; 0: all
  std::vector<std::string> layer_types;           ///< of each layer; empty: as the family has them
  double query_pre_attn_scalar = 0.0;             ///< scores are divided by its root
  std::optional<double> attn_logit_softcapping;   ///< 0: none
  std::optional<double> final_logit_softcapping;  ///< 0: none
  std::optional<bool> tie_word_embeddings;
  double initializer_range = 0.02;

  /// Fills in what was not given and checks what belongs together (a family that has the keys,
  /// heads that divide, positive sizes). Throws InputError naming the key under `where` ("model"
  /// gives "model.num_attention_heads").
  void resolve(const std::string& where);

  // The rest wants a config that is resolved.

  /// Parameters in all; a tied head counts once.
  std::int64_t parameters() const;
  /// Model FLOPs of forward and backward: 6 per matmul weight and token (look-ups of embedding and
  /// positions and adding a bias are no matmuls; the head is one, tied or not), and 12 * heads *
  /// head_dim a layer for each pair of a query and a key it sees (forward: q.k and p.v at 2 FLOPs
  /// each; backward: twice that): causal attention counted once, windows as they are, recomputation
  /// not at all. Of the documents that `cu_seqlens` marks.
  double training_flops(const std::vector<std::int32_t>& cu_seqlens) const;
  /// Weights of all matrix products, the head's included.
  double matmul_weights() const;
  /// Whether a sequence beyond max_position_embeddings is not just untrained but impossible: the
  /// model has a table with a row for each position.
  bool has_learned_positions() const;
  /// kFullAttention or kSlidingAttention of each layer.
  std::vector<std::string> types_of_layers() const;

  /// The text of config.json with which `transformers` builds the family's model for causal
  /// language modelling. `dtype`: "float32" or "bfloat16". A negative id means that there is no
  /// such token.
  std::string to_config_json(const std::string& dtype, std::int64_t bos_id,
                             std::int64_t eos_id) const;
  /// Reads a config.json text written by us or by transformers, and resolves it; what we cannot do
  /// or do not know (other families, rope scaling, other activations) throws InputError naming key
  /// and file.
  static ModelConfig from_config_json(const std::string& text, const std::string& file);
};

/// The families: what model_type may be, with a line about each.
std::vector<std::pair<std::string, std::string>> model_types();
/// The families' defaults of a key that not all of them have, or not with the same default:
/// "1e-05 (llama)". `key` is a member of ModelConfig.
std::string family_defaults(const std::string& key);

}  // namespace longspan::model
