#pragma once

#include <cstdint>

namespace longspan::model {

/// A spatial-temporal transformer of clips (after STDiT3 of Open-Sora, Zheng et al. 2024; a compact
/// one): pairs of blocks, of which the first attends within frames and the second, rotated by its
/// frame's number, along time at a place.
struct ClipConfig {
  std::int64_t channels = 3;
  std::int64_t patch_size = 2;  ///< points of a patch's side: a token is a patch of a frame
  std::int64_t hidden_size = 256;
  std::int64_t num_hidden_layers = 4;  ///< pairs of blocks
  std::int64_t num_attention_heads = 4;
  std::int64_t intermediate_size = 1024;
  bool is_causal = false;         ///< along time: a frame sees those before it alone
  std::int64_t num_classes = 0;   ///< that clips are conditioned on; 0: on none
  std::int64_t class_tokens = 4;  ///< that stand for a class in cross-attention
  double rope_theta = 10000.0;
  double norm_epsilon = 1e-6;
  double initializer_range = 0.02;

  bool operator==(const ClipConfig&) const = default;

  std::int64_t head_dim() const { return hidden_size / num_attention_heads; }
  /// Numbers of a token's patch: [patch_size, patch_size, channels].
  std::int64_t patch_numbers() const { return patch_size * patch_size * channels; }
  /// Of forward and backward of a clip of so many tokens: 6 a weight of a product and row, 4 where
  /// the input has no gradient; 12 a pair of tokens that attention sees and feature. Causal pairs
  /// count once, and nothing for what is computed again.
  double training_flops(std::int64_t frames, std::int64_t places) const;
  /// Throws InputError naming keys under "model".
  void check() const;
};

}  // namespace longspan::model
