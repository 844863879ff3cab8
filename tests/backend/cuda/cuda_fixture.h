#pragma once

#include <memory>
#include <vector>

#include "backend/cuda/kernels.h"
#include "longspan/backend/dry.h"
#include "tests/backend/kernel_fixture.h"
#include "tests/cuda_shim/shim.h"

// What the tests of the cuda backend's kernels share. They run on the processor (tests/cuda_shim),
// so tensors in host memory are tensors of the "device".
namespace longspan::backend::cuda::testing {

using namespace longspan::backend::testing;  // NOLINT: the fixture of all kernels

/// Scratch memory for kernels: each block exactly as large as asked for, so that the address
/// sanitizer sees its end, and NaN until written.
class ScratchBackend : public DryBackend {
 public:
  ScratchBackend() : DryBackend(cuda_profile(), 1) {}

  static DeviceProfile cuda_profile() {
    DeviceProfile profile;
    profile.kind = "cuda";
    profile.memory_bandwidth = 1;
    return profile;
  }

  Tensor allocate(const Shape& shape, DType dtype, MemoryTag tag) override {
    REQUIRE(tag == MemoryTag::kWorkspace);
    auto block = std::make_shared<Block>();
    block->bytes.assign(static_cast<std::size_t>(shape.elements()) * base::size_of(dtype),
                        std::byte{0xFF});
    sizes.push_back(block->bytes.size());
    void* address = block->bytes.data();
    return {std::move(block), address, dtype, shape};
  }

  std::vector<std::size_t> sizes;  ///< of all that was asked for

 private:
  struct Block : backend::Buffer {
    std::vector<std::byte> bytes;
  };
};

/// The kernels, whose threads and blocks run in this order.
class Device : public CudaKernels {
 public:
  explicit Device(shim::Order order = shim::Order::kAscending) : CudaKernels(nullptr) {
    shim::set_order(order, kSeed);
  }
  ~Device() override { shim::set_order(shim::Order::kAscending); }

  /// Of the blocks that kernels took as scratch.
  const std::vector<std::size_t>& scratch_sizes() const { return scratch_.sizes; }

  std::string name() const override { return "kernels"; }
  std::string description() const override { return name(); }
  bool supports(DType /*dtype*/, std::string* /*why_not*/) const override { return true; }
  Tensor allocate(const Shape& shape, DType dtype, MemoryTag tag) override {
    return scratch_.allocate(shape, dtype, tag);
  }
  const Ledger& ledger() const override { return scratch_.ledger(); }
  void reset_peaks() override { scratch_.reset_peaks(); }
  void enter(const char* name, Index number) override { scratch_.enter(name, number); }
  void leave() override { scratch_.leave(); }
  std::size_t memory_limit() const override { return scratch_.memory_limit(); }

  // What libraries do is no kernel.
  void copy_from_host(const Tensor&, const void*, std::size_t) override { refuse(); }
  void copy_to_host(void*, const Tensor&, std::size_t) override { refuse(); }
  void matmul(const Tensor&, const Tensor&, const Tensor&, const MatmulOptions&) override {
    refuse();
  }
  void attention_forward(const Tensor&, const Tensor&, const Tensor&, const Tensor&, const Tensor&,
                         const CuSeqlens&, const CuSeqlens&, const AttentionOptions&) override {
    refuse();
  }
  void attention_backward(const Tensor&, const Tensor&, const Tensor&, const Tensor&, const Tensor&,
                          const Tensor&, const Tensor&, const Tensor&, const Tensor&,
                          const CuSeqlens&, const CuSeqlens&, const AttentionOptions&) override {
    refuse();
  }

 private:
  [[noreturn]] static void refuse() { throw base::InternalError("this is no kernel"); }

  static constexpr std::uint64_t kSeed = 20;
  ScratchBackend scratch_;
};

inline const shim::Order kOrders[] = {shim::Order::kAscending, shim::Order::kDescending,
                                      shim::Order::kShuffled};
inline shim::Order every_order() {
  return GENERATE(shim::Order::kAscending, shim::Order::kDescending, shim::Order::kShuffled);
}

/// |found - expected| <= relative |expected| + absolute in every element; NaN fails. Gaps must be
/// as they were.
inline void require_near(const Array& found, const Array& expected, double relative,
                         double absolute) {
  REQUIRE(found.elements() == expected.elements());
  for (Index i = 0; i < found.elements(); ++i) {
    const double want = expected.get(i);
    const double got = found.get(i);
    if (got == want) continue;  // infinities too
    if (!(std::abs(got - want) <= relative * std::abs(want) + absolute)) {
      FAIL("element " << i << " is " << got << "; expected " << want);
    }
  }
  REQUIRE(found.gaps_untouched());
}

/// How far two backends may be apart that form an element in the same few operations, in another
/// order or with other roundings on the way: relative to the element.
inline double same_arithmetic(DType dtype) {
  if (dtype == DType::kFloat64) return 1e-13;
  // What is stored in bfloat16 may fall to the other side of one rounding.
  return dtype == DType::kBFloat16 ? 0x1p-7 : 1e-5;
}

/// A dense tensor that starts one element behind an aligned address.
class Unaligned {
 public:
  Unaligned(DType dtype, const Shape& shape)
      : whole_(dtype, {shape.elements() + 1}), shape_(shape) {
    const auto size = base::size_of(dtype);
    tensor_ = Tensor(nullptr, static_cast<std::byte*>(whole_.tensor().raw()) + size, dtype, shape);
  }
  Unaligned(const Unaligned&) = delete;
  Unaligned& operator=(const Unaligned&) = delete;

  operator const Tensor&() const { return tensor_; }
  /// The same elements at an aligned address.
  Array aligned() const {
    Array result(whole_.tensor().dtype(), shape_);
    processor().copy(result, tensor_);
    return result;
  }

 private:
  Array whole_;
  Shape shape_;
  Tensor tensor_;
};

/// The values of a vector, from `offset` elements behind an aligned address on.
class Shifted {
 public:
  Shifted(const Array& like, Index offset)
      : memory_(like.tensor().dtype(), {like.elements() + offset}), offset_(offset) {
    for (Index i = 0; i < like.elements(); ++i) memory_.set(i + offset, like.get(i));
    for (Index i = 0; i < offset; ++i) memory_.set(i, kBefore);
  }

  Tensor tensor() const { return memory_.tensor().rows(offset_, memory_.elements()); }
  operator Tensor() const { return tensor(); }
  std::vector<double> values() const {
    const auto all = memory_.values();
    return {all.begin() + offset_, all.end()};
  }
  bool start_untouched() const {
    for (Index i = 0; i < offset_; ++i) {
      if (memory_.get(i) != kBefore) return false;
    }
    return true;
  }

 private:
  static constexpr double kBefore = 77.0;
  Array memory_;
  Index offset_;
};

}  // namespace longspan::backend::cuda::testing
