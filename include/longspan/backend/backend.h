#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "longspan/backend/memory.h"
#include "longspan/backend/options.h"
#include "longspan/backend/tensor.h"
#include "longspan/base/random.h"

namespace longspan::backend {

/// The queues of a device that works on its own.
enum class DeviceQueue : std::uint8_t { kCompute, kCommunication, kCopies };

/// A point in the work of a queue, which knows when the device passed it.
class Mark {
 public:
  virtual ~Mark() = default;
  Mark() = default;
  Mark(const Mark&) = delete;
  Mark& operator=(const Mark&) = delete;
  /// By the device's clock, from a mark that it passed earlier. It must have passed both.
  virtual double seconds_since(const Mark& earlier) const = 0;
};

/// The queues of a device that works on its own, as opaque handles (cudaStream_t), so that no
/// CUDA header is needed here. Operations of the backend go to `compute`. Who works on another one
/// makes it wait for `compute` first, and `compute` for it before the results are used.
class DeviceStreams {
 public:
  virtual ~DeviceStreams() = default;
  virtual int device() const = 0;  ///< its number on this machine
  virtual void* compute() const = 0;
  virtual void* communication() const = 0;  ///< of collectives
  /// A mark behind what the queue has been given so far. Costs the device a little time.
  virtual std::unique_ptr<Mark> mark(DeviceQueue queue) const = 0;
};

/// A copy between a device and its host that may still be under way. The tensors of both ends must
/// outlive it.
class Transfer {
 public:
  virtual ~Transfer() = default;
  Transfer() = default;
  Transfer(const Transfer&) = delete;
  Transfer& operator=(const Transfer&) = delete;
  /// What the device is given from now on comes after the copy: its device side may be read,
  /// overwritten or released, its host side used by other transfers. The host itself waits for
  /// nothing. Called once, before this goes.
  virtual void wait() = 0;
};

/// Who is told what a backend does, in the order in which it is given that: for traces.
class Observer {
 public:
  virtual ~Observer() = default;
  Observer() = default;
  Observer(const Observer&) = delete;
  Observer& operator=(const Observer&) = delete;
  /// An operation of that queue begins. `name` is a literal; `shown` is the tensor that tells its
  /// size (maybe undefined), `moved` the bytes it moves to or from the host. What this returns is
  /// handed to `end`, unless the operation throws.
  virtual std::size_t begin(DeviceQueue queue, const char* name, const Tensor& shown,
                            std::size_t moved) = 0;
  virtual void end(std::size_t operation) = 0;
  /// See Scope.
  virtual void enter(const char* name, Index number) = 0;
  virtual void leave() = 0;
};

/// A device and its operations.
///
/// Conventions, stated once:
/// - Outputs first, then what is saved, inputs, weights, options.
/// - Parameter gradients accumulate (+=) and are float32 (float64 when everything is float64).
///   Activation gradients are written (=) unless an argument says otherwise.
/// - Activations and weights are float32, bfloat16 or float64, all of one dtype in one call; sums,
///   norms, softmax and loss are computed in float32 (float64 for float64).
/// - `tokens` is the packed axis; there is no batch axis.
/// - Results are bitwise reproducible for the same shapes and the same number of threads.
/// - Calls may be asynchronous on devices with streams; data on the host side of `copy_to_host` is
///   ready when it returns. Not thread-safe: one thread issues the operations.
/// - A shape or dtype that breaks an operation's contract throws InternalError.
class Backend {
 public:
  virtual ~Backend() = default;
  Backend() = default;
  Backend(const Backend&) = delete;
  Backend& operator=(const Backend&) = delete;

  /// "cpu".
  virtual std::string name() const = 0;
  /// What the device and its libraries are, for logs: "2 threads, oneDNN 2.6.3 (avx512_core)".
  virtual std::string description() const = 0;
  /// Whether activations and weights may have this dtype here; `why_not` says what is missing.
  virtual bool supports(base::DType dtype, std::string* why_not) const = 0;

  /// What it has done more slowly than it can, and why, for a warning; empty when nothing.
  virtual std::string slow_path() const { return {}; }
  /// Null where operations are done when they return and tensors lie in the host's memory.
  virtual const DeviceStreams* streams() const { return nullptr; }
  /// Whether what is started on other queues goes on beside operations that are called meanwhile.
  virtual bool is_asynchronous() const { return streams() != nullptr; }
  /// Returns when the device has done all it was given.
  virtual void synchronize() {}

