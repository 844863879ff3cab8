#pragma once

#include <cstddef>

#include "longspan/base/dtype.h"

namespace longspan::checkpoint {

/// float64, float32, bfloat16 or float16: what weights may be in files.
bool is_float(base::DType dtype);

/// Converts `count` numbers of these float types, rounding to nearest with ties to even (of
/// float64 to the half types: by way of float32); the memory need not be aligned, and must not
/// overlap. Throws InternalError for other types.
void convert(void* out, base::DType to, const void* in, base::DType from, std::size_t count);

/// The first number that is infinite or not a number; `count` when all are finite.
std::size_t first_not_finite(const void* numbers, base::DType dtype, std::size_t count);

}  // namespace longspan::checkpoint
