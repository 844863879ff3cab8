#include "tests/comm/fake_device.h"

#include <chrono>
#include <cstdint>
#include <cstring>

#include "backend/operation.h"
#include "longspan/backend/dry.h"
#include "longspan/base/error.h"
#include "tests/comm/fake_streams.h"

namespace longspan::testing {
namespace {

using backend::Index;
using backend::MemoryTag;
using backend::Shape;
using backend::Tensor;

/// Makes an address that the processor refuses.
constexpr std::uintptr_t kDisguise = std::uintptr_t{1} << 62U;

/// A view of the memory itself that does not keep it: like a device's, an operation finds what is
/// there when it runs.
Tensor unmasked(const Tensor& tensor) {
  void* memory = tensor.elements() == 0 ? nullptr : memory_at(tensor.raw());
  return {nullptr, memory, tensor.dtype(), tensor.shape()};
}

/// Passed when the queue has come to it.
class PassedMark : public backend::Mark {
 public:
  explicit PassedMark(FakeStream& stream) { stream.mark(time_); }
  double seconds_since(const Mark& earlier) const override {
    const auto& other = static_cast<const PassedMark&>(earlier);
    return std::chrono::duration<double>(*time_ - *other.time_).count();
  }

 private:
  using Time = FakeStream::Clock::time_point;
  std::shared_ptr<Time> time_ = std::make_shared<Time>();
};

class Streams : public backend::DeviceStreams {
 public:
  int device() const override { return 0; }
  void* compute() const override { return &compute_; }
  void* communication() const override { return &communication_; }
  std::unique_ptr<backend::Mark> mark(backend::DeviceQueue queue) const override {
    return std::make_unique<PassedMark>(
        queue == backend::DeviceQueue::kCommunication ? communication_ : compute_);
  }
  FakeStream& computing() const { return compute_; }
  void synchronize() const {
    compute_.synchronize();
    communication_.synchronize();
  }

 private:
  mutable FakeStream compute_{1};
  mutable FakeStream communication_{2};
};

class KeepAlive : public backend::Buffer {
 public:
  explicit KeepAlive(Tensor tensor) : tensor_(std::move(tensor)) {}

 private:
  Tensor tensor_;
};

backend::DeviceProfile profile_of_gpu() {
  backend::DeviceProfile profile;
  profile.kind = "cuda";
  profile.memory = std::uint64_t{1} << 30U;
  profile.memory_bandwidth = 1;
  return profile;
}

/// What moves data works, in order and later, as on a GPU; other operations compute nothing.
class FakeDevice : public backend::DryBackend {
 public:
  explicit FakeDevice(std::size_t memory_limit)
      : DryBackend(profile_of_gpu(), 1), memory_(backend::make_cpu_backend(memory_limit)) {}
  ~FakeDevice() override { streams_.synchronize(); }

  std::string name() const override { return "fake"; }
  std::string description() const override { return "a fake device"; }
  bool supports(base::DType /*dtype*/, std::string* /*why_not*/) const override { return true; }
  const backend::DeviceStreams* streams() const override { return &streams_; }
  void synchronize() override { streams_.synchronize(); }

  Tensor allocate(const Shape& shape, base::DType dtype, MemoryTag tag) override {
    const Tensor real = memory_->allocate(shape, dtype, tag);
    const auto address = reinterpret_cast<std::uintptr_t>(real.raw()) | kDisguise;
    return {std::make_shared<KeepAlive>(real), reinterpret_cast<void*>(address), dtype, shape};
  }
  const backend::Ledger& ledger() const override { return memory_->ledger(); }
  void reset_peaks() override { memory_->reset_peaks(); }
  void enter(const char* name, Index number) override { memory_->enter(name, number); }
  void leave() override { memory_->leave(); }
  std::size_t memory_limit() const override { return memory_->memory_limit(); }

  void zero(const Tensor& out) override {
    const backend::Operation operation(*this, "zero", out);
    push([this, out = unmasked(out)] { memory_->zero(out); });
  }
  void fill(const Tensor& out, double value) override {
    const backend::Operation operation(*this, "fill", out);
    push([this, out = unmasked(out), value] { memory_->fill(out, value); });
  }
  void copy(const Tensor& out, const Tensor& in) override {
    const backend::Operation operation(*this, "copy", out);
    push([this, out = unmasked(out), in = unmasked(in)] { memory_->copy(out, in); });
  }
  void accumulate(const Tensor& out, const Tensor& in) override {
    const backend::Operation operation(*this, "accumulate", out);
    push([this, out = unmasked(out), in = unmasked(in)] { memory_->accumulate(out, in); });
  }
  void copy_from_host(const Tensor& out, const void* host, std::size_t bytes) override {
    push([this, out = unmasked(out), host, bytes] { memory_->copy_from_host(out, host, bytes); });
    streams_.computing().synchronize();
  }
  void copy_to_host(void* host, const Tensor& in, std::size_t bytes) override {
    push([this, host, in = unmasked(in), bytes] { memory_->copy_to_host(host, in, bytes); });
    streams_.computing().synchronize();
  }

 private:
  void push(std::function<void()> work) { streams_.computing().push(std::move(work)); }

  std::unique_ptr<backend::Backend> memory_;
  Streams streams_;  // first to go: its threads use the memory
};

}  // namespace

std::unique_ptr<backend::Backend> make_fake_device(std::size_t memory_limit) {
  return std::make_unique<FakeDevice>(memory_limit);
}

void* memory_at(const void* device_address) {
  const auto address = reinterpret_cast<std::uintptr_t>(device_address);
  if ((address & kDisguise) == 0) {
    throw base::InternalError("an address of the host was given for a device's");
  }
  return reinterpret_cast<void*>(address & ~kDisguise);
}

}  // namespace longspan::testing
