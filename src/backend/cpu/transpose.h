#pragma once

#include "longspan/backend/tensor.h"

namespace longspan::backend::cpu {

/// out[columns, rows] = in[rows, columns] transposed; both bfloat16, out dense. For products whose
/// left operand is stored transposed: oneDNN's own copy of it takes longer than this.
void transpose_bfloat16(const Tensor& out, const Tensor& in);

}  // namespace longspan::backend::cpu