  /// From now on operations and places are told to `observer`, which outlives them; null: to
  /// nobody. A backend that computes nothing tells places alone.
  void observe(Observer* observer) { observer_ = observer; }
  Observer* observer() const { return observer_; }

  // --- memory -------------------------------------------------------------------------------
  /// Uninitialised dense tensor. Throws OutOfMemoryError, with the ledger, when it does not fit.
  virtual Tensor allocate(const Shape& shape, base::DType dtype, MemoryTag tag) = 0;
  virtual const Ledger& ledger() const = 0;
  /// Peaks of the ledger start again from what is live: called where a step begins.
  virtual void reset_peaks() = 0;
  /// Enters and leaves a named part of a step, which the ledger tells: see Scope. `name` is a
  /// literal; a negative number is none.
  virtual void enter(const char* name, Index number) = 0;
  virtual void leave() = 0;
  /// Bytes that `allocate` may hand out in all.
  virtual std::size_t memory_limit() const = 0;

  // --- data movement ------------------------------------------------------------------------
  virtual void zero(const Tensor& out) = 0;
  /// out = in, element by element, converting between float dtypes; shapes equal.
  virtual void copy(const Tensor& out, const Tensor& in) = 0;
  /// outs[i] = ins[i] for all i, in as few goes as the device can: tensors of one dtype, pairs of
  /// one shape. No out overlaps an in or another out.
  virtual void copy_all(const std::vector<Tensor>& outs, const std::vector<Tensor>& ins);
  /// Dense host bytes of the tensor's dtype, both ways; `bytes` must equal `tensor.bytes()`. The
  /// host's side may be used again when they return.
  virtual void copy_from_host(const Tensor& out, const void* host, std::size_t bytes) = 0;
  virtual void copy_to_host(void* host, const Tensor& in, std::size_t bytes) = 0;
  /// The same from and to a tensor `host` of a backend of the processor; dense, of one dtype and
  /// size. Done when they return.
  virtual void download(const Tensor& host, const Tensor& in);
  virtual void upload(const Tensor& out, const Tensor& host);
  /// The same beside the device's other work: after what it was given before, and among each other
  /// in order.
  virtual std::unique_ptr<Transfer> start_download(const Tensor& host, const Tensor& in);
  virtual std::unique_ptr<Transfer> start_upload(const Tensor& out, const Tensor& host);

  // --- linear algebra -----------------------------------------------------------------------
  /// out[m, n] = a[m, k] * b[k, n] (+ out). Rank 2; a transposed operand is stored [k, m] or
  /// [n, k]. a and b have one dtype; out has it too, or float32 when they are bfloat16. Products
  /// accumulate in float32 at least. m, n or k may be 0 (k = 0 gives zeros, or leaves out as it
  /// is when accumulating).
  virtual void matmul(const Tensor& out, const Tensor& a, const Tensor& b,
                      const MatmulOptions& options) = 0;
  /// out = a + b, same shape and dtype; out may be a or b.
  virtual void add(const Tensor& out, const Tensor& a, const Tensor& b) = 0;
  /// out += in, same shape; out float32 or float64, in of the same dtype or bfloat16 into float32.
  virtual void accumulate(const Tensor& out, const Tensor& in) = 0;
  /// out *= factor, of a float dtype; the factor is rounded to float32 (float64).
  virtual void scale(const Tensor& out, double factor) = 0;

  // --- normalisation ------------------------------------------------------------------------
  /// out[t, h] = x[t, h] * rstd[t] * (weight_offset + weight[h]), rstd[t] = 1/sqrt(mean_h x^2 +
  /// epsilon) (Zhang & Sennrich 2019). x, out [tokens, hidden]; weight [hidden] of their dtype;
  /// rstd [tokens] float32 (float64). Or of each head of a token: x, out [tokens, heads, head_dim],
  /// weight [head_dim], rstd [tokens, heads], here and in `again` and `backward`.
  virtual void rms_norm_forward(const Tensor& out, const Tensor& rstd, const Tensor& x,
                                const Tensor& weight, const RmsNormOptions& options) = 0;
  /// sum = a + b, then the norm of sum, bit for bit as `add` and rms_norm_forward, in one pass over
  /// memory. sum may be a or b; out is none of them.
  virtual void add_rms_norm_forward(const Tensor& out, const Tensor& rstd, const Tensor& sum,
                                    const Tensor& a, const Tensor& b, const Tensor& weight,
                                    const RmsNormOptions& options) = 0;
  /// out from x and the saved rstd: the forward's result again, bit for bit.
  virtual void rms_norm_again(const Tensor& out, const Tensor& rstd, const Tensor& x,
                              const Tensor& weight, const RmsNormOptions& options) = 0;
  /// dx = residual + d(loss)/dx through the norm, where `residual` [tokens, hidden] is the
  /// gradient that arrives by the residual connection (undefined: none; may be dx itself);
  /// dweight[h] +=, float32 (float64), unless it is undefined, as of a weight that is not trained:
  /// dx is the same bits. dx may be dy.
  virtual void rms_norm_backward(const Tensor& dx, const Tensor& dweight, const Tensor& dy,
                                 const Tensor& residual, const Tensor& rstd, const Tensor& x,
                                 const Tensor& weight, const RmsNormOptions& options) = 0;

