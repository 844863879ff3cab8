#pragma once

#include <memory>
#include <string>

#include "longspan/backend/backend.h"
#include "longspan/backend/device_profile.h"
#include "longspan/comm/communicator.h"
#include "longspan/train/job.h"

// Which device a rank computes on: run.device, in one place.
namespace longspan::train {

/// What plans take the device for: run.device_profile, or for "auto" that of this machine's device
/// of the kind that run.device names. Throws InputError when that cannot be told.
backend::DeviceProfile device_profile(const CommonJob& job);

/// Ranks of this machine that share a device of this kind with one of them, itself included.
int ranks_of_device(const std::string& kind, int local_ranks);

/// Bytes that a rank may take of a device that `sharing` ranks share: memory.limit, else its part
/// of what there is.
std::size_t device_memory(const CommonJob& job, const backend::DeviceProfile& device, int sharing);

/// The device of this rank: the processor, or one of the machine's GPUs, which are dealt out in
/// turn. Takes `part` of the memory that the rank may take. Throws InputError when there is none.
std::unique_ptr<backend::Backend> make_device(const CommonJob& job, const comm::Communicator& world,
                                              double part = 1.0);

/// Pinned memory of the host for what this rank keeps there; null when the job keeps nothing there.
std::unique_ptr<backend::Backend> make_host(const Job& job, const comm::Communicator& world);

/// All of a device of this kind ("cpu", "cuda"), for a program that is alone on the machine; or
/// this rank's part of what the ranks on the machine share.
std::unique_ptr<backend::Backend> make_device(const std::string& kind);
std::unique_ptr<backend::Backend> make_device(const std::string& kind,
                                              const comm::Communicator& world);

/// The ranks of `world` as their devices reach each other: from GPU to GPU where that can be, else
/// through the host's memory, with the reason in `why_not` (empty otherwise); null where tensors
/// lie in the host's memory anyway. Must go before the device. Called by every rank of the world.
std::unique_ptr<comm::Communicator> link_devices(comm::Communicator& world,
                                                 backend::Backend& device,
                                                 std::string* why_not = nullptr);

/// GFLOP/s that MFU is measured against: logging.peak_tflops; else the data sheet's for a GPU, and
/// what large products reach on a processor, measured now.
double peak_gflops(const CommonJob& job);

}  // namespace longspan::train
