#include "train/resources.h"

#include <fmt/format.h>
#include <omp.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <thread>

#include "longspan/base/error.h"

namespace longspan::train {

bool uses_host(const CommonJob& job) {
  return job.optimizer.offload == "host" || job.memory.offloads_saved_inputs();
}

void check_offload(const CommonJob& job, const std::string& device_kind) {
  if (!uses_host(job) || device_kind != "cpu") return;
  throw base::InputError(fmt::format(
      "{} \"host\", but what a \"cpu\" device has is in host memory anyway; leave the word out, or "
      "plan for another device",
      job.optimizer.offload == "host" ? "optimizer.offload is" : "memory.saved_inputs has"));
}

int thread_count(const CommonJob& job, int local_ranks) {
  if (job.run.threads > 0) return static_cast<int>(job.run.threads);
  if (std::getenv("OMP_NUM_THREADS") != nullptr) return omp_get_max_threads();
  const int cores = static_cast<int>(std::thread::hardware_concurrency());
  return std::max(1, std::min(omp_get_num_procs(), cores / local_ranks));
}

std::size_t physical_memory() {
  return static_cast<std::size_t>(::sysconf(_SC_PHYS_PAGES)) *
         static_cast<std::size_t>(::sysconf(_SC_PAGE_SIZE));
}

}  // namespace longspan::train