  /// out[t, h] = (x[t, h] - mean[t]) * rstd[t] * weight[h] + bias[h], rstd[t] = 1/sqrt(variance_h x
  /// + epsilon), the variance over all of hidden (Ba et al. 2016), formed from distances to the
  /// mean. x, out [tokens, hidden]; weight, bias [hidden] of their dtype; mean, rstd [tokens]
  /// float32 (float64).
  virtual void layer_norm_forward(const Tensor& out, const Tensor& mean, const Tensor& rstd,
                                  const Tensor& x, const Tensor& weight, const Tensor& bias,
                                  float epsilon) = 0;
  /// As add_rms_norm_forward.
  virtual void add_layer_norm_forward(const Tensor& out, const Tensor& mean, const Tensor& rstd,
                                      const Tensor& sum, const Tensor& a, const Tensor& b,
                                      const Tensor& weight, const Tensor& bias, float epsilon) = 0;
  /// As rms_norm_backward; dbias[h] += too, undefined where dweight is.
  virtual void layer_norm_backward(const Tensor& dx, const Tensor& dweight, const Tensor& dbias,
                                   const Tensor& dy, const Tensor& residual, const Tensor& mean,
                                   const Tensor& rstd, const Tensor& x, const Tensor& weight) = 0;

  // --- rotary positions ---------------------------------------------------------------------
  /// table[t, :] = cos of positions[t] * inverse_frequencies, then sin of the same, both times
  /// `scale`; table [tokens, head_dim], positions int32 on the device. Angles are formed in double.
  virtual void rope_table(const Tensor& table, const Tensor& positions,
                          const std::vector<double>& inverse_frequencies, double scale) = 0;
  /// out = x [tokens, heads, head_dim] rotated, rotate-half layout (dimension j pairs with
  /// j + head_dim/2, as in Hugging Face's Llama) and scaled; `inverse` rotates the other way, which
  /// is the backward. out is x itself or apart from it.
  virtual void rope(const Tensor& out, const Tensor& x, const Tensor& table, bool inverse) = 0;

  // --- gated MLP ----------------------------------------------------------------------------
  /// out[t, i] = activation(gate_up[t, i]) * gate_up[t, I + i]; gate_up [tokens, 2I], out [tokens,
  /// I].
  virtual void gated_forward(const Tensor& out, const Tensor& gate_up,
                             GateActivation activation) = 0;
  /// dgate_up from dout; dgate_up may be gate_up itself. When `out` is defined the forward's
  /// product is written there too, bit for bit as gated_forward does (the weight gradient of the
  /// next matmul needs it, so it need not be kept); `out` may be dout itself.
  virtual void gated_backward(const Tensor& dgate_up, const Tensor& out, const Tensor& dout,
                              const Tensor& gate_up, GateActivation activation) = 0;

  // --- biases and GELU ----------------------------------------------------------------------
  /// out[t, j] += bias[j]; out [tokens, n], bias [n] of its dtype. Each sum is rounded once.
  virtual void add_bias(const Tensor& out, const Tensor& bias) = 0;
  /// dbias[j] += sum over t of dy[t, j], in an order that does not depend on the number of threads;
  /// dy [tokens, n], dbias [n] float32 (float64).
  virtual void bias_backward(const Tensor& dbias, const Tensor& dy) = 0;
  /// out = 0.5 x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) (Hendrycks & Gimpel 2016, in the form
  /// that transformers calls gelu_new); x, out [tokens, n], out may be x.
  virtual void gelu_forward(const Tensor& out, const Tensor& x) = 0;
  /// dx from dout; dx may be x. When `out` is defined the forward's result is written there too,
  /// bit for bit; `out` may be dout itself.
  virtual void gelu_backward(const Tensor& dx, const Tensor& out, const Tensor& dout,
                             const Tensor& x) = 0;

