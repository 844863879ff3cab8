#include "backend/cuda/transfer.h"

#include <fmt/format.h>

#include "backend/checks.h"
#include "backend/cuda/error.h"
#include "backend/cuda/event.h"

namespace longspan::backend::cuda {
namespace {

void expect_bytes(const char* operation, const Tensor& tensor, std::size_t bytes) {
  if (!tensor.defined()) contract_broken(operation, "the tensor", tensor, "a tensor");
  if (bytes == tensor.bytes()) return;
  contract_broken(operation, fmt::format("{} host bytes for {}; expected {}", bytes,
                                         describe(tensor), tensor.bytes()));
}

/// Rows of a tensor as a copy of two dimensions sees them.
struct Rows {
  explicit Rows(const Tensor& tensor)
      : bytes(static_cast<std::size_t>(tensor.row_elements()) * base::size_of(tensor.dtype())),
        pitch(static_cast<std::size_t>(tensor.row_stride()) * base::size_of(tensor.dtype())),
        count(static_cast<std::size_t>(tensor.size(0))) {}
  std::size_t bytes;
  std::size_t pitch;
  std::size_t count;
};

class StreamTransfer : public Transfer {
 public:
  explicit StreamTransfer(const Device& device) : compute_(device.compute_stream()) {
    done_.record(device.copies_stream());
  }
  void wait() override { check(done_.hold(compute_), "cudaStreamWaitEvent"); }

 private:
  Event done_;
  cudaStream_t compute_;
};

}  // namespace

std::unique_ptr<Transfer> start_transfer(const Device& device, const Tensor& to, const Tensor& from,
                                         cudaMemcpyKind kind) {
  expect("a transfer", "the target", to, from.dtype(), from.shape());
  if (!to.is_dense() || !from.is_dense()) contract_broken("a transfer", "tensors with gaps");
  Event given;
  given.record(device.compute_stream());
  check(given.hold(device.copies_stream()), "cudaStreamWaitEvent");
  check(cudaMemcpyAsync(to.raw(), from.raw(), from.bytes(), kind, device.copies_stream()),
        "cudaMemcpyAsync");
  return std::make_unique<StreamTransfer>(device);
}

void copy_from_host(const Queue& queue, const Tensor& out, const void* host, std::size_t bytes) {
  expect_bytes("copy_from_host", out, bytes);
  if (bytes == 0) return;
  if (out.is_dense()) {
    check(cudaMemcpyAsync(out.raw(), host, bytes, cudaMemcpyHostToDevice, queue.stream),
          "cudaMemcpyAsync to the device");
    return;
  }
  const Rows rows(out);
  check(cudaMemcpy2DAsync(out.raw(), rows.pitch, host, rows.bytes, rows.bytes, rows.count,
                          cudaMemcpyHostToDevice, queue.stream),
        "cudaMemcpy2DAsync to the device");
}

void copy_to_host(const Queue& queue, void* host, const Tensor& in, std::size_t bytes) {
  expect_bytes("copy_to_host", in, bytes);
  if (bytes == 0) return;
  if (in.is_dense()) {
    check(cudaMemcpyAsync(host, in.raw(), bytes, cudaMemcpyDeviceToHost, queue.stream),
          "cudaMemcpyAsync to the host");
  } else {
    const Rows rows(in);
    check(cudaMemcpy2DAsync(host, rows.bytes, in.raw(), rows.pitch, rows.bytes, rows.count,
                            cudaMemcpyDeviceToHost, queue.stream),
          "cudaMemcpy2DAsync to the host");
  }
  check(cudaStreamSynchronize(queue.stream), "cudaStreamSynchronize");
}

}  // namespace longspan::backend::cuda
