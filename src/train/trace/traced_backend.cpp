#include "train/trace/traced_backend.h"

#include <type_traits>
#include <utility>

namespace longspan::train {
namespace {

using backend::AdamWOptions;
using backend::AttentionOptions;
using backend::CuSeqlens;
using backend::Index;
using backend::MatmulOptions;
using backend::MemoryTag;
using backend::Shape;
using backend::Tensor;
using backend::Transfer;

/// An operation is one line here: its name, the tensor whose shape is told (the output), and the
/// call that is handed on. What Backend itself has a default for must be handed on, too.
class TracedBackend : public backend::Backend {
 public:
  TracedBackend(std::unique_ptr<Backend> inner, Recorder& recorder, Row work, Row copies)
      : inner_(std::move(inner)), recorder_(&recorder), work_(work), copies_(copies) {}

  std::string name() const override { return inner_->name(); }
  std::string description() const override { return inner_->description(); }
  bool supports(base::DType dtype, std::string* why_not) const override {
    return inner_->supports(dtype, why_not);
  }
  std::string slow_path() const override { return inner_->slow_path(); }
  const backend::DeviceStreams* streams() const override { return inner_->streams(); }
  bool is_asynchronous() const override { return inner_->is_asynchronous(); }
  void synchronize() override { inner_->synchronize(); }

  Tensor allocate(const Shape& shape, base::DType dtype, MemoryTag tag) override {
    return inner_->allocate(shape, dtype, tag);
  }
  const backend::Ledger& ledger() const override { return inner_->ledger(); }
  void reset_peaks() override { inner_->reset_peaks(); }
  void enter(const char* name, Index number) override {
    inner_->enter(name, number);
    if (has_places()) recorder_->enter(name, number);
  }
  void leave() override {
    if (has_places()) recorder_->leave();
    inner_->leave();
  }
  std::size_t memory_limit() const override { return inner_->memory_limit(); }

  void zero(const Tensor& out) override { run("zero", out, &Backend::zero, out); }
  void copy(const Tensor& out, const Tensor& in) override {
    run("copy", out, &Backend::copy, out, in);
  }
  void copy_all(const std::vector<Tensor>& outs, const std::vector<Tensor>& ins) override {
    run("copy_all", outs.empty() ? Tensor() : outs.front(), &Backend::copy_all, outs, ins);
  }
  void copy_from_host(const Tensor& out, const void* host, std::size_t bytes) override {
    transfer(work_, "copy_from_host", out, &Backend::copy_from_host, out, host, bytes);
  }
  void copy_to_host(void* host, const Tensor& in, std::size_t bytes) override {
    transfer(work_, "copy_to_host", in, &Backend::copy_to_host, host, in, bytes);
  }
  void download(const Tensor& host, const Tensor& in) override {
    transfer(copies_, "download", in, &Backend::download, host, in);
  }
  void upload(const Tensor& out, const Tensor& host) override {
    transfer(copies_, "upload", out, &Backend::upload, out, host);
  }
  std::unique_ptr<Transfer> start_download(const Tensor& host, const Tensor& in) override {
    return transfer(copies_, "download", in, &Backend::start_download, host, in);
  }
  std::unique_ptr<Transfer> start_upload(const Tensor& out, const Tensor& host) override {
    return transfer(copies_, "upload", out, &Backend::start_upload, out, host);
  }

  void matmul(const Tensor& out, const Tensor& a, const Tensor& b,
              const MatmulOptions& options) override {
    run("matmul", out, &Backend::matmul, out, a, b, options);
  }
  void add(const Tensor& out, const Tensor& a, const Tensor& b) override {
    run("add", out, &Backend::add, out, a, b);
  }
  void accumulate(const Tensor& out, const Tensor& in) override {
    run("accumulate", out, &Backend::accumulate, out, in);
  }

