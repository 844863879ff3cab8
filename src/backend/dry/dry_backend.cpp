#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <map>
#include <tuple>

#include "backend/cpu/attention.h"
#include "backend/cuda_scratch.h"
#include "backend/done_transfer.h"
#include "backend/dry/dry_state.h"

namespace longspan::backend {
namespace {

using base::DType;

/// Documents that have queries and keys.
Index attended_documents(const CuSeqlens& cu_seqlens_q, const CuSeqlens& cu_seqlens_k) {
  Index documents = 0;
  for (std::size_t i = 0; i + 1 < cu_seqlens_q.size(); ++i) {
    const bool attends =
        cu_seqlens_q[i + 1] > cu_seqlens_q[i] && cu_seqlens_k[i + 1] > cu_seqlens_k[i];
    documents += attends ? 1 : 0;
  }
  return documents;
}

/// 1 + 2 + ... + count.
double triangle(double count) { return count > 0 ? count * (count + 1) / 2 : 0; }

double pairs_of(const CuSeqlens& cu_seqlens_q, const CuSeqlens& cu_seqlens_k,
                const AttentionOptions& options) {
  double pairs = 0;
  for (std::size_t i = 0; i + 1 < cu_seqlens_q.size(); ++i) {
    const double queries = cu_seqlens_q[i + 1] - cu_seqlens_q[i];
    const double keys = cu_seqlens_k[i + 1] - cu_seqlens_k[i];
    if (!options.causal) {
      pairs += queries * keys;
      continue;
    }
    pairs += triangle(keys) - triangle(keys - queries);
    if (options.window == 0) continue;
    const auto window = static_cast<double>(options.window);
    pairs -= triangle(keys - window) - triangle(keys - queries - window);
  }
  return pairs;
}

}  // namespace

/// Memory of a dry run: an address and its place in the ledger.
class DryBackend::Buffer : public backend::Buffer {
 public:
  Buffer(std::shared_ptr<State> state, void* address, std::size_t bytes, MemoryTag tag)
      : state_(std::move(state)), address_(address), bytes_(bytes), tag_(tag) {}
  ~Buffer() override { state_->release(address_, bytes_, tag_); }

