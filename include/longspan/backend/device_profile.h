#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace longspan::backend {

/// What a device can do, as far as a plan needs it: a roofline and the links to its peers. Read
/// from configs/devices/*.json, which say where the figures come from.
struct DeviceProfile {
  std::string name;
  std::string kind;  ///< "cpu" or "cuda": how its backend works and what memory it takes for that
  bool per_thread = false;      ///< rates and bandwidth are those of one thread
  std::uint64_t memory = 0;     ///< bytes; 0: this machine's
  std::uint64_t reserved = 0;   ///< bytes of it that the driver and libraries hold
  double memory_bandwidth = 0;  ///< bytes/s, read and written together
  double fp32_flops = 0;        ///< FLOP/s that large products reach
  double bf16_flops = 0;
  double fp32_peak_flops = 0;  ///< of the data sheet, for MFU; 0: unknown
  double bf16_peak_flops = 0;
  double attention_efficiency = 0;  ///< of those, in attention
  double launch_seconds = 0;        ///< that an operation takes at least
  std::int64_t devices_per_node = 1;
  double node_bandwidth = 0;      ///< bytes/s a device sends to others of its node
  double network_bandwidth = 0;   ///< bytes/s a device sends to other nodes
  double link_latency = 0;        ///< seconds a message takes at least
  double host_bandwidth = 0;      ///< bytes/s to or from its host's memory
  std::uint64_t host_memory = 0;  ///< bytes of it, of all devices of a machine; 0: this machine's
  std::string source;             ///< where the figures come from

  /// The profile of this name that is built in, or of this file. Throws InputError that lists the
  /// names.
  static DeviceProfile load(const std::string& name_or_file);
  static std::vector<std::string> names();

  /// The same device as a rank of `threads` threads sees it.
  DeviceProfile for_threads(int threads) const;
};

}  // namespace longspan::backend
