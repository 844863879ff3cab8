#include "tests/cuda_shim/fibre.h"

#include <pthread.h>
#include <sys/mman.h>

#include "longspan/base/error.h"

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

namespace longspan::backend::cuda::shim {
namespace {

constexpr std::size_t kPage = 4096;
// What the sanitizers print, they print from the stack of whoever did wrong.
constexpr std::size_t kStackBytes = std::size_t{256} << 10U;

}  // namespace

Fibre::Fibre() {
  pthread_attr_t attributes;
  void* bottom = nullptr;
  if (pthread_getattr_np(pthread_self(), &attributes) != 0) {
    throw base::InternalError("shim: this thread's stack is not known");
  }
  pthread_attr_getstack(&attributes, &bottom, &stack_bytes_);
  pthread_attr_destroy(&attributes);
  stack_ = static_cast<std::byte*>(bottom);
}

Fibre::Fibre(void (*main)()) : stack_bytes_(kStackBytes), owned_(true) {
  // The page below the stack stays inaccessible: an overflow is a fault, not another's frame.
  void* mapping = ::mmap(nullptr, kPage + kStackBytes, PROT_NONE,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (mapping == MAP_FAILED) throw base::InternalError("shim: no memory for a fibre's stack");
  stack_ = static_cast<std::byte*>(mapping) + kPage;
  ::mprotect(stack_, stack_bytes_, PROT_READ | PROT_WRITE);
  ::getcontext(&context_);
  context_.uc_stack.ss_sp = stack_;
  context_.uc_stack.ss_size = stack_bytes_;
  ::makecontext(&context_, main, 0);
  // The sanitizer's swapcontext would clear what it knows of the whole stack at each switch, which
  // is slow and loses the bounds of arrays; it is told of switches below instead.
  context_.uc_stack.ss_size = 0;
}

Fibre::~Fibre() {
  if (!owned_) return;
#ifdef __SANITIZE_ADDRESS__
  // Frames of a fibre that never finished would be remembered for whoever gets these addresses.
  __asan_unpoison_memory_region(stack_, stack_bytes_);
#endif
  ::munmap(stack_ - kPage, kPage + stack_bytes_);
}

void Fibre::switch_to(Fibre& next) {
#ifdef __SANITIZE_ADDRESS__
  __sanitizer_start_switch_fiber(&fake_stack_, next.stack_, next.stack_bytes_);
#endif
  ::swapcontext(&context_, &next.context_);
#ifdef __SANITIZE_ADDRESS__
  __sanitizer_finish_switch_fiber(fake_stack_, nullptr, nullptr);
#endif
}

void Fibre::started() {
#ifdef __SANITIZE_ADDRESS__
  __sanitizer_finish_switch_fiber(nullptr, nullptr, nullptr);
#endif
}

}  // namespace longspan::backend::cuda::shim