 private:
  std::shared_ptr<State> state_;
  void* address_;
  std::size_t bytes_;
  MemoryTag tag_;
};

DryBackend::DryBackend(const DeviceProfile& profile, int threads)
    : state_(std::make_shared<State>(profile, threads)) {
  if (profile.kind == "cuda") {
    state_->allocate({kMatmulWorkspace}, DType::kUInt8, MemoryTag::kWorkspace);
  }
}
DryBackend::~DryBackend() = default;

const DeviceProfile& DryBackend::profile() const { return state_->profile; }
void DryBackend::start_step() { state_->start_step(); }
DryCounts DryBackend::counts() const { return state_->counts; }
const std::vector<DryPhase>& DryBackend::phases() const { return state_->phases; }
std::vector<DrySample> DryBackend::timeline() const { return state_->samples; }
std::int64_t DryBackend::peak_change() const { return state_->peak_change; }
std::size_t DryBackend::footprint() const { return state_->arena.footprint(); }
void DryBackend::watch(std::int64_t change) { state_->watched_change = change; }
double DryBackend::start_communication(double seconds) {
  return state_->start_communication(seconds);
}
void DryBackend::await(double moment) { state_->await(moment); }

std::vector<DryAllocation> DryBackend::watched() const {
  using Alike = std::tuple<MemoryTag, std::string, std::string>;
  std::map<Alike, DryAllocation> groups;
  for (const State::Live& one : state_->watched) {
    const std::string place = one.place.to_string(/*with_numbers=*/false);
    const std::string shape = fmt::format("{} {}", one.shape.to_string(), base::name_of(one.dtype));
    DryAllocation& group = groups[{one.tag, place, shape}];
    group.tag = one.tag;
    group.place = place;
    group.shape = shape;
    ++group.count;
    group.bytes += Arena::rounded(one.bytes, state_->alignment);
  }
  std::vector<DryAllocation> sorted;
  for (auto& [key, group] : groups) sorted.push_back(std::move(group));
  std::stable_sort(sorted.begin(), sorted.end(),
                   [](const auto& a, const auto& b) { return a.bytes > b.bytes; });
  return sorted;
}

std::string DryBackend::name() const { return "dry"; }
std::string DryBackend::description() const { return state_->profile.name; }
bool DryBackend::is_asynchronous() const { return state_->profile.kind == "cuda"; }

/// Of kind "cpu" it asks this machine's oneDNN for workspaces, which must know the dtype.
bool DryBackend::supports(DType dtype, std::string* why_not) const {
  return state_->profile.kind != "cpu" || cpu::supports(dtype, why_not);
}

Tensor DryBackend::allocate(const Shape& shape, DType dtype, MemoryTag tag) {
  const std::size_t bytes = static_cast<std::size_t>(shape.elements()) * base::size_of(dtype);
  void* address = state_->allocate(shape, dtype, tag);
  return {std::make_shared<Buffer>(state_, address, bytes, tag), address, dtype, shape};
}

const Ledger& DryBackend::ledger() const { return state_->ledger; }
void DryBackend::reset_peaks() { state_->ledger.reset_peaks(); }
void DryBackend::enter(const char* name, Index number) { state_->enter(name, number); }
void DryBackend::leave() { state_->ledger.leave(); }
std::size_t DryBackend::memory_limit() const { return state_->profile.memory; }

/// An operation that reads or writes each of these once, where defined, and does little else.
void DryBackend::stream(std::initializer_list<const Tensor*> tensors) {
  double bytes = 0;
  for (const Tensor* tensor : tensors) {
    if (tensor->defined()) bytes += static_cast<double>(tensor->bytes());
  }
  state_->work(0, 0, 0, bytes);
}

void DryBackend::zero(const Tensor& out) { stream({&out}); }
void DryBackend::fill(const Tensor& out, double /*value*/) { stream({&out}); }
void DryBackend::copy(const Tensor& out, const Tensor& in) { stream({&out, &in}); }
void DryBackend::copy_all(const std::vector<Tensor>& outs, const std::vector<Tensor>& ins) {
  if (state_->profile.kind == "cpu") return Backend::copy_all(outs, ins);
  double bytes = 0;
  for (const Tensor& out : outs) bytes += 2 * static_cast<double>(out.bytes());
  state_->work(0, 0, 0, bytes);
}
void DryBackend::copy_from_host(const Tensor& out, const void* /*host*/, std::size_t /*bytes*/) {
  stream({&out});
}
void DryBackend::copy_to_host(void* host, const Tensor& in, std::size_t bytes) {
  std::memset(host, 0, bytes);
  stream({&in});
}
void DryBackend::download(const Tensor& /*host*/, const Tensor& in) {
  state_->cross_host_link(in.bytes(), &DryCounts::host_link_seconds);
}
void DryBackend::upload(const Tensor& out, const Tensor& /*host*/) {
  state_->cross_host_link(out.bytes(), &DryCounts::host_link_seconds);
}

std::unique_ptr<Transfer> DryBackend::start_download(const Tensor& /*host*/, const Tensor& in) {
  state_->cross_host_link(in.bytes(), &DryCounts::beside_seconds);
  return std::make_unique<DoneTransfer>();
}
std::unique_ptr<Transfer> DryBackend::start_upload(const Tensor& out, const Tensor& /*host*/) {
  state_->cross_host_link(out.bytes(), &DryCounts::beside_seconds);
  return std::make_unique<DoneTransfer>();
}
void DryBackend::add(const Tensor& out, const Tensor& a, const Tensor& b) {
  stream({&out, &a, &b});
}
void DryBackend::accumulate(const Tensor& out, const Tensor& in) { stream({&out, &out, &in}); }
void DryBackend::scale(const Tensor& out, double /*factor*/) { stream({&out, &out}); }

void DryBackend::matmul(const Tensor& out, const Tensor& a, const Tensor& b,
                        const MatmulOptions& options) {
  if (state_->profile.kind == "cpu") {
    const auto workspace = state_->matmul_workspaces.of(out, a, b, options);
    state_->transient({workspace.transposed, workspace.scratch});
  }
  const double k = static_cast<double>(a.size(options.transpose_a ? 0 : 1));
  const double bytes = static_cast<double>(a.bytes() + b.bytes()) +
                       static_cast<double>(out.bytes()) * (options.accumulate ? 2 : 1);
  state_->work(2 * k * static_cast<double>(out.elements()), 0, state_->rate_of(a.dtype()), bytes);
}

void DryBackend::rms_norm_forward(const Tensor& out, const Tensor& rstd, const Tensor& x,
                                  const Tensor& weight, const RmsNormOptions& /*options*/) {
  stream({&out, &rstd, &x, &weight});
}
void DryBackend::add_rms_norm_forward(const Tensor& out, const Tensor& rstd, const Tensor& sum,
                                      const Tensor& a, const Tensor& b, const Tensor& weight,
                                      const RmsNormOptions& /*options*/) {
  stream({&out, &rstd, &sum, &a, &b, &weight});
}
void DryBackend::rms_norm_again(const Tensor& out, const Tensor& rstd, const Tensor& x,
                                const Tensor& weight, const RmsNormOptions& /*options*/) {
  stream({&out, &rstd, &x, &weight});
}
void DryBackend::rms_norm_backward(const Tensor& dx, const Tensor& dweight, const Tensor& dy,
                                   const Tensor& residual, const Tensor& rstd, const Tensor& x,
                                   const Tensor& weight, const RmsNormOptions& /*options*/) {
  if (state_->profile.kind == "cuda" && dweight.defined()) {
    state_->transient({rms_norm_backward_scratch_bytes(x.dtype(), x.size(0), weight.size(0))});
  }
  stream({&dx, &dweight, &dweight, &dy, &residual, &rstd, &x, &weight});
}
void DryBackend::layer_norm_forward(const Tensor& out, const Tensor& mean, const Tensor& rstd,
                                    const Tensor& x, const Tensor& weight, const Tensor& bias,
                                    float /*epsilon*/) {
  stream({&out, &mean, &rstd, &x, &weight, &bias});
}
void DryBackend::add_layer_norm_forward(const Tensor& out, const Tensor& mean, const Tensor& rstd,
                                        const Tensor& sum, const Tensor& a, const Tensor& b,
                                        const Tensor& weight, const Tensor& bias,
                                        float /*epsilon*/) {
  stream({&out, &mean, &rstd, &sum, &a, &b, &weight, &bias});
}
void DryBackend::layer_norm_backward(const Tensor& dx, const Tensor& dweight, const Tensor& dbias,
                                     const Tensor& dy, const Tensor& residual, const Tensor& mean,
                                     const Tensor& rstd, const Tensor& x, const Tensor& weight) {
  if (state_->profile.kind == "cuda" && dweight.defined()) {
    state_->transient({layer_norm_backward_scratch_bytes(x.dtype(), x.size(0), x.size(1))});
  }
  stream({&dx, &dweight, &dweight, &dbias, &dbias, &dy, &residual, &mean, &rstd, &x, &weight});
}
void DryBackend::rope_table(const Tensor& table, const Tensor& positions,
                            const std::vector<double>& /*inverse_frequencies*/, double /*scale*/) {
  stream({&table, &positions});
}
void DryBackend::rope(const Tensor& out, const Tensor& x, const Tensor& table, bool /*inverse*/) {
  stream({&out, &x, &table});
}
void DryBackend::quantize(const Tensor& codes, const Tensor& ranges, const Tensor& x) {
  stream({&codes, &ranges, &x});
}
void DryBackend::quantize_at_random(const Tensor& codes, const Tensor& ranges, const Tensor& x,
                                    const CodeRounding& rounding) {
  stream({&codes, &ranges, &x, &rounding.numbers});
}
void DryBackend::dequantize(const Tensor& out, const Tensor& codes, const Tensor& ranges) {
  stream({&out, &codes, &ranges});
}
void DryBackend::nf4_quantize(const Tensor& codes, const Tensor& sizes, const Tensor& x) {
  stream({&codes, &sizes, &x});
}
void DryBackend::nf4_quantize_sizes(const Tensor& codes, const Tensor& scales, const Tensor& sizes,
                                    float /*mean*/) {
  stream({&codes, &scales, &sizes});
}
void DryBackend::nf4_dequantize(const Tensor& out, const Tensor& codes, const Tensor& size_codes,
                                const Tensor& scales, float /*mean*/) {
  stream({&out, &codes, &size_codes, &scales});
}
void DryBackend::gated_forward(const Tensor& out, const Tensor& gate_up,
                               GateActivation /*activation*/) {
  stream({&out, &gate_up});
}
void DryBackend::gated_backward(const Tensor& dgate_up, const Tensor& out, const Tensor& dout,
                                const Tensor& gate_up, GateActivation /*activation*/) {
  stream({&dgate_up, &out, &dout, &gate_up});
}

void DryBackend::add_bias(const Tensor& out, const Tensor& bias) { stream({&out, &out, &bias}); }
void DryBackend::add_product(const Tensor& out, const Tensor& x, const Tensor& y,
                             const Tensor& gate) {
  stream({&out, &x, &y, &gate});
}
void DryBackend::multiply(const Tensor& out, const Tensor& a, const Tensor& b) {
  stream({&out, &a, &b});
}
void DryBackend::bias_backward(const Tensor& dbias, const Tensor& dy) {
  if (state_->profile.kind == "cuda") {
    state_->transient({bias_backward_scratch_bytes(dy.dtype(), dy.size(0), dy.size(1))});
  }
  stream({&dbias, &dbias, &dy});
}
void DryBackend::gelu_forward(const Tensor& out, const Tensor& x) { stream({&out, &x}); }
void DryBackend::gelu_backward(const Tensor& dx, const Tensor& out, const Tensor& dout,
                               const Tensor& x) {
  stream({&dx, &out, &dout, &x});
}

/// cuDNN serves bfloat16 without soft caps alone; kernels of our own do the rest.
bool DryBackend::plain_attention(const Tensor& q, const AttentionOptions& options) const {
  return state_->profile.kind == "cuda" && (q.dtype() != DType::kBFloat16 || options.soft_cap > 0);
}

void DryBackend::attention_forward(const Tensor& out, const Tensor& lse, const Tensor& q,
                                   const Tensor& k, const Tensor& v, const CuSeqlens& cu_seqlens_q,
                                   const CuSeqlens& cu_seqlens_k, const AttentionOptions& options) {
  if (plain_attention(q, options)) {
    state_->transient({PlainAttentionScratch::forward(q, k).bytes});
  } else if (state_->profile.kind == "cuda") {
    const auto scratch =
        FastAttentionScratch::forward(q, attended_documents(cu_seqlens_q, cu_seqlens_k));
    state_->transient({scratch.lengths, scratch.offsets, scratch.statistics, scratch.workspace});
  }
  const double products = 2;  // q k^T and p v
  const double flops = products * 2 * static_cast<double>(q.size(1) * q.size(2)) *
                       pairs_of(cu_seqlens_q, cu_seqlens_k, options);
  const double bytes =
      static_cast<double>(out.bytes() + lse.bytes() + q.bytes() + k.bytes() + v.bytes());
  state_->work(0, flops, state_->rate_of(q.dtype()) * state_->profile.attention_efficiency, bytes);
}

void DryBackend::attention_backward(const Tensor& dq, const Tensor& /*dk*/, const Tensor& /*dv*/,
                                    const Tensor& dout, const Tensor& out, const Tensor& lse,
                                    const Tensor& q, const Tensor& k, const Tensor& v,
                                    const CuSeqlens& cu_seqlens_q, const CuSeqlens& cu_seqlens_k,
                                    const AttentionOptions& options) {
  if (state_->profile.kind == "cpu") {
    state_->transient({cpu::attention_backward_bytes(q.dtype(), q.size(2), cu_seqlens_q,
                                                     cu_seqlens_k, state_->threads)});
  } else if (plain_attention(q, options)) {
    state_->transient({PlainAttentionScratch::backward(q, k).bytes});
  } else {
    const auto scratch = FastAttentionScratch::backward(
        q, k, attended_documents(cu_seqlens_q, cu_seqlens_k), dq.is_dense());
    state_->transient({scratch.dq, scratch.dk_and_dv, scratch.dk_and_dv, scratch.lengths,
                       scratch.offsets, scratch.statistics, scratch.workspace});
  }
  const double products = 5;  // q k^T again, dout v^T, and those that make dq, dk and dv
  const double flops = products * 2 * static_cast<double>(q.size(1) * q.size(2)) *
                       pairs_of(cu_seqlens_q, cu_seqlens_k, options);
  const double bytes = static_cast<double>(2 * (q.bytes() + k.bytes() + v.bytes()) + dout.bytes() +
                                           out.bytes() + lse.bytes());
  state_->work(0, flops, state_->rate_of(q.dtype()) * state_->profile.attention_efficiency, bytes);
}

void DryBackend::attention_merge(const Tensor& out, const Tensor& lse, const Tensor& block_out,
                                 const Tensor& block_lse) {
  stream({&out, &out, &lse, &lse, &block_out, &block_lse});
}

void DryBackend::gather_rows(const Tensor& out, const Tensor& ids, const Tensor& /*table*/) {
  stream({&out, &out, &ids});
}
void DryBackend::embedding_backward(const Tensor& /*dtable*/, const Tensor& dy, const Tensor& ids) {
  if (state_->profile.kind == "cuda") {
    state_->transient({EmbeddingBackwardScratch(ids.size(0), dy.size(1), dy.dtype()).bytes});
  }
  stream({&dy, &dy, &dy, &ids});  // rows of the float32 table are read and written
}
void DryBackend::cross_entropy(const Tensor& nll, const Tensor& dlogits, const Tensor& logits,
                               const Tensor& labels, const CrossEntropyOptions& /*options*/) {
  stream({&nll, &dlogits, &logits, &logits, &labels});
}
double DryBackend::sum(const Tensor& in) {
  if (state_->profile.kind == "cuda") state_->transient({sum_scratch_bytes(in)});
  stream({&in});
  return 0;
}
double DryBackend::sum_of_squares(const Tensor& in) {
  if (state_->profile.kind == "cuda") state_->transient({sum_scratch_bytes(in)});
  stream({&in});
  return 0;
}
void DryBackend::random_normal(const Tensor& out, const base::RandomStream& /*stream*/,
                               double /*deviation*/, std::uint64_t /*first_element*/) {
  stream({&out});
}
void DryBackend::principal_directions(const Tensor& directions, const Tensor& gram) {
  stream({&directions, &gram});
}
void DryBackend::random_uniform(const Tensor& out, const base::RandomStream& /*stream*/,
                                double /*bound*/, std::uint64_t /*first_element*/) {
  stream({&out});
}
void DryBackend::dropout(const Tensor& out, const Tensor& x, const Tensor& numbers,
                         const base::RandomStream& /*stream*/, double /*probability*/) {
  stream({&out, &x, &numbers});
}
void DryBackend::adamw(const Tensor& weight, const Tensor& master, const Tensor& moment1,
                       const Tensor& moment2, const Tensor& gradient,
                       const AdamWOptions& /*options*/) {
  stream({&weight, &master, &master, &moment1, &moment1, &moment2, &moment2, &gradient});
}
void DryBackend::project(const Tensor& out, const Tensor& x, const Tensor& direction,
                         double /*scale*/) {
  stream({&out, &x, &direction});
}
void DryBackend::row_norms(const Tensor& norms, const Tensor& x) { stream({&norms, &x}); }
void DryBackend::scale_rows(const Tensor& out, const Tensor& factors) {
  stream({&out, &out, &factors});
}
DrawnRows DryBackend::draw_rows(const Tensor& rows, const Tensor& weights, const Tensor& x_norms,
                                const Tensor& dy_norms, const Tensor& numbers,
                                const RowDraw& options) {
  stream({&rows, &weights, &x_norms, &dy_norms, &numbers});
  return {.count = std::llround(options.ratio * static_cast<double>(x_norms.size(0)))};
}
void DryBackend::adamw_compressed(const Tensor& weight, const Tensor& master, const Tensor& moment1,
                                  const Tensor& moment2, const Tensor& gradient,
                                  const Tensor& direction, const AdamWOptions& /*options*/) {
  stream(
      {&weight, &master, &master, &moment1, &moment1, &moment2, &moment2, &gradient, &direction});
}
void DryBackend::adamw_8bit(const Tensor& weight, const Tensor& master, const Tensor& codes1,
                            const Tensor& scales1, const Tensor& codes2, const Tensor& scales2,
                            const Tensor& gradient, const AdamWOptions& /*options*/) {
  stream({&weight, &master, &master, &codes1, &codes1, &scales1, &scales1, &codes2, &codes2,
          &scales2, &scales2, &gradient});
}

}  // namespace longspan::backend
