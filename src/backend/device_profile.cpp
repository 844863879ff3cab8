#include "longspan/backend/device_profile.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <filesystem>
#include <string_view>

#include "backend/built_in_profiles.h"
#include "longspan/base/declarations.h"
#include "longspan/base/error.h"
#include "longspan/base/file.h"

namespace longspan::backend {
namespace {

void declare(DeviceProfile& profile, base::Declarations& keys) {
  keys.text("name", profile.name, "Name.").required().at_least(1);
  keys.choice("kind", profile.kind, {{"cpu", "the cpu backend"}, {"cuda", "the cuda backend"}},
              "How its backend works.")
      .required();
  keys.boolean("per_thread", profile.per_thread, "Whether rates are those of one thread.");
  keys.size("memory", profile.memory, "Device memory.").automatic("this machine's");
  keys.size("reserved", profile.reserved, "What driver and libraries hold of it.");
  const auto rate = [&](const char* key, double& target, const char* help) {
    keys.real(key, target, help).required().above(0);
  };
  rate("memory_bandwidth", profile.memory_bandwidth, "Bytes a second.");
  rate("fp32_flops", profile.fp32_flops, "FLOP/s of large float32 products.");
  rate("bf16_flops", profile.bf16_flops, "FLOP/s of large bfloat16 products.");
  keys.real("fp32_peak_flops", profile.fp32_peak_flops, "FLOP/s of the data sheet, for MFU.")
      .at_least(0);
  keys.real("bf16_peak_flops", profile.bf16_peak_flops, "FLOP/s of the data sheet, for MFU.")
      .at_least(0);
  rate("attention_efficiency", profile.attention_efficiency, "Part of it that attention reaches.");
  rate("launch_seconds", profile.launch_seconds, "Least time of an operation.");
  keys.integer("devices_per_node", profile.devices_per_node, "Devices of one machine.")
      .required()
      .at_least(1);
  rate("node_bandwidth", profile.node_bandwidth, "Bytes a second to devices of the same machine.");
  rate("network_bandwidth", profile.network_bandwidth, "Bytes a second to other machines.");
  rate("link_latency", profile.link_latency, "Least seconds of a message.");
  rate("host_bandwidth", profile.host_bandwidth, "Bytes a second to or from the host's memory.");
  keys.size("host_memory", profile.host_memory,
            "Memory of the host that devices of a machine share.")
      .automatic("this machine's");
  keys.text("source", profile.source, "Where the figures come from.").required().at_least(1);
}

DeviceProfile read(std::string_view text, const std::string& file) {
  DeviceProfile profile;
  base::Declarations keys("Device profile", "");
  declare(profile, keys);
  keys.read_text(text, file);
  return profile;
}

}  // namespace

std::vector<std::string> DeviceProfile::names() {
  std::vector<std::string> names;
  for (const BuiltInProfile& profile : built_in_profiles()) names.emplace_back(profile.name);
  std::sort(names.begin(), names.end());
  return names;
}

DeviceProfile DeviceProfile::load(const std::string& name_or_file) {
  for (const BuiltInProfile& profile : built_in_profiles()) {
    if (name_or_file == profile.name) {
      return read(profile.json, std::string(profile.name) + ".json");
    }
  }
  if (!std::filesystem::exists(name_or_file)) {
    throw base::InputError(
        fmt::format("\"{}\" is no device profile; legal: {}, or a file as in configs/devices",
                    name_or_file, fmt::join(names(), ", ")));
  }
  return read(base::MappedFile(name_or_file).text(), name_or_file);
}

DeviceProfile DeviceProfile::for_threads(int threads) const {
  DeviceProfile result = *this;
  if (per_thread) {
    result.per_thread = false;
    result.memory_bandwidth *= threads;
    result.fp32_flops *= threads;
    result.bf16_flops *= threads;
  }
  return result;
}

}  // namespace longspan::backend
