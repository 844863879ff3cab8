#include "longspan/checkpoint/convert.h"

#include <cmath>
#include <cstring>
#include <type_traits>

#include "longspan/base/bfloat16.h"
#include "longspan/base/error.h"
#include "longspan/base/float16.h"

namespace longspan::checkpoint {
namespace {

using base::DType;

template <typename Visit>
auto with_type(DType dtype, Visit&& visit) {
  switch (dtype) {
    case DType::kFloat64:
      return visit.template operator()<double>();
    case DType::kFloat32:
      return visit.template operator()<float>();
    case DType::kBFloat16:
      return visit.template operator()<base::BFloat16>();
    case DType::kFloat16:
      return visit.template operator()<base::Float16>();
    default:
      throw base::InternalError(std::string("weights of the type ") + base::name_of(dtype));
  }
}

template <typename T>
T load(const void* from, std::size_t index) {
  T value;
  std::memcpy(&value, static_cast<const std::byte*>(from) + index * sizeof(T), sizeof(T));
  return value;
}

/// double and float as they are, the half types as float.
template <typename T>
auto wide(T value) {
  if constexpr (std::is_same_v<T, double>)
    return value;
  else
    return static_cast<float>(value);
}

template <typename To, typename From>
To narrow(From value) {
  if constexpr (std::is_floating_point_v<To>)
    return static_cast<To>(value);
  else
    return To(static_cast<float>(value));
}

}  // namespace

bool is_float(DType dtype) {
  return dtype == DType::kFloat64 || dtype == DType::kFloat32 || dtype == DType::kBFloat16 ||
         dtype == DType::kFloat16;
}

void convert(void* out, DType to, const void* in, DType from, std::size_t count) {
  if (count == 0) return;  // a rank's share may be empty, and its pointers null
  if (to == from && is_float(to)) {
    std::memcpy(out, in, count * base::size_of(to));
    return;
  }
  with_type(to, [&]<typename To>() {
    with_type(from, [&]<typename From>() {
      for (std::size_t i = 0; i < count; ++i) {
        const To value = narrow<To>(wide(load<From>(in, i)));
        std::memcpy(static_cast<std::byte*>(out) + i * sizeof(To), &value, sizeof(To));
      }
    });
  });
}

std::size_t first_not_finite(const void* numbers, DType dtype, std::size_t count) {
  return with_type(dtype, [&]<typename T>() {
    for (std::size_t i = 0; i < count; ++i) {
      if (!std::isfinite(wide(load<T>(numbers, i)))) return i;
    }
    return count;
  });
}

}  // namespace longspan::checkpoint
