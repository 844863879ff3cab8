#pragma once

#include "backend/cuda/kernels.h"
#include "tests/backend/kernel_fixture.h"
#include "tests/cuda_shim/shim.h"

// What tests of the cuda backend's kernels share: a queue with scratch memory, and the orders in
// which the stand-in runs threads and blocks.
namespace longspan::backend::cuda::testing {

using backend::testing::Array;
using backend::testing::every_float;
using backend::testing::require_close;
using backend::testing::unit_roundoff;
using backend::testing::wide;
using base::DType;

/// Runs kernels in one order for as long as this lives.
class OrderScope {
 public:
  explicit OrderScope(shim::Order order) { shim::set_order(order, 17); }
  ~OrderScope() { shim::set_order(shim::Order::kAscending); }
  OrderScope(const OrderScope&) = delete;
  OrderScope& operator=(const OrderScope&) = delete;
};

inline const shim::Order kOrders[] = {shim::Order::kAscending, shim::Order::kDescending,
                                      shim::Order::kShuffled};

/// A queue whose scratch memory comes from a backend of the processor, full of NaN: no kernel may
/// count on zeros.
class Device {
 public:
  Device() : backend_(make_cpu_backend(kBytes)) {
    std::memset(backend_->allocate({kBytes}, DType::kUInt8, MemoryTag::kWorkspace).raw(), 0xFF,
                kBytes);
    backend_->reset_peaks();
  }

  Queue queue(int multiprocessors = 3) const { return {nullptr, multiprocessors, backend_.get()}; }
  operator Queue() const { return queue(); }
  Backend& backend() const { return *backend_; }
  /// The most scratch memory that was live.
  std::size_t peak() const { return backend_->ledger().peak_total(); }

 private:
  static constexpr Index kBytes = Index{16} << 20;
  std::unique_ptr<Backend> backend_;
};

/// The values of a tensor that begins `offset` elements into its memory: vectors must not be loaded
/// from it.
class Unaligned {
 public:
  Unaligned(const Array& like, Index offset)
      : memory_(like.tensor().dtype(), {like.elements() + offset}), offset_(offset) {
    for (Index i = 0; i < like.elements(); ++i) memory_.set(i + offset, like.get(i));
    for (Index i = 0; i < offset; ++i) memory_.set(i, 77.0);
  }
  Tensor tensor() const { return memory_.tensor().rows(offset_, memory_.elements()); }
  operator Tensor() const { return tensor(); }
  std::vector<double> values() const {
    const auto all = memory_.values();
    return {all.begin() + offset_, all.end()};
  }
  bool start_untouched() const {
    for (Index i = 0; i < offset_; ++i) {
      if (memory_.get(i) != 77.0) return false;
    }
    return true;
  }

 private:
  Array memory_;
  Index offset_;
};

}  // namespace longspan::backend::cuda::testing
