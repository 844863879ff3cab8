#pragma once

#include <limits>
#include <map>
#include <memory>
#include <utility>

#include "backend/arena.h"
#include "backend/cpu/matmul.h"
#include "longspan/backend/dry.h"

namespace longspan::backend {

/// The ledger of a dry run and all that is observed of it.
class DryBackend::State {
 public:
  State(const DeviceProfile& device, int threads_of_rank)
      : profile(device.for_threads(threads_of_rank)),
        threads(threads_of_rank),
        alignment(device.kind == "cpu" ? Arena::kCpuAlignment : Arena::kCudaAlignment),
        arena(endless_addresses(), std::numeric_limits<std::size_t>::max(), alignment),
        ledger(arena.ledger()) {}

  struct Live {
    MemoryTag tag;
    Place place;
    Shape shape;
    base::DType dtype;
    std::size_t bytes;
  };

  void* allocate(const Shape& shape, base::DType dtype, MemoryTag tag);
  void release(void* address, std::size_t bytes, MemoryTag tag);
  /// Memory that an operation takes while it runs, all of it at once.
  void transient(std::initializer_list<std::size_t> blocks);
  void enter(const char* name, Index number);
  void start_step();

  /// An operation of this work at this rate, by the roofline.
  void work(double matmul_flops, double attention_flops, double rate, double bytes);
  /// See DryBackend.
  double start_communication(double seconds);
  void await(double moment);
  void cross_host_link(std::size_t bytes, double DryCounts::*seconds);
  double rate_of(base::DType dtype) const;

  const DeviceProfile profile;
  const int threads;
  const std::size_t alignment;
  Arena arena;  ///< of the same places as the device's: its gaps are those of the run
  Ledger& ledger;
  DryCounts counts;
  std::vector<DryPhase> phases;
  std::vector<DrySample> samples;
  cpu::MatmulWorkspaces matmul_workspaces;
  std::int64_t change = 0;
  std::int64_t peak_change = 0;
  std::int64_t watched_change = -1;
  std::vector<Live> watched;

 private:
  static std::unique_ptr<AddressRange> endless_addresses();
  void observe();
  void thin_samples();
  DryPhase& phase();

  /// Of the estimated time, without what runs beside it.
  double now() const;

  std::map<void*, Live> live_;    // kept only when a change is watched
  double communication_end_ = 0;  // when all that was started is over
};

}  // namespace longspan::backend
