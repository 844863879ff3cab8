#include "backend/contracts.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <utility>

#include "backend/checks.h"

namespace longspan::backend {

void expect_float(const char* operation, const char* name, const Tensor& tensor) {
  dispatch_float(operation, name, tensor, []<typename T>() {});
}

namespace {

void expect_same_shape(const char* operation, const char* name, const Tensor& tensor,
                       const Tensor& out) {
  if (!tensor.defined() || tensor.shape() != out.shape()) {
    contract_broken(operation, name, tensor, "the shape " + out.shape().to_string() + " of out");
  }
}

void expect_gated(const char* operation, const Tensor& gate_up, const char* name,
                  const Tensor& product) {
  expect_rank(operation, "gate_up", gate_up, 2);
  if (gate_up.size(1) % 2 != 0) {
    contract_broken(operation, "gate_up", gate_up, "an even number of columns");
  }
  expect(operation, name, product, gate_up.dtype(), {gate_up.size(0), gate_up.size(1) / 2});
  expect_float(operation, "gate_up", gate_up);
}

/// Of a norm that first makes its input.
void expect_sum(const char* operation, const Tensor& sum, const Tensor& a, const Tensor& b) {
  expect_rank(operation, "sum", sum, 2);
  expect(operation, "a", a, sum.dtype(), sum.shape());
  expect(operation, "b", b, sum.dtype(), sum.shape());
}

/// Of every norm: `width` elements are normalised together, and have statistics of this shape.
void expect_norm(const char* operation, const Tensor& out, const Tensor& rstd, const Tensor& x,
                 const Tensor& weight, Index width, const Shape& statistics) {
  expect(operation, "out", out, x.dtype(), x.shape());
  expect(operation, "rstd", rstd, compute_dtype(x.dtype()), statistics);
  expect(operation, "weight", weight, x.dtype(), {width});
  expect_float(operation, "x", x);
}

void expect_norm_backward(const char* operation, const Tensor& dweight, const Tensor& dy,
                          const Tensor& residual, const Tensor& x, Index width) {
  if (dweight.defined()) {
    expect(operation, "dweight", dweight, compute_dtype(x.dtype()), {width});
  }
  expect(operation, "dy", dy, x.dtype(), x.shape());
  if (residual.defined()) expect(operation, "residual", residual, x.dtype(), x.shape());
}

void expect_ids(const char* operation, const char* name, const Tensor& ids) {
  expect_rank(operation, name, ids, 1);
  expect(operation, name, ids, base::DType::kInt32, {ids.size(0)});
}

void expect_cap(const char* operation, float soft_cap) {
  if (std::isfinite(soft_cap) && soft_cap >= 0) return;
  contract_broken(operation, fmt::format("a soft cap of {}; expected 0 or more", soft_cap));
}

bool ends_with(const CuSeqlens& offsets, Index tokens) {
  return !offsets.empty() && offsets.front() == 0 && offsets.back() == tokens &&
         std::is_sorted(offsets.begin(), offsets.end());
}

}  // namespace

void check_defined(const char* operation, const char* name, const Tensor& tensor) {
  if (!tensor.defined()) contract_broken(operation, name, tensor, "a tensor");
}

void check_copy(const Tensor& out, const Tensor& in) {
  check_defined("copy", "out", out);
  expect_same_shape("copy", "in", in, out);
  if (out.dtype() == in.dtype()) return;
  expect_float("copy", "out", out);
  expect_float("copy", "in", in);
}

void check_copy_all(const std::vector<Tensor>& outs, const std::vector<Tensor>& ins) {
  constexpr const char* kName = "copy_all";
  if (outs.size() != ins.size()) {
    contract_broken(kName, fmt::format("{} outs for {} ins", outs.size(), ins.size()));
  }
  for (std::size_t i = 0; i < outs.size(); ++i) {
    check_defined(kName, "an out", outs[i]);
    expect(kName, "an out", outs[i], outs[0].dtype(), outs[i].shape());
    expect(kName, "an in", ins[i], outs[i].dtype(), outs[i].shape());
  }
}

void check_add(const Tensor& out, const Tensor& a, const Tensor& b) {
  expect_float("add", "out", out);
  expect("add", "a", a, out.dtype(), out.shape());
  expect("add", "b", b, out.dtype(), out.shape());
}

void check_accumulate(const Tensor& out, const Tensor& in) {
  if (!out.defined() || out.dtype() != compute_dtype(out.dtype())) {
    contract_broken("accumulate", "out", out, "float32 or float64");
  }
  const bool mixed = out.dtype() == base::DType::kFloat32 && in.dtype() == base::DType::kBFloat16;
  if (out.dtype() != in.dtype() && !mixed) {
    contract_broken("accumulate", "in", in, "float32, or bfloat16 into float32");
  }
  expect_same_shape("accumulate", "in", in, out);
}

void check_scale(const Tensor& out) { expect_float("scale", "out", out); }

void check_rms_norm(const char* operation, const Tensor& out, const Tensor& rstd, const Tensor& x,
                    const Tensor& weight) {
  if (x.rank() == 3) {
    return expect_norm(operation, out, rstd, x, weight, x.size(2), {x.size(0), x.size(1)});
  }
  expect_rank(operation, "x", x, 2);
  expect_norm(operation, out, rstd, x, weight, x.size(1), {x.size(0)});
}

void check_add_rms_norm(const Tensor& out, const Tensor& rstd, const Tensor& sum, const Tensor& a,
                        const Tensor& b, const Tensor& weight) {
  constexpr const char* kName = "add_rms_norm_forward";
  expect_sum(kName, sum, a, b);
  check_rms_norm(kName, out, rstd, sum, weight);
}

void check_rms_norm_backward(const Tensor& dx, const Tensor& dweight, const Tensor& dy,
                             const Tensor& residual, const Tensor& rstd, const Tensor& x,
                             const Tensor& weight) {
  constexpr const char* kName = "rms_norm_backward";
  check_rms_norm(kName, dx, rstd, x, weight);
  expect_norm_backward(kName, dweight, dy, residual, x, weight.size(0));
}

void check_layer_norm(const char* operation, const Tensor& out, const Tensor& mean,
                      const Tensor& rstd, const Tensor& x, const Tensor& weight,
                      const Tensor& bias) {
  expect_rank(operation, "x", x, 2);
  expect_norm(operation, out, rstd, x, weight, x.size(1), {x.size(0)});
  expect(operation, "mean", mean, compute_dtype(x.dtype()), {x.size(0)});
  expect(operation, "bias", bias, x.dtype(), {x.size(1)});
}

void check_add_layer_norm(const Tensor& out, const Tensor& mean, const Tensor& rstd,
                          const Tensor& sum, const Tensor& a, const Tensor& b, const Tensor& weight,
                          const Tensor& bias) {
  constexpr const char* kName = "add_layer_norm_forward";
  expect_sum(kName, sum, a, b);
  check_layer_norm(kName, out, mean, rstd, sum, weight, bias);
}

void check_layer_norm_backward(const Tensor& dx, const Tensor& dweight, const Tensor& dbias,
                               const Tensor& dy, const Tensor& residual, const Tensor& mean,
                               const Tensor& rstd, const Tensor& x, const Tensor& weight) {
  constexpr const char* kName = "layer_norm_backward";
  expect_rank(kName, "x", x, 2);
  expect_norm(kName, dx, rstd, x, weight, x.size(1), {x.size(0)});
  expect_norm_backward(kName, dweight, dy, residual, x, x.size(1));
  if (dweight.defined() != dbias.defined()) {
    contract_broken(kName, "dbias", dbias, "a tensor, or none, as dweight");
  }
  if (dbias.defined()) expect(kName, "dbias", dbias, compute_dtype(x.dtype()), {x.size(1)});
  expect(kName, "mean", mean, compute_dtype(x.dtype()), {x.size(0)});
}

void check_rope_table(const Tensor& table, const Tensor& positions, std::size_t frequencies) {
  constexpr const char* kName = "rope_table";
  expect_rank(kName, "positions", positions, 1);
  expect(kName, "positions", positions, base::DType::kInt32, {positions.size(0)});
  expect_float(kName, "table", table);
  expect(kName, "table", table, compute_dtype(table.dtype()),
         {positions.size(0), 2 * static_cast<Index>(frequencies)});
}

void check_rope(const Tensor& out, const Tensor& x, const Tensor& table) {
  expect_rank("rope", "x", x, 3);
  if (x.size(2) % 2 != 0) contract_broken("rope", "x", x, "an even head_dim");
  expect("rope", "out", out, x.dtype(), x.shape());
  expect("rope", "table", table, compute_dtype(x.dtype()), {x.size(0), x.size(2)});
  expect_float("rope", "x", x);
}

void check_codes(const char* operation, const char* name, const Tensor& x, const Tensor& codes,
                 const Tensor& ranges) {
  expect_rank(operation, name, x, 2);
  expect_float(operation, name, x);
  expect(operation, "codes", codes, base::DType::kUInt8, x.shape());
  expect_rank(operation, "ranges", ranges, 2);
  const Index numbers = ranges.size(1);
  if (numbers < 2 || numbers % 2 != 0 || x.size(1) % (numbers / 2) != 0) {
    contract_broken(operation, "ranges", ranges, "two columns for each of equal blocks of a row");
  }
  expect(operation, "ranges", ranges, compute_dtype(x.dtype()), {x.size(0), numbers});
}

void check_random_codes(const Tensor& x, const Tensor& codes, const Tensor& ranges,
                        const CodeRounding& rounding) {
  constexpr const char* kName = "quantize_at_random";
  check_codes(kName, "x", x, codes, ranges);
  expect(kName, "numbers", rounding.numbers, base::DType::kInt32, {x.size(0)});
  const Index end = rounding.first_column + x.size(1);
  if (rounding.first_column >= 0 && end <= rounding.columns) return;
  contract_broken(kName, fmt::format("columns {} to {} of a row; expected some of its {}",
                                     rounding.first_column, end, rounding.columns));
}

void check_gated_forward(const Tensor& out, const Tensor& gate_up) {
  expect_gated("gated_forward", gate_up, "out", out);
}

void check_gated_backward(const Tensor& dgate_up, const Tensor& out, const Tensor& dout,
                          const Tensor& gate_up) {
  constexpr const char* kName = "gated_backward";
  expect_gated(kName, gate_up, "dout", dout);
  expect(kName, "dgate_up", dgate_up, gate_up.dtype(), gate_up.shape());
  if (out.defined()) expect(kName, "out", out, dout.dtype(), dout.shape());
}

void check_add_bias(const Tensor& out, const Tensor& bias) {
  constexpr const char* kName = "add_bias";
  expect_rank(kName, "out", out, 2);
  expect_float(kName, "out", out);
  expect(kName, "bias", bias, out.dtype(), {out.size(1)});
}

void check_add_product(const Tensor& out, const Tensor& x, const Tensor& y, const Tensor& gate) {
  constexpr const char* kName = "add_product";
  expect_rank(kName, "out", out, 2);
  expect_float(kName, "out", out);
  if (x.defined()) expect(kName, "x", x, out.dtype(), out.shape());
  expect(kName, "y", y, out.dtype(), out.shape());
  expect(kName, "gate", gate, out.dtype(), {out.size(1)});
}

void check_multiply(const Tensor& out, const Tensor& a, const Tensor& b) {
  constexpr const char* kName = "multiply";
  expect_float(kName, "out", out);
  expect(kName, "a", a, out.dtype(), out.shape());
  expect(kName, "b", b, out.dtype(), out.shape());
}

void check_bias_backward(const Tensor& dbias, const Tensor& dy) {
  constexpr const char* kName = "bias_backward";
  expect_rank(kName, "dy", dy, 2);
  expect_float(kName, "dy", dy);
  expect(kName, "dbias", dbias, compute_dtype(dy.dtype()), {dy.size(1)});
}

void check_gelu_forward(const Tensor& out, const Tensor& x) {
  constexpr const char* kName = "gelu_forward";
  expect_rank(kName, "x", x, 2);
  expect_float(kName, "x", x);
  expect(kName, "out", out, x.dtype(), x.shape());
}

void check_gelu_backward(const Tensor& dx, const Tensor& out, const Tensor& dout, const Tensor& x) {
  constexpr const char* kName = "gelu_backward";
  expect_rank(kName, "x", x, 2);
  expect_float(kName, "x", x);
  expect(kName, "dx", dx, x.dtype(), x.shape());
  expect(kName, "dout", dout, x.dtype(), x.shape());
  if (out.defined()) expect(kName, "out", out, x.dtype(), x.shape());
}

void check_attention(const Tensor& out, const Tensor& lse, const Tensor& q, const Tensor& k,
                     const Tensor& v, const CuSeqlens& cu_seqlens_q, const CuSeqlens& cu_seqlens_k,
                     const AttentionOptions& options) {
  constexpr Index kMostTokens = std::numeric_limits<std::int32_t>::max();
  if (options.window < 0 || options.window > kMostTokens ||
      (options.window > 0 && !options.causal)) {
    contract_broken("attention",
                    fmt::format("a window of {} keys, {}causal; expected 0 to {}, and "
                                "0 unless causal",
                                options.window, options.causal ? "" : "not ", kMostTokens));
  }
  expect_cap("attention", options.soft_cap);
  const bool ranks = q.rank() == 3 && k.rank() == 3 && lse.rank() == 2;
  if (ranks && out.shape() == q.shape() && v.shape() == k.shape() && k.size(1) > 0 &&
      q.size(1) % k.size(1) == 0 && q.size(2) == k.size(2) &&
      lse.shape() == Shape{q.size(1), q.size(0)} && out.dtype() == q.dtype() &&
      k.dtype() == q.dtype() && v.dtype() == q.dtype() && lse.dtype() == compute_dtype(q.dtype()) &&
      ends_with(cu_seqlens_q, q.size(0)) && ends_with(cu_seqlens_k, k.size(0)) &&
      cu_seqlens_q.size() == cu_seqlens_k.size()) {
    return;
  }
  throw base::InternalError(fmt::format(
      "attention: q {} {}, k {}, v {}, out {}, lse {} {}, {} and {} boundaries do not fit together",
      base::name_of(q.dtype()), q.shape().to_string(), k.shape().to_string(), v.shape().to_string(),
      out.shape().to_string(), base::name_of(lse.dtype()), lse.shape().to_string(),
      cu_seqlens_q.size(), cu_seqlens_k.size()));
}

void check_attention_merge(const Tensor& out, const Tensor& lse, const Tensor& block_out,
                           const Tensor& block_lse) {
  constexpr const char* kName = "attention_merge";
  expect_rank(kName, "out", out, 3);
  const Shape statistics{out.size(1), out.size(0)};
  expect(kName, "out", out, compute_dtype(block_out.dtype()), block_out.shape());
  expect(kName, "lse", lse, out.dtype(), statistics);
  expect(kName, "block_lse", block_lse, out.dtype(), statistics);
}

void check_gather_rows(const Tensor& out, const Tensor& ids, const Tensor& table) {
  constexpr const char* kName = "gather_rows";
  expect_rank(kName, "table", table, 2);
  expect_float(kName, "table", table);
  expect_ids(kName, "ids", ids);
  expect(kName, "out", out, table.dtype(), {ids.size(0), table.size(1)});
}

void check_embedding_backward(const Tensor& dtable, const Tensor& dy, const Tensor& ids) {
  constexpr const char* kName = "embedding_backward";
  expect_rank(kName, "dtable", dtable, 2);
  expect_ids(kName, "ids", ids);
  expect_float(kName, "dy", dy);
  expect(kName, "dtable", dtable, compute_dtype(dy.dtype()), dtable.shape());
  expect(kName, "dy", dy, dy.dtype(), {ids.size(0), dtable.size(1)});
}

void check_cross_entropy(const Tensor& nll, const Tensor& dlogits, const Tensor& logits,
                         const Tensor& labels, const CrossEntropyOptions& options) {
  constexpr const char* kName = "cross_entropy";
  expect_cap(kName, options.soft_cap);
  expect_rank(kName, "logits", logits, 2);
  expect_float(kName, "logits", logits);
  expect(kName, "labels", labels, base::DType::kInt32, {logits.size(0)});
  const base::DType wide = compute_dtype(logits.dtype());
  expect(kName, "nll", nll, wide, {logits.size(0)});
  if (!dlogits.defined()) return;
  expect_float(kName, "dlogits", dlogits);
  expect(kName, "dlogits", dlogits, dlogits.dtype(), logits.shape());
  if (compute_dtype(dlogits.dtype()) != wide) {
    contract_broken(kName, "dlogits", dlogits,
                    wide == base::DType::kFloat64 ? "float64" : "float32 or bfloat16");
  }
}

void check_dropout(const Tensor& out, const Tensor& x, const Tensor& numbers, double probability) {
  constexpr const char* kName = "dropout";
  expect_rank(kName, "x", x, 2);
  expect_float(kName, "x", x);
  expect(kName, "out", out, x.dtype(), x.shape());
  expect(kName, "numbers", numbers, base::DType::kInt32, {x.size(0)});
  if (probability >= 0.0 && probability < 1.0) return;
  contract_broken(kName, fmt::format("a probability of {}; expected one in [0, 1)", probability));
}

}  // namespace longspan::backend
