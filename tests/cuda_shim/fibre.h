#pragma once

#include <ucontext.h>

#include <cstddef>

namespace longspan::backend::cuda::shim {

/// A stack with a place to go on from. The first one of a program is the caller's own.
class Fibre {
 public:
  /// The stack that this is called on.
  Fibre();
  /// A new stack on which `main` starts, when first switched to; it must never return.
  explicit Fibre(void (*main)());
  ~Fibre();
  Fibre(const Fibre&) = delete;
  Fibre& operator=(const Fibre&) = delete;

  /// Leaves this fibre, on which the caller runs, for `next`; returns when somebody switches back.
  void switch_to(Fibre& next);
  /// The first thing that `main` of a fibre must do.
  static void started();

 private:
  ucontext_t context_{};
  std::byte* stack_ = nullptr;
  std::size_t stack_bytes_ = 0;
  void* fake_stack_ = nullptr;  // the address sanitizer's, of frames on the heap
  bool owned_ = false;
};

}  // namespace longspan::backend::cuda::shim