  // --- products element by element ----------------------------------------------------------
  /// out[t, j] = x[t, j] + gate[j] y[t, j], or gate[j] y[t, j] where x is undefined; out, x, y
  /// [tokens, n], gate [n] of their dtype; out may be x or y. Rounded once.
  virtual void add_product(const Tensor& out, const Tensor& x, const Tensor& y,
                           const Tensor& gate) = 0;
  /// out = a b; one shape and dtype; out may be a or b. Rounded once.
  virtual void multiply(const Tensor& out, const Tensor& a, const Tensor& b) = 0;

  // --- 8-bit codes --------------------------------------------------------------------------
  /// x [tokens, width] as codes uint8 [tokens, width]: those of `block` neighbours of a row, block
  /// = width / blocks, count steps from their least value: low = min x, step = (max x - min x) /
  /// 255, code = (x - low) / step rounded to nearest even, 0 where all are equal, and never beyond
  /// 0 or 255 (as in Mesa, Pan et al. 2021, but of values at hand). ranges [tokens, 2 blocks],
  /// float32 (float64), are low and step of each block in turn. Where x is not finite neither is
  /// what `dequantize` gives for its block.
  virtual void quantize(const Tensor& codes, const Tensor& ranges, const Tensor& x) = 0;
  /// The same, but code = floor((x - low) / step + u), u of the element's own uniform in [0, 1) in
  /// steps of 2^-16, also as in Mesa: less than a step from x, and x in the mean of all u (to step
  /// / 2^16 and the roundings of x - low and of the inverse). low itself is always exact. The same
  /// bits on every device.
  virtual void quantize_at_random(const Tensor& codes, const Tensor& ranges, const Tensor& x,
                                  const CodeRounding& rounding) = 0;
  /// out = low + step code, rounded to out's dtype: at most step / 2 (rounded at random: less than
  /// step), and a rounding, from x.
  virtual void dequantize(const Tensor& out, const Tensor& codes, const Tensor& ranges) = 0;

  // --- 4-bit weights ------------------------------------------------------------------------
  /// x [n], of a float dtype, as NF4 (Dettmers et al. 2023, "QLoRA"), to the bit what bitsandbytes
  /// makes of it: of each kNf4Block elements the largest size, float32 sizes [blocks], and for
  /// every element, divided by that, the code of the nearest of 16 values, ties to the lower; two
  /// in a byte of codes [(n + 1) / 2] uint8, the first in its upper half. Blocks of zeros have
  /// codes of 0; the size of one that is not finite is NaN.
  virtual void nf4_quantize(const Tensor& codes, const Tensor& sizes, const Tensor& x) = 0;
  /// The sizes themselves in 8 bits ("double quantization"): of each kNf4Scales the largest
  /// distance from `mean`, float32 scales, and for every one, the mean taken off and divided by
  /// that, the code uint8 of the nearest value of the signed DynamicMap.
  virtual void nf4_quantize_sizes(const Tensor& codes, const Tensor& scales, const Tensor& sizes,
                                  float mean) = 0;
  /// out [n], of a float dtype: value of the code * (value of the size's code * scale + mean), each
  /// rounded to float32, and in the end to out's dtype.
  virtual void nf4_dequantize(const Tensor& out, const Tensor& codes, const Tensor& size_codes,
                              const Tensor& scales, float mean) = 0;

  // --- compressed gradients -----------------------------------------------------------------
  /// out[t, g] = scale * sum over j of x[t, g m + j] direction[j]; out [tokens, groups], x [tokens,
  /// groups m] of its dtype, direction [m] float32 (float64). Each sum is rounded once.
  virtual void project(const Tensor& out, const Tensor& x, const Tensor& direction,
                       double scale) = 0;

  // --- sampled rows -------------------------------------------------------------------------
  /// norms[t] = |x[t, :]|, which neither under- nor overflows where elements do not; x [tokens, n],
  /// norms [tokens] float32 (float64). 0 for a row of zeros alone.
  virtual void row_norms(const Tensor& norms, const Tensor& x) = 0;
  /// out[t, :] *= factors[t]; out [tokens, n], factors [tokens] float32 (float64). Each product is
  /// rounded once.
  virtual void scale_rows(const Tensor& out, const Tensor& factors) = 0;
  /// Draws tokens, each on its own (Poisson sampling): token t, of size s = x_norms[t] dy_norms[t],
  /// with probability p = min(1, factor s), and gives it the weight 1 / p, so that a weighted sum
  /// over what is drawn has the whole sum as its mean (Horvitz & Thompson 1952). Where s is 0 it is
  /// not drawn; where it is not a number it is. The token's number in `numbers` int32 [tokens]
  /// alone says which number of `options.stream` decides. rows int32 and weights, of the norms'
  /// dtype, have at least as many elements as there are tokens: those drawn, in their order, then
  /// -1 and 0. Waits for the norms: that much is decided on the host.
  virtual DrawnRows draw_rows(const Tensor& rows, const Tensor& weights, const Tensor& x_norms,
                              const Tensor& dy_norms, const Tensor& numbers,
                              const RowDraw& options);

