#pragma once

#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <numeric>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "longspan/base/error.h"
#include "longspan/checkpoint/safetensors.h"
#include "tests/support/temporary_directory.h"

namespace longspan::checkpoint::test {

inline void write_bytes(const std::filesystem::path& path, const std::string& bytes) {
  std::ofstream(path, std::ios::binary) << bytes;
}

inline std::string read_bytes(const std::filesystem::path& path) {
  std::ostringstream text;
  text << std::ifstream(path, std::ios::binary).rdbuf();
  return text.str();
}

/// The message of the longspan error that `action` throws; empty when it throws none.
inline std::string message_of(const std::function<void()>& action) {
  try {
    action();
  } catch (const base::Error& error) {
    return error.what();
  }
  return "";
}

inline std::uint64_t status_kib(const std::string& key) {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with(key)) return std::stoull(line.substr(key.size() + 1));
  }
  return 0;
}

/// How far the resident memory rose during the action, in MiB.
inline std::uint64_t memory_growth(const std::function<void()>& action) {
  std::ofstream("/proc/self/clear_refs") << "5";  // the peak starts anew
  const std::uint64_t before = status_kib("VmRSS:");
  action();
  return (status_kib("VmHWM:") - before) / 1024;
}

inline std::string data_of(const SafetensorsFile& file, const std::string& name) {
  std::string bytes(file.tensors().at(name).bytes(), '\0');
  file.read(name, 0, bytes.size(), bytes.data());
  return bytes;
}

/// Bytes that depend on the name and a salt, so that tensors and steps differ.
inline std::string pattern_bytes(const std::string& name, std::uint64_t count, std::uint64_t salt) {
  std::uint64_t state = std::hash<std::string>()(name) ^ (salt * 0x9e3779b97f4a7c15U);
  std::string bytes(count, '\0');
  for (char& byte : bytes) {
    state = state * 6364136223846793005U + 1442695040888963407U;
    byte = static_cast<char>(state >> 56U);
  }
  return bytes;
}

inline TensorSource pattern_tensor(const std::string& name, base::DType dtype,
                                   std::vector<std::int64_t> shape, std::uint64_t salt) {
  TensorInfo info{name, dtype, std::move(shape)};
  std::string bytes = pattern_bytes(name, info.bytes(), salt);
  return {std::move(info),
          [bytes = std::move(bytes)](std::uint64_t first, std::uint64_t count, void* out) {
            std::memcpy(out, bytes.data() + first, count);
          }};
}

}  // namespace longspan::checkpoint::test
