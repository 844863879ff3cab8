#include "train/tensorboard.h"

#include <fmt/format.h>
#include <unistd.h>

#include <array>
#include <bit>
#include <chrono>
#include <cstring>

namespace longspan::train {
namespace {

static_assert(std::endian::native == std::endian::little, "event files are little-endian");

constexpr std::uint64_t kSessionStart = 1;  // SessionLog.status

// Field numbers of the protocol buffers Event, Summary, Summary.Value and SessionLog.
enum EventField : std::uint64_t {
  kWallTime = 1,
  kStep = 2,
  kFileVersion = 3,
  kSummary = 5,
  kSessionLog = 7
};
enum SummaryField : std::uint64_t { kValue = 1 };
enum ValueField : std::uint64_t { kTag = 1, kSimpleValue = 2 };
enum SessionLogField : std::uint64_t { kStatus = 1 };

constexpr std::array<std::uint32_t, 256> make_crc_table() {
  std::array<std::uint32_t, 256> table{};
  for (std::uint32_t i = 0; i < 256; ++i) {
    std::uint32_t crc = i;
    for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1U) ^ ((crc & 1U) != 0 ? 0x82f63b78U : 0U);
    table[i] = crc;
  }
  return table;
}

/// A CRC stored beside the bytes it guards is masked, so that a CRC of both means something.
std::uint32_t masked_crc(std::string_view bytes) {
  return std::rotr(crc32c(bytes), 15) + 0xa282ead8U;
}

template <typename T>
void put_raw(std::string& out, T value) {
  std::array<char, sizeof(T)> bytes{};
  std::memcpy(bytes.data(), &value, sizeof(T));
  out.append(bytes.data(), bytes.size());
}

void put_varint(std::string& out, std::uint64_t value) {
  for (; value >= 0x80; value >>= 7U) out += static_cast<char>(value | 0x80U);
  out += static_cast<char>(value);
}

enum class Wire : std::uint64_t { kVarint = 0, kFixed64 = 1, kBytes = 2, kFixed32 = 5 };

void put_key(std::string& out, std::uint64_t field, Wire wire) {
  put_varint(out, field << 3U | static_cast<std::uint64_t>(wire));
}

void put_integer(std::string& out, std::uint64_t field, std::uint64_t value) {
  put_key(out, field, Wire::kVarint);
  put_varint(out, value);
}

void put_bytes(std::string& out, std::uint64_t field, std::string_view bytes) {
  put_key(out, field, Wire::kBytes);
  put_varint(out, bytes.size());
  out += bytes;
}

std::string begin_event(std::int64_t step) {
  const std::chrono::duration<double> now = std::chrono::system_clock::now().time_since_epoch();
  std::string event;
  put_key(event, kWallTime, Wire::kFixed64);
  put_raw(event, now.count());
  put_integer(event, kStep, static_cast<std::uint64_t>(step));
  return event;
}

std::filesystem::path fresh_path(const std::filesystem::path& directory) {
  const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(
                           std::chrono::system_clock::now().time_since_epoch())
                           .count();
  std::array<char, 256> host{};
  if (::gethostname(host.data(), host.size() - 1) != 0) host = {"localhost"};
  for (int number = 0;; ++number) {
    std::filesystem::path path = directory / fmt::format("events.out.tfevents.{:010}.{}.{}.{}",
                                                         seconds, host.data(), ::getpid(), number);
    std::error_code ignored;
    if (!std::filesystem::exists(path, ignored)) return path;
  }
}

}  // namespace

std::uint32_t crc32c(std::string_view bytes) {
  static constexpr std::array<std::uint32_t, 256> kTable = make_crc_table();
  std::uint32_t crc = ~0U;
  for (const char byte : bytes) {
    crc = (crc >> 8U) ^ kTable[(crc ^ static_cast<unsigned char>(byte)) & 0xffU];
  }
  return ~crc;
}

EventFile::EventFile(const std::filesystem::path& directory, std::int64_t resumed_step)
    : path_(fresh_path(directory)), writer_(std::make_unique<base::FileWriter>(path_)) {
  std::string version = begin_event(resumed_step);
  put_bytes(version, kFileVersion, "brain.Event:2");
  append(version);
  std::string log;
  put_integer(log, kStatus, kSessionStart);
  std::string start = begin_event(resumed_step + 1);
  put_bytes(start, kSessionLog, log);
  append(start);
  writer_->flush();
}

void EventFile::write(std::int64_t step, std::span<const Scalar> scalars) {
  std::string summary;
  for (const Scalar& scalar : scalars) {
    std::string value;
    put_bytes(value, kTag, scalar.tag);
    put_key(value, kSimpleValue, Wire::kFixed32);
    put_raw(value, static_cast<float>(scalar.value));
    put_bytes(summary, kValue, value);
  }
  std::string event = begin_event(step);
  put_bytes(event, kSummary, summary);
  append(event);
  writer_->flush();
}

void EventFile::append(std::string_view event) {
  std::string record;
  put_raw(record, static_cast<std::uint64_t>(event.size()));
  put_raw(record, masked_crc(record));
  record += event;
  put_raw(record, masked_crc(event));
  writer_->write(record);
}

}  // namespace longspan::train