  // --- attention ----------------------------------------------------------------------------
  /// Packed, exact, grouped-query attention with an online softmax (Dao 2023); memory beyond the
  /// arguments is linear in the number of tokens at most. q, out [query tokens, heads, head_dim];
  /// k, v [key tokens, kv_heads, head_dim]; head h reads KV head h / (heads / kv_heads); lse
  /// [heads, query tokens] float32 (float64): log-sum-exp of the scaled scores, natural log. A
  /// query that sees no key gives zeros and lse = -inf.
  virtual void attention_forward(const Tensor& out, const Tensor& lse, const Tensor& q,
                                 const Tensor& k, const Tensor& v, const CuSeqlens& cu_seqlens_q,
                                 const CuSeqlens& cu_seqlens_k,
                                 const AttentionOptions& options) = 0;
  /// Exact gradients from the saved out and lse. dq, dk, dv are written; they may be views of one
  /// buffer.
  virtual void attention_backward(const Tensor& dq, const Tensor& dk, const Tensor& dv,
                                  const Tensor& dout, const Tensor& out, const Tensor& lse,
                                  const Tensor& q, const Tensor& k, const Tensor& v,
                                  const CuSeqlens& cu_seqlens_q, const CuSeqlens& cu_seqlens_k,
                                  const AttentionOptions& options) = 0;
  /// Adds to the attention of queries over some keys, out and lse, that of the same queries over
  /// other keys, block_out and block_lse: both become what attention_forward over all of them gives
  /// (Dao 2023). out [tokens, heads, head_dim], lse and block_lse [heads, tokens] float32
  /// (float64); block_out in the dtype of activations. An lse of -inf stands for no keys.
  virtual void attention_merge(const Tensor& out, const Tensor& lse, const Tensor& block_out,
                               const Tensor& block_lse) = 0;

  // --- embedding and loss -------------------------------------------------------------------
  /// out[t, :] = table[ids[t], :], or zeros where the id is negative; ids int32 [tokens], each
  /// below the rows of table [rows, hidden].
  virtual void gather_rows(const Tensor& out, const Tensor& ids, const Tensor& table) = 0;
  /// dtable[ids[t], :] += dy[t, :], no id negative, in an order that does not depend on the number
  /// of threads.
  virtual void embedding_backward(const Tensor& dtable, const Tensor& dy, const Tensor& ids) = 0;
  /// Negative log-likelihood over a range of rows, and its gradient in place of the logits.
  /// nll[t] = logsumexp(z[t, :]) - z[t, labels[t]], z the capped logits, [rows] in float32
  /// (float64), 0 where
  /// the label is kIgnoredLabel; labels int32 [rows]. A label outside of the vocabulary throws
  /// InternalError on the processor, and gives NaN on a GPU, which cannot tell in time. dlogits
  /// [rows, vocab], when defined, receives scale times the gradient of nll (without a cap: softmax
  /// - onehot), zeros in ignored rows; it may be `logits` itself, or have another float dtype
  /// (bfloat16 from float32 logits).
  virtual void cross_entropy(const Tensor& nll, const Tensor& dlogits, const Tensor& logits,
                             const Tensor& labels, const CrossEntropyOptions& options) = 0;

