// Contracts of what training alone does: gradients in part, optimizers, and weights in 4 bits.
#include <fmt/format.h>

#include <cmath>
#include <utility>

#include "backend/checks.h"
#include "backend/contracts.h"
#include "backend/divide_up.h"

namespace longspan::backend {

namespace {

/// What every AdamW has, whatever its moments and gradient.
void expect_weights(const char* name, const Tensor& weight, const Tensor& master,
                    const AdamWOptions& options) {
  expect_rank(name, "master", master, 1);
  expect_float(name, "master", master);
  if (options.update < 1) {
    contract_broken(name, "update is " + std::to_string(options.update) + "; expected 1 or more");
  }
  const base::DType dtype = compute_dtype(master.dtype());
  const Shape shape{master.size(0)};
  expect(name, "master", master, dtype, shape);
  if (!weight.defined()) return;
  expect_float(name, "weight", weight);
  expect(name, "weight", weight, weight.dtype(), shape);
  if (compute_dtype(weight.dtype()) != dtype) {
    contract_broken(name, "weight", weight, "the width of master, " + describe(master));
  }
}

void expect_adamw(const char* name, const Tensor& weight, const Tensor& master,
                  const Tensor& gradient, const AdamWOptions& options) {
  expect_weights(name, weight, master, options);
  expect(name, "gradient", gradient, master.dtype(), {master.size(0)});
}

}  // namespace

void check_adamw(const Tensor& weight, const Tensor& master, const Tensor& moment1,
                 const Tensor& moment2, const Tensor& gradient, const AdamWOptions& options) {
  constexpr const char* kName = "adamw";
  expect_adamw(kName, weight, master, gradient, options);
  const Shape shape{master.size(0)};
  const bool is_rounded = options.rounding.has_value();
  const base::DType dtype = is_rounded ? base::DType::kBFloat16 : master.dtype();
  if (is_rounded) expect(kName, "master", master, base::DType::kFloat32, shape);
  expect(kName, "moment1", moment1, dtype, shape);
  expect(kName, "moment2", moment2, dtype, shape);
}

void check_project(const Tensor& out, const Tensor& x, const Tensor& direction) {
  constexpr const char* kName = "project";
  expect_rank(kName, "direction", direction, 1);
  expect_rank(kName, "out", out, 2);
  expect_float(kName, "x", x);
  expect(kName, "direction", direction, compute_dtype(x.dtype()), direction.shape());
  expect(kName, "out", out, x.dtype(), out.shape());
  expect(kName, "x", x, x.dtype(), {out.size(0), out.size(1) * direction.size(0)});
}

void check_row_norms(const Tensor& norms, const Tensor& x) {
  constexpr const char* kName = "row_norms";
  expect_rank(kName, "x", x, 2);
  expect_float(kName, "x", x);
  expect(kName, "norms", norms, compute_dtype(x.dtype()), {x.size(0)});
}

void check_scale_rows(const Tensor& out, const Tensor& factors) {
  constexpr const char* kName = "scale_rows";
  expect_rank(kName, "out", out, 2);
  expect_float(kName, "out", out);
  expect(kName, "factors", factors, compute_dtype(out.dtype()), {out.size(0)});
}

void check_draw_rows(const Tensor& rows, const Tensor& weights, const Tensor& x_norms,
                     const Tensor& dy_norms, const Tensor& numbers, const RowDraw& options) {
  constexpr const char* kName = "draw_rows";
  expect_rank(kName, "x_norms", x_norms, 1);
  expect_rank(kName, "rows", rows, 1);
  const base::DType dtype = compute_dtype(x_norms.dtype());
  expect(kName, "x_norms", x_norms, dtype, x_norms.shape());
  expect(kName, "dy_norms", dy_norms, dtype, x_norms.shape());
  expect(kName, "numbers", numbers, base::DType::kInt32, x_norms.shape());
  expect(kName, "rows", rows, base::DType::kInt32, rows.shape());
  expect(kName, "weights", weights, dtype, rows.shape());
  if (rows.size(0) < x_norms.size(0)) {
    contract_broken(kName, "rows", rows, "at least " + x_norms.shape().to_string());
  }
  if (!(options.factor >= 0)) {
    contract_broken(kName, "the factor is " + std::to_string(options.factor) + "; expected >= 0");
  }
}

void check_adamw_compressed(const Tensor& weight, const Tensor& master, const Tensor& moment1,
                            const Tensor& moment2, const Tensor& gradient, const Tensor& direction,
                            const AdamWOptions& options) {
  constexpr const char* kName = "adamw_compressed";
  expect_rank(kName, "gradient", gradient, 1);
  expect_rank(kName, "direction", direction, 1);
  expect_weights(kName, weight, master, options);
  expect(kName, "master", master, master.dtype(), {gradient.size(0) * direction.size(0)});
  for (const auto& [name, tensor] :
       {std::pair{"gradient", &gradient}, {"moment1", &moment1}, {"moment2", &moment2}}) {
    expect(kName, name, *tensor, master.dtype(), gradient.shape());
  }
  expect(kName, "direction", direction, master.dtype(), direction.shape());
  if (options.rounding) contract_broken(kName, "moments are not rounded here");
}

void check_principal_directions(const Tensor& directions, const Tensor& gram) {
  constexpr const char* kName = "principal_directions";
  expect_rank(kName, "gram", gram, 2);
  expect_rank(kName, "directions", directions, 2);
  const base::DType dtype = compute_dtype(gram.dtype());
  expect(kName, "gram", gram, dtype, {gram.size(0), gram.size(0)});
  expect(kName, "directions", directions, dtype, {directions.size(0), gram.size(0)});
  if (directions.size(0) > gram.size(0)) {
    contract_broken(kName, "directions", directions, "at most as many rows as columns");
  }
  for (const auto& [name, tensor] : {std::pair{"gram", &gram}, {"directions", &directions}}) {
    if (!tensor->is_dense()) contract_broken(kName, name, *tensor, "a dense matrix");
  }
}

void check_adamw_8bit(const Tensor& weight, const Tensor& master, const Tensor& codes1,
                      const Tensor& scales1, const Tensor& codes2, const Tensor& scales2,
                      const Tensor& gradient, const AdamWOptions& options) {
  constexpr const char* kName = "adamw_8bit";
  expect_adamw(kName, weight, master, gradient, options);
  const Shape shape{master.size(0)};
  expect(kName, "master", master, base::DType::kFloat32, shape);
  const Shape blocks{(master.size(0) + kMomentBlock - 1) / kMomentBlock};
  expect(kName, "codes1", codes1, base::DType::kUInt8, shape);
  expect(kName, "scales1", scales1, base::DType::kFloat32, blocks);
  expect(kName, "codes2", codes2, base::DType::kUInt8, shape);
  expect(kName, "scales2", scales2, base::DType::kFloat32, blocks);
}

namespace {

Shape blocks_of(Index elements, Index block) { return {divide_up(elements, block)}; }

}  // namespace

void check_nf4_quantize(const Tensor& codes, const Tensor& sizes, const Tensor& x) {
  constexpr const char* kName = "nf4_quantize";
  expect_rank(kName, "x", x, 1);
  expect_float(kName, "x", x);
  expect(kName, "codes", codes, base::DType::kUInt8, blocks_of(x.size(0), 2));
  expect(kName, "sizes", sizes, base::DType::kFloat32, blocks_of(x.size(0), kNf4Block));
}

void check_nf4_quantize_sizes(const Tensor& codes, const Tensor& scales, const Tensor& sizes) {
  constexpr const char* kName = "nf4_quantize_sizes";
  expect_rank(kName, "sizes", sizes, 1);
  expect(kName, "sizes", sizes, base::DType::kFloat32, sizes.shape());
  expect(kName, "codes", codes, base::DType::kUInt8, sizes.shape());
  expect(kName, "scales", scales, base::DType::kFloat32, blocks_of(sizes.size(0), kNf4Scales));
}

void check_nf4_dequantize(const Tensor& out, const Tensor& codes, const Tensor& size_codes,
                          const Tensor& scales) {
  constexpr const char* kName = "nf4_dequantize";
  expect_rank(kName, "out", out, 1);
  expect_float(kName, "out", out);
  expect(kName, "codes", codes, base::DType::kUInt8, blocks_of(out.size(0), 2));
  const Shape blocks = blocks_of(out.size(0), kNf4Block);
  expect(kName, "size_codes", size_codes, base::DType::kUInt8, blocks);
  expect(kName, "scales", scales, base::DType::kFloat32, blocks_of(blocks[0], kNf4Scales));
}

}  // namespace longspan::backend