  void rms_norm_forward(const Tensor& out, const Tensor& rstd, const Tensor& x,
                        const Tensor& weight, float epsilon) override {
    run("rms_norm_forward", out, &Backend::rms_norm_forward, out, rstd, x, weight, epsilon);
  }
  void add_rms_norm_forward(const Tensor& out, const Tensor& rstd, const Tensor& sum,
                            const Tensor& a, const Tensor& b, const Tensor& weight,
                            float epsilon) override {
    run("add_rms_norm_forward", out, &Backend::add_rms_norm_forward, out, rstd, sum, a, b, weight,
        epsilon);
  }
  void rms_norm_again(const Tensor& out, const Tensor& rstd, const Tensor& x,
                      const Tensor& weight) override {
    run("rms_norm_again", out, &Backend::rms_norm_again, out, rstd, x, weight);
  }
  void rms_norm_backward(const Tensor& dx, const Tensor& dweight, const Tensor& dy,
                         const Tensor& residual, const Tensor& rstd, const Tensor& x,
                         const Tensor& weight) override {
    run("rms_norm_backward", dx, &Backend::rms_norm_backward, dx, dweight, dy, residual, rstd, x,
        weight);
  }

  void layer_norm_forward(const Tensor& out, const Tensor& mean, const Tensor& rstd,
                          const Tensor& x, const Tensor& weight, const Tensor& bias,
                          float epsilon) override {
    run("layer_norm_forward", out, &Backend::layer_norm_forward, out, mean, rstd, x, weight, bias,
        epsilon);
  }
  void add_layer_norm_forward(const Tensor& out, const Tensor& mean, const Tensor& rstd,
                              const Tensor& sum, const Tensor& a, const Tensor& b,
                              const Tensor& weight, const Tensor& bias, float epsilon) override {
    run("add_layer_norm_forward", out, &Backend::add_layer_norm_forward, out, mean, rstd, sum, a, b,
        weight, bias, epsilon);
  }
  void layer_norm_backward(const Tensor& dx, const Tensor& dweight, const Tensor& dbias,
                           const Tensor& dy, const Tensor& residual, const Tensor& mean,
                           const Tensor& rstd, const Tensor& x, const Tensor& weight) override {
    run("layer_norm_backward", dx, &Backend::layer_norm_backward, dx, dweight, dbias, dy, residual,
        mean, rstd, x, weight);
  }

  void rope_table(const Tensor& table, const Tensor& positions,
                  const std::vector<double>& inverse_frequencies) override {
    run("rope_table", table, &Backend::rope_table, table, positions, inverse_frequencies);
  }
  void rope(const Tensor& out, const Tensor& x, const Tensor& table, bool inverse) override {
    run("rope", out, &Backend::rope, out, x, table, inverse);
  }

  void swiglu_forward(const Tensor& out, const Tensor& gate_up) override {
    run("swiglu_forward", out, &Backend::swiglu_forward, out, gate_up);
  }
  void swiglu_backward(const Tensor& dgate_up, const Tensor& out, const Tensor& dout,
                       const Tensor& gate_up) override {
    run("swiglu_backward", dgate_up, &Backend::swiglu_backward, dgate_up, out, dout, gate_up);
  }

  void add_bias(const Tensor& out, const Tensor& bias) override {
    run("add_bias", out, &Backend::add_bias, out, bias);
  }
  void bias_backward(const Tensor& dbias, const Tensor& dy) override {
    run("bias_backward", dbias, &Backend::bias_backward, dbias, dy);
  }
  void gelu_forward(const Tensor& out, const Tensor& x) override {
    run("gelu_forward", out, &Backend::gelu_forward, out, x);
  }
  void gelu_backward(const Tensor& dx, const Tensor& out, const Tensor& dout,
                     const Tensor& x) override {
    run("gelu_backward", dx, &Backend::gelu_backward, dx, out, dout, x);
  }

  void attention_forward(const Tensor& out, const Tensor& lse, const Tensor& q, const Tensor& k,
                         const Tensor& v, const CuSeqlens& cu_seqlens_q,
                         const CuSeqlens& cu_seqlens_k, const AttentionOptions& options) override {
    run("attention_forward", out, &Backend::attention_forward, out, lse, q, k, v, cu_seqlens_q,
        cu_seqlens_k, options);
  }
  void attention_backward(const Tensor& dq, const Tensor& dk, const Tensor& dv, const Tensor& dout,
                          const Tensor& out, const Tensor& lse, const Tensor& q, const Tensor& k,
                          const Tensor& v, const CuSeqlens& cu_seqlens_q,
                          const CuSeqlens& cu_seqlens_k, const AttentionOptions& options) override {
    run("attention_backward", dq, &Backend::attention_backward, dq, dk, dv, dout, out, lse, q, k, v,
        cu_seqlens_q, cu_seqlens_k, options);
  }
  void attention_merge(const Tensor& out, const Tensor& lse, const Tensor& block_out,
                       const Tensor& block_lse) override {
    run("attention_merge", out, &Backend::attention_merge, out, lse, block_out, block_lse);
  }