  // --- reductions, random, optimizer --------------------------------------------------------
  /// Sum of all elements, of a float dtype, in double, in an order that does not depend on the
  /// number of threads.
  virtual double sum(const Tensor& in) = 0;
  /// Sum of squares, likewise. Not finite when any element is not.
  virtual double sum_of_squares(const Tensor& in) = 0;
  /// out[i] = mean-zero normal of the given deviation at element `first_element + i` of `stream`,
  /// rounded to out's dtype.
  virtual void random_normal(const Tensor& out, const base::RandomStream& stream, double deviation,
                             std::uint64_t first_element) = 0;
  /// The same, uniform in [-bound, bound).
  virtual void random_uniform(const Tensor& out, const base::RandomStream& stream, double bound,
                              std::uint64_t first_element) = 0;
  /// out[t, i] = x[t, i] / (1 - probability), or 0 with that probability, in [0, 1), which is
  /// rounded to a multiple of 2^-32 (Srivastava et al. 2014). out, x [rows, columns], may be one.
  /// What stays depends on the stream, numbers[t], i and the number of columns alone, not on t;
  /// numbers int32 [rows], 0 or more. The same again is the backward.
  virtual void dropout(const Tensor& out, const Tensor& x, const Tensor& numbers,
                       const base::RandomStream& stream, double probability) = 0;
  /// out = value.
  virtual void fill(const Tensor& out, double value) = 0;
  /// directions[i, :] = the unit eigenvector of the i-th largest eigenvalue of the symmetric `gram`
  /// [n, n], for i < the rows of directions [k, n], k at most n; of v and -v the one whose
  /// component of largest size is positive. By subspace iteration in double, begun with the same
  /// random vectors always (Halko, Martinsson & Tropp 2011), until they are right to about 1e-10 of
  /// the largest eigenvalue, or for 30 rounds: where eigenvalues behind the k-th are nearly as
  /// large, directions may then be a mixture of both. Both float32, or float64. A rare operation: a
  /// GPU has its host do it, and waits.
  virtual void principal_directions(const Tensor& directions, const Tensor& gram);
  /// One AdamW update of a rank-1 range. master, moment1, moment2 float32 (float64), gradient of
  /// the same dtype and unchanged; `weight` receives the rounded result and is undefined when the
  /// master is what the forward reads. With `rounding` the moments are bfloat16, and each is
  /// rounded up or down at random so that what is kept is right in the mean: rounding to nearest
  /// would stop a mean that moves by less than half of its last bit in a step.
  virtual void adamw(const Tensor& weight, const Tensor& master, const Tensor& moment1,
                     const Tensor& moment2, const Tensor& gradient,
                     const AdamWOptions& options) = 0;
  /// The same of weights whose gradient is compressed: that of element m i + j is gradient[i]
  /// direction[j] (VeLoRA, Miles et al. 2024), direction [m], master and weight [m n], gradient
  /// and moments [n]. The moments are those of `gradient`, of which each element's own are
  /// direction[j] and direction[j]^2 times as large. Not rounded.
  virtual void adamw_compressed(const Tensor& weight, const Tensor& master, const Tensor& moment1,
                                const Tensor& moment2, const Tensor& gradient,
                                const Tensor& direction, const AdamWOptions& options) = 0;
  /// The same with moments in 8 bits (Dettmers et al. 2022): of each block of kMomentBlock
  /// elements, counted from the range's first, a float32 scale, which is the block's largest size;
  /// and for each element the code of the map's value (see DynamicMap) that is nearest to the
  /// moment divided by the scale: of a signed map for the mean, an unsigned one for the mean of
  /// squares. Only 0 is rounded to 0, so that a mean keeps its sign; what is not finite is not
  /// stored. codes uint8 [elements]; scales [blocks], of which 0 says that all moments are 0;
  /// master and gradient float32. The update has the moments as they are before they are rounded.
  virtual void adamw_8bit(const Tensor& weight, const Tensor& master, const Tensor& codes1,
                          const Tensor& scales1, const Tensor& codes2, const Tensor& scales2,
                          const Tensor& gradient, const AdamWOptions& options) = 0;

 private:
  Observer* observer_ = nullptr;
};

/// A named part of a step, for as long as this lives.
class Scope {
 public:
  Scope(Backend& backend, const char* name, Index number = -1) : backend_(&backend) {
    backend.enter(name, number);
    if (backend.observer() != nullptr) backend.observer()->enter(name, number);
  }
  ~Scope() {
    if (backend_->observer() != nullptr) backend_->observer()->leave();
    backend_->leave();
  }
  Scope(const Scope&) = delete;
  Scope& operator=(const Scope&) = delete;

 private:
  Backend* backend_;
};

/// Label of a token that is not trained on (as in Hugging Face and PyTorch).
inline constexpr std::int32_t kIgnoredLabel = -100;

/// The processor, with its own arena. `memory_limit` bounds what `allocate` hands out, in bytes.
/// Uses as many OpenMP threads as the process allows when this is called.
std::unique_ptr<Backend> make_cpu_backend(std::size_t memory_limit);

}  // namespace longspan::backend
