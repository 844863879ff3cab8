#include "backend/contracts.h"

#include <fmt/format.h>

#include <algorithm>

#include "backend/checks.h"

namespace longspan::backend {
namespace {

using base::DType;

void expect_float(const char* operation, const char* name, const Tensor& tensor) {
  dispatch_float(operation, name, tensor, []<typename T>() {});
}

void expect_ids(const char* operation, const char* name, const Tensor& ids) {
  expect_rank(operation, name, ids, 1);
  expect(operation, name, ids, DType::kInt32, {ids.size(0)});
}

bool ends_with(const CuSeqlens& offsets, Index tokens) {
  return !offsets.empty() && offsets.front() == 0 && offsets.back() == tokens &&
         std::is_sorted(offsets.begin(), offsets.end());
}

}  // namespace

void check_attention(const Tensor& out, const Tensor& lse, const Tensor& q, const Tensor& k,
                     const Tensor& v, const CuSeqlens& cu_seqlens_q,
                     const CuSeqlens& cu_seqlens_k) {
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
                         const Tensor& labels) {
  constexpr const char* kName = "cross_entropy";
  expect_rank(kName, "logits", logits, 2);
  expect_float(kName, "logits", logits);
  expect(kName, "labels", labels, DType::kInt32, {logits.size(0)});
  const DType wide = compute_dtype(logits.dtype());
  expect(kName, "nll", nll, wide, {logits.size(0)});
  if (!dlogits.defined()) return;
  expect_float(kName, "dlogits", dlogits);
  expect(kName, "dlogits", dlogits, dlogits.dtype(), logits.shape());
  if (compute_dtype(dlogits.dtype()) != wide) {
    contract_broken(kName, "dlogits", dlogits,
                    wide == DType::kFloat64 ? "float64" : "float32 or bfloat16");
  }
}

void check_adamw(const Tensor& weight, const Tensor& master, const Tensor& moment1,
                 const Tensor& moment2, const Tensor& gradient, const AdamWOptions& options) {
  constexpr const char* kName = "adamw";
  expect_rank(kName, "master", master, 1);
  expect_float(kName, "master", master);
  if (options.update < 1) {
    contract_broken(kName, "update is " + std::to_string(options.update) + "; expected 1 or more");
  }
  const DType dtype = compute_dtype(master.dtype());
  const Shape shape{master.size(0)};
  expect(kName, "master", master, dtype, shape);
  expect(kName, "moment1", moment1, dtype, shape);
  expect(kName, "moment2", moment2, dtype, shape);
  expect(kName, "gradient", gradient, dtype, shape);
  if (!weight.defined()) return;
  expect_float(kName, "weight", weight);
  expect(kName, "weight", weight, weight.dtype(), shape);
  if (compute_dtype(weight.dtype()) != dtype) {
    contract_broken(kName, "weight", weight, "the width of master, " + describe(master));
  }
}

}  // namespace longspan::backend