  void gather_rows(const Tensor& out, const Tensor& ids, const Tensor& table) override {
    run("gather_rows", out, &Backend::gather_rows, out, ids, table);
  }
  void embedding_backward(const Tensor& dtable, const Tensor& dy, const Tensor& ids) override {
    run("embedding_backward", dtable, &Backend::embedding_backward, dtable, dy, ids);
  }
  void cross_entropy(const Tensor& nll, const Tensor& dlogits, const Tensor& logits,
                     const Tensor& labels, double scale) override {
    run("cross_entropy", logits, &Backend::cross_entropy, nll, dlogits, logits, labels, scale);
  }

  double sum(const Tensor& in) override { return run("sum", in, &Backend::sum, in); }
  double sum_of_squares(const Tensor& in) override {
    return run("sum_of_squares", in, &Backend::sum_of_squares, in);
  }
  void random_normal(const Tensor& out, const base::RandomStream& stream, double deviation,
                     std::uint64_t first_element) override {
    run("random_normal", out, &Backend::random_normal, out, stream, deviation, first_element);
  }
  void fill(const Tensor& out, double value) override {
    run("fill", out, &Backend::fill, out, value);
  }
  void adamw(const Tensor& weight, const Tensor& master, const Tensor& moment1,
             const Tensor& moment2, const Tensor& gradient, const AdamWOptions& options) override {
    run("adamw", master, &Backend::adamw, weight, master, moment1, moment2, gradient, options);
  }

 private:
  /// The host's backend is in no place.
  bool has_places() const { return recorder_->is_recording() && work_ == Row::kCompute; }

  template <typename Result, typename... Parameters, typename... Arguments>
  Result run(const char* name, const Tensor& shown, Result (Backend::*operation)(Parameters...),
             Arguments&&... arguments) {
    if (!recorder_->is_recording()) return ((*inner_).*operation)(arguments...);
    return record(work_, Details::of(name, shown), operation, arguments...);
  }

  /// The same for what moves a tensor to or from the host.
  template <typename Result, typename... Parameters, typename... Arguments>
  Result transfer(Row row, const char* name, const Tensor& moved,
                  Result (Backend::*operation)(Parameters...), Arguments&&... arguments) {
    if (!recorder_->is_recording()) return ((*inner_).*operation)(arguments...);
    Details details = Details::of(name, moved);
    details.bytes = moved.bytes();
    return record(row, std::move(details), operation, arguments...);
  }

  template <typename Result, typename... Parameters, typename... Arguments>
  Result record(Row row, Details details, Result (Backend::*operation)(Parameters...),
                Arguments&&... arguments) {
    const Recorder::Span span = recorder_->begin(row, std::move(details));
    if constexpr (std::is_void_v<Result>) {
      ((*inner_).*operation)(arguments...);
      recorder_->end(span);
    } else {
      Result result = ((*inner_).*operation)(arguments...);
      recorder_->end(span);
      return result;
    }
  }

  std::unique_ptr<Backend> inner_;
  Recorder* recorder_;
  Row work_;
  Row copies_;
};

}  // namespace

std::unique_ptr<backend::Backend> make_traced_device(std::unique_ptr<backend::Backend> device,
                                                     Recorder& recorder) {
  recorder.follow(*device);
  return std::make_unique<TracedBackend>(std::move(device), recorder, Row::kCompute, Row::kCopies);
}

std::unique_ptr<backend::Backend> make_traced_host(std::unique_ptr<backend::Backend> host,
                                                   Recorder& recorder) {
  return std::make_unique<TracedBackend>(std::move(host), recorder, Row::kHost, Row::kHost);
}

}  // namespace longspan::train
