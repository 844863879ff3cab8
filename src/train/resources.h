#pragma once

#include <cstddef>
#include <string>

#include "longspan/train/job.h"

namespace longspan::train {

/// Whether the job keeps anything in host memory beside its device.
bool uses_host(const Job& job);
/// Throws InputError when it does and a device of this kind has no other memory.
void check_offload(const Job& job, const std::string& device_kind);
/// Threads of a rank: the job's word, else OMP_NUM_THREADS, else a fair share of the cores that
/// the launcher left to this process, `local_ranks` of which share the machine.
int thread_count(const Job& job, int local_ranks);
/// Bytes of memory this machine has.
std::size_t physical_memory();

}  // namespace longspan::train
