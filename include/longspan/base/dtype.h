#pragma once

#include <cstddef>
#include <cstdint>

namespace longspan::base {

/// Element types a tensor or a file can hold. `kFloat64` exists for oracles and gradient checks:
/// the whole model runs in it, slowly. `kFloat16` and `kBool` are of files alone: nothing computes
/// in them.
enum class DType : std::uint8_t {
  kFloat64,
  kFloat32,
  kBFloat16,
  kFloat16,
  kInt64,
  kInt32,
  kUInt16,
  kUInt8,
  kBool
};

/// Bytes of one element.
std::size_t size_of(DType dtype);

/// "float64", "float32", "bfloat16", "float16", "int64", "int32", "uint16", "uint8", "bool": the
/// names of PyTorch.
const char* name_of(DType dtype);

}  // namespace longspan::base
