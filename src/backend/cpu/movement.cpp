#include <cstring>

#include "backend/checks.h"
#include "backend/contracts.h"
#include "backend/cpu/cpu_backend.h"
#include "backend/cpu/parallel.h"
#include "backend/cpu/vector_math.h"
#include "backend/operation.h"

namespace longspan::backend::cpu {
namespace {

std::byte* byte_address(const Tensor& tensor, const Span& span) {
  const auto size = static_cast<Index>(base::size_of(tensor.dtype()));
  return static_cast<std::byte*>(tensor.raw()) +
         (span.row * tensor.row_stride() + span.begin) * size;
}

std::size_t byte_count(const Tensor& tensor, const Span& span) {
  return static_cast<std::size_t>(span.length) * base::size_of(tensor.dtype());
}

void copy_bytes(const Tensor& out, const Tensor& in) {
  for_each_span(out, out.is_dense() && in.is_dense(), [&](const Span& span) {
    std::memcpy(byte_address(out, span), byte_address(in, span), byte_count(out, span));
  });
}

template <typename Out, typename In>
void convert(const Tensor& out, const Tensor& in) {
  for_each_span(out, out.is_dense() && in.is_dense(), [&](const Span& span) {
    Out* to = span.of(out.data<Out>(), out);
    const In* from = span.of(in.data<In>(), in);
#pragma omp simd
    for (Index i = 0; i < span.length; ++i) to[i] = round_to<Out>(load(from[i]));
  });
}

void sum_of_two(const Tensor& out, const Tensor& a, const Tensor& b) {
  dispatch_float("add", "out", out, [&]<typename T>() {
    const bool dense = out.is_dense() && a.is_dense() && b.is_dense();
    for_each_span(out, dense, [&](const Span& span) {
      T* to = span.of(out.data<T>(), out);
      const T* left = span.of(a.data<T>(), a);
      const T* right = span.of(b.data<T>(), b);
#pragma omp simd
      for (Index i = 0; i < span.length; ++i) to[i] = round_to<T>(load(left[i]) + load(right[i]));
    });
  });
}

/// A dense view of host memory, in the shape of `like`.
Tensor host_view(const char* operation, const Tensor& like, const void* host, std::size_t bytes) {
  check_defined(operation, "the tensor", like);
  if (bytes != like.bytes()) {
    contract_broken(operation, std::to_string(bytes) + " host bytes for " + describe(like) +
                                   "; expected " + std::to_string(like.bytes()));
  }
  // Never written through when the host side is the source.
  return Tensor(nullptr, const_cast<void*>(host), like.dtype(), like.shape());
}

}  // namespace

void CpuBackend::zero(const Tensor& out) {
  const Operation operation(*this, "zero", out);
  check_defined("zero", "out", out);
  for_each_span(out, out.is_dense(), [&](const Span& span) {
    std::memset(byte_address(out, span), 0, byte_count(out, span));
  });
}

void CpuBackend::fill(const Tensor& out, double value) {
  const Operation operation(*this, "fill", out);
  dispatch_float("fill", "out", out, [&]<typename T>() {
    const T rounded = round_to<T>(value);
    for_each_span(out, out.is_dense(), [&](const Span& span) {
      std::fill_n(span.of(out.data<T>(), out), span.length, rounded);
    });
  });
}

void CpuBackend::copy(const Tensor& out, const Tensor& in) {
  const Operation operation(*this, "copy", out);
  check_copy(out, in);
  if (out.dtype() == in.dtype()) return copy_bytes(out, in);
  dispatch_float("copy", "out", out, [&]<typename Out>() {
    dispatch_float("copy", "in", in, [&]<typename In>() { convert<Out, In>(out, in); });
  });
}

void CpuBackend::copy_from_host(const Tensor& out, const void* host, std::size_t bytes) {
  const Operation operation(*this, DeviceQueue::kCompute, "copy_from_host", out, bytes);
  copy_bytes(out, host_view("copy_from_host", out, host, bytes));
}

void CpuBackend::copy_to_host(void* host, const Tensor& in, std::size_t bytes) {
  const Operation operation(*this, DeviceQueue::kCompute, "copy_to_host", in, bytes);
  copy_bytes(host_view("copy_to_host", in, host, bytes), in);
}

void CpuBackend::add(const Tensor& out, const Tensor& a, const Tensor& b) {
  const Operation operation(*this, "add", out);
  check_add(out, a, b);
  sum_of_two(out, a, b);
}

void CpuBackend::scale(const Tensor& out, double factor) {
  const Operation operation(*this, "scale", out);
  check_scale(out);
  dispatch_float("scale", "out", out, [&]<typename T>() {
    const auto by = static_cast<Compute<T>>(factor);
    for_each_span(out, out.is_dense(), [&](const Span& span) {
      T* values = span.of(out.data<T>(), out);
#pragma omp simd
      for (Index i = 0; i < span.length; ++i) values[i] = round_to<T>(load(values[i]) * by);
    });
  });
}

void CpuBackend::accumulate(const Tensor& out, const Tensor& in) {
  const Operation operation(*this, "accumulate", out);
  check_accumulate(out, in);
  if (out.dtype() == in.dtype()) return sum_of_two(out, out, in);
  for_each_span(out, out.is_dense() && in.is_dense(), [&](const Span& span) {
    float* to = span.of(out.data<float>(), out);
    const base::BFloat16* from = span.of(in.data<base::BFloat16>(), in);
#pragma omp simd
    for (Index i = 0; i < span.length; ++i) to[i] += load(from[i]);
  });
}

}  // namespace longspan::backend::cpu
