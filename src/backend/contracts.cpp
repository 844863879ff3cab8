#include "backend/contracts.h"

#include "backend/checks.h"

namespace longspan::backend {
namespace {

void expect_same_shape(const char* operation, const char* name, const Tensor& tensor,
                       const Tensor& out) {
  if (!tensor.defined() || tensor.shape() != out.shape()) {
    contract_broken(operation, name, tensor, "the shape " + out.shape().to_string() + " of out");
  }
}

void expect_float(const char* operation, const char* name, const Tensor& tensor) {
  dispatch_float(operation, name, tensor, []<typename T>() {});
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

void check_rms_norm(const char* operation, const Tensor& out, const Tensor& rstd, const Tensor& x,
                    const Tensor& weight) {
  expect_rank(operation, "x", x, 2);
  expect(operation, "out", out, x.dtype(), x.shape());
  expect(operation, "rstd", rstd, compute_dtype(x.dtype()), {x.size(0)});
  expect(operation, "weight", weight, x.dtype(), {x.size(1)});
  expect_float(operation, "x", x);
}

void check_rms_norm_backward(const Tensor& dx, const Tensor& dweight, const Tensor& dy,
                             const Tensor& residual, const Tensor& rstd, const Tensor& x,
                             const Tensor& weight) {
  constexpr const char* kName = "rms_norm_backward";
  check_rms_norm(kName, dx, rstd, x, weight);
  expect(kName, "dweight", dweight, compute_dtype(x.dtype()), {x.size(1)});
  expect(kName, "dy", dy, x.dtype(), x.shape());
  if (residual.defined()) expect(kName, "residual", residual, x.dtype(), x.shape());
}

void check_rope_table(const Tensor& table, const Tensor& positions, std::size_t frequencies) {
  constexpr const char* kName = "rope_table";
  expect_rank(kName, "positions", positions, 1);
  expect(kName, "positions", positions, base::DType::kInt32, {positions.size(0)});
  expect_float(kName, "table", table);
  expect(kName, "table", table, compute_dtype(table.dtype()),
         {positions.size(0), 2 * static_cast<Index>(frequencies)});
}

void check_rope(const Tensor& x, const Tensor& table) {
  expect_rank("rope", "x", x, 3);
  if (x.size(2) % 2 != 0) contract_broken("rope", "x", x, "an even head_dim");
  expect("rope", "table", table, compute_dtype(x.dtype()), {x.size(0), x.size(2)});
  expect_float("rope", "x", x);
}

void check_swiglu_forward(const Tensor& out, const Tensor& gate_up) {
  expect_gated("swiglu_forward", gate_up, "out", out);
}

void check_swiglu_backward(const Tensor& dgate_up, const Tensor& out, const Tensor& dout,
                           const Tensor& gate_up) {
  constexpr const char* kName = "swiglu_backward";
  expect_gated(kName, gate_up, "dout", dout);
  expect(kName, "dgate_up", dgate_up, gate_up.dtype(), gate_up.shape());
  if (out.defined()) expect(kName, "out", out, dout.dtype(), dout.shape());
}

}  // namespace longspan::backend
