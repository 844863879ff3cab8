#include <algorithm>
#include <chrono>

#include "longspan/backend/backend.h"
#include "longspan/train/trainer.h"
#include "train/precision.h"

namespace longspan::train {

double measure_matmul_gflops(const std::string& precision) {
  using backend::Index;
  using Clock = std::chrono::steady_clock;
  // Large enough to be at the plateau, small enough to be quick; a device of its own, so that the
  // run's ledger does not see it.
  constexpr Index kSize = 1024;
  constexpr double kSeconds = 0.2;
  const auto backend = backend::make_cpu_backend(std::size_t{1} << 28U);
  const base::DType dtype = dtype_of_precision(precision);
  const auto a = backend->allocate({kSize, kSize}, dtype, backend::MemoryTag::kWorkspace);
  const auto b = backend->allocate({kSize, kSize}, dtype, backend::MemoryTag::kWorkspace);
  const auto out = backend->allocate({kSize, kSize}, dtype, backend::MemoryTag::kWorkspace);
  backend->fill(a, 1.0);
  backend->fill(b, 1.0);
  const auto start = Clock::now();
  double best = 0;
  int runs = 0;
  do {
    const auto begin = Clock::now();
    backend->matmul(out, a, b, {false, true, false});
    const double seconds = std::chrono::duration<double>(Clock::now() - begin).count();
    if (runs++ > 0) best = std::max(best, 2e-9 * kSize * kSize * kSize / seconds);
  } while (runs < 3 || std::chrono::duration<double>(Clock::now() - start).count() < kSeconds);
  return best;
}

}  // namespace longspan::train
