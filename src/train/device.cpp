#include "longspan/train/device.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <chrono>
#include <numeric>
#include <utility>

#include "longspan/backend/cuda.h"
#include "longspan/base/error.h"
#include "train/dry_step.h"
#include "train/precision.h"
#include "train/resources.h"

namespace longspan::train {
namespace {

using backend::DeviceProfile;

/// The built-in profile of a GPU that calls itself this.
std::string profile_of_gpu(const std::string& name) {
  for (const auto& [mark, profile] : {std::pair{"H200", "h200"}, std::pair{"H100", "h100-80gb"},
                                      std::pair{"A100", "a100-80gb"}}) {
    if (name.find(mark) != std::string::npos) return profile;
  }
  throw base::InputError(fmt::format(
      "no device profile is built in for this machine's \"{}\"; name one in run.device_profile: a "
      "file as in configs/devices, or the nearest of {}",
      name, fmt::join(DeviceProfile::names(), ", ")));
}

/// What large products reach on the processor, from a short run of them.
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

DeviceProfile profile_of_this_gpu() {
  if (backend::gpu_count() == 0) {
    throw base::InputError(fmt::format(
        "run.device is \"cuda\", and this machine has no GPU to take the figures of; name a device "
        "in run.device_profile or, for a plan, with --device: {}, or a file",
        fmt::join(DeviceProfile::names(), ", ")));
  }
  const backend::GpuInfo gpu = backend::gpu_info(0);
  DeviceProfile profile = DeviceProfile::load(profile_of_gpu(gpu.name));
  profile.memory = gpu.total_memory;  // variants of a GPU differ in it
  profile.host_memory = 0;            // and machines in theirs
  return profile;
}

}  // namespace

DeviceProfile device_profile(const CommonJob& job) {
  if (job.run.device_profile != "auto") return DeviceProfile::load(job.run.device_profile);
  return job.run.device == "cuda" ? profile_of_this_gpu() : DeviceProfile::load(job.run.device);
}

int ranks_of_device(const std::string& kind, int local_ranks) {
  const int devices = kind == "cuda" ? std::max(1, backend::gpu_count()) : 1;
  return (local_ranks + devices - 1) / devices;
}

std::size_t device_memory(const CommonJob& job, const DeviceProfile& device, int sharing) {
  const std::size_t there = device.memory == 0 ? physical_memory() : device.memory;
  const std::size_t usable = there - std::min<std::size_t>(there, device.reserved);
  const std::size_t limit = job.memory.limit;
  // The processor's memory is virtual, and a limit is the user's word; a GPU has what it has.
  if (device.memory == 0 && limit > 0) return limit;
  const std::size_t share = usable / static_cast<std::size_t>(sharing);
  return limit > 0 ? std::min(limit, share) : share;
}

std::unique_ptr<backend::Backend> make_device(const CommonJob& job, const comm::Communicator& world,
                                              double part) {
  const int sharing = ranks_of_device(job.run.device, world.local_size());
  const auto bytes = static_cast<std::size_t>(
      part * static_cast<double>(device_memory(job, device_profile(job), sharing)));
  if (job.run.device != "cuda") return backend::make_cpu_backend(bytes);
  return backend::make_cuda_backend(world.local_rank() % std::max(1, backend::gpu_count()), bytes,
                                    job.run.deterministic);
}

std::unique_ptr<backend::Backend> make_host(const Job& job, const comm::Communicator& world) {
  if (!uses_host(job)) return nullptr;
  const DryStep dry(job, PlanSetting::of(job, world), world.rank());
  return backend::make_pinned_backend(host_bytes(job, world.size(), dry.host));
}

std::unique_ptr<backend::Backend> make_device(const std::string& kind) {
  return make_device(kind, *comm::make_single_communicator());
}

std::unique_ptr<backend::Backend> make_device(const std::string& kind,
                                              const comm::Communicator& world) {
  const auto sharing = static_cast<std::size_t>(ranks_of_device(kind, world.local_size()));
  if (kind == "cpu") return backend::make_cpu_backend(physical_memory() / sharing);
  // Libraries take some memory beside tensors.
  constexpr double kPart = 0.95;
  const int gpu = world.local_rank() % std::max(1, backend::gpu_count());
  const std::size_t share = backend::free_gpu_memory(gpu) / sharing;
  return backend::make_cuda_backend(gpu,
                                    static_cast<std::size_t>(kPart * static_cast<double>(share)));
}

std::unique_ptr<comm::Communicator> link_devices(comm::Communicator& world,
                                                 backend::Backend& device, std::string* why_not) {
  std::string reason;
  if (why_not == nullptr) why_not = &reason;
  why_not->clear();
  if (device.streams() == nullptr) return nullptr;
  std::vector<int> ranks(static_cast<std::size_t>(world.size()));
  std::iota(ranks.begin(), ranks.end(), 0);
  return comm::make_nccl_communicator(world.group("device", ranks), device, why_not);
}

double peak_gflops(const CommonJob& job) {
  const std::string& precision = job.training.precision;
  if (job.logging.peak_tflops > 0) return 1e3 * job.logging.peak_tflops;
  if (job.run.device == "cpu") return measure_matmul_gflops(precision);
  const DeviceProfile device = device_profile(job);
  const bool is_bf16 = precision == "bf16";
  const double peak = is_bf16 ? device.bf16_peak_flops : device.fp32_peak_flops;
  const double reached = is_bf16 ? device.bf16_flops : device.fp32_flops;
  return 1e-9 * (peak > 0 ? peak : reached) / (precision == "fp64" ? 2 : 1);
}

}  // namespace longspan::train
