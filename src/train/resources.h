#pragma once

#include <cstddef>
#include <string>

#include "longspan/train/common_job.h"

namespace longspan::train {

/// Whether the job keeps anything in host memory beside its device.
bool uses_host(const CommonJob& job);
/// Throws InputError when it does and a device of this kind has no other memory.
void check_offload(const CommonJob& job, const std::string& device_kind);
/// Threads of a rank: the job's word, else OMP_NUM_THREADS, else a fair share of the cores that
/// the launcher left to this process, `local_ranks` of which share the machine.
int thread_count(const CommonJob& job, int local_ranks);
/// Bytes of memory this machine has.
std::size_t physical_memory();

}  // namespace longspan::train
