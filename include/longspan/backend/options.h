#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "longspan/backend/tensor.h"
#include "longspan/base/random.h"

// What operations of a Backend are told beside their tensors.
namespace longspan::backend {

/// How a matmul reads its operands and writes its result.
struct MatmulOptions {
  bool transpose_a = false;
  bool transpose_b = false;
  bool accumulate = false;  ///< out += instead of out =

  bool operator==(const MatmulOptions&) const = default;
};

/// The documents of a packed stream: sequence i owns tokens [offsets[i], offsets[i+1]). Offsets
/// start at 0, do not decrease (an empty document is legal) and end at the number of tokens.
/// Lives on the host: kernels read it to make their schedule.
using CuSeqlens = std::vector<std::int32_t>;

/// Which keys a query sees. Query i of a document of n_q queries and n_k keys stands at position
/// n_k - n_q + i and, when causal, sees keys [0, position], or of these the last `window`.
struct AttentionOptions {
  float scale = 0.0F;  ///< multiplies q.k; usually 1/sqrt(head_dim)
  bool causal = true;
  /// Keys that a query sees at most, its own included (sliding window, as `sliding_window` of
  /// Hugging Face's Mistral); 0: all that causality leaves. Causal attention only.
  Index window = 0;
  /// Scores s become soft_cap * tanh(s / soft_cap) (Gemma 2; Bello et al. 2016); 0: they stay.
  float soft_cap = 0.0F;
};

/// Constants of an RMS norm.
struct RmsNormOptions {
  float epsilon = 0.0F;
  /// What is multiplied with is weight_offset + weight: 1 where a weight of 0 is to change nothing,
  /// as Gemma has it. The sum is formed in float32 (float64).
  float weight_offset = 0.0F;
};

/// What the gate of a gated MLP goes through (Shazeer 2020).
enum class GateActivation : std::uint8_t {
  kSilu,      ///< x sigmoid(x): SwiGLU
  kGeluTanh,  ///< gelu_forward's: GeGLU
};

/// Constants of a cross-entropy.
struct CrossEntropyOptions {
  double scale = 1.0;  ///< of the gradient
  /// Logits z become soft_cap * tanh(z / soft_cap) first (Gemma 2); 0: they stay.
  float soft_cap = 0.0F;
};

/// Constants of one AdamW update (Loshchilov & Hutter, "Decoupled weight decay regularization").
struct AdamWOptions {
  float learning_rate = 0.0F;
  float beta1 = 0.9F;
  float beta2 = 0.95F;
  float epsilon = 1e-8F;
  float weight_decay = 0.0F;
  float gradient_scale = 1.0F;  ///< multiplies the gradient first: the clipping factor
  std::int64_t update = 1;      ///< 1 for the first update: the bias corrections' exponent
  /// Where bfloat16 moments have the random numbers from by which they are rounded, and which of
  /// its elements is the range's first; none: moments are not rounded.
  std::optional<base::RandomStream> rounding = std::nullopt;
  std::uint64_t first_element = 0;
};

/// What 8-bit codes that are rounded at random draw from: of the element in row t and column i of
/// what is coded it is the stream's for token numbers[t] and column first_column + i of a row of
/// `columns`. Who codes only some columns of a row draws for them what one would who coded all.
struct CodeRounding {
  Tensor numbers;  ///< int32 [tokens], 0 or more
  base::RandomStream stream;
  Index columns = 0;
  Index first_column = 0;
};

/// Elements of a block of 8-bit moments.
inline constexpr Index kMomentBlock = 256;

/// Elements of a block of NF4 codes, and sizes of blocks that share a scale.
inline constexpr Index kNf4Block = 64;
inline constexpr Index kNf4Scales = 256;

/// How `Backend::draw_rows` draws.
struct RowDraw {
  base::RandomStream stream;
  double factor = 0;  ///< infinity: every row that is not 0, of weight 1
  double ratio = 1;   ///< part of rows that is expected: all that a plan has to go by
};

/// What `Backend::draw_rows` has drawn, and sums over the tokens it drew from.
struct DrawnRows {
  Index count = 0;
  double tokens = 0;   ///< of a size beside 0
  double sizes = 0;    ///< of all
  double certain = 0;  ///< tokens whose probability is 1
  double rest = 0;     ///< sizes of the others
};

}  // namespace longspan::backend
