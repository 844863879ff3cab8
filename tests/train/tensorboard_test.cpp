#include "train/tensorboard.h"

#include <unistd.h>

#include <bit>
#include <catch2/catch.hpp>
#include <cstring>
#include <filesystem>
#include <string>
#include <vector>

#include "longspan/base/file.h"
#include "tests/support/temporary_directory.h"

namespace longspan::train {
namespace {

template <typename T>
T take(std::string_view& bytes) {
  REQUIRE(bytes.size() >= sizeof(T));
  T value{};
  std::memcpy(&value, bytes.data(), sizeof(T));
  bytes.remove_prefix(sizeof(T));
  return value;
}

/// Undoes the mask by its definition: a rotation by 15 bits and a constant.
std::uint32_t unmasked(std::uint32_t masked) { return std::rotl(masked - 0xa282ead8U, 15); }

/// Splits a file into its records after checking both of each one's CRCs.
std::vector<std::string> records_of(const std::string& file) {
  std::vector<std::string> records;
  std::string_view rest = file;
  while (!rest.empty()) {
    const std::string_view length_bytes = rest.substr(0, 8);
    const auto length = take<std::uint64_t>(rest);
    CHECK(unmasked(take<std::uint32_t>(rest)) == crc32c(length_bytes));
    REQUIRE(rest.size() >= length + 4);
    records.emplace_back(rest.substr(0, length));
    rest.remove_prefix(length);
    CHECK(unmasked(take<std::uint32_t>(rest)) == crc32c(records.back()));
  }
  return records;
}

TEST_CASE("crc32c: the published test values") {
  // RFC 3720, appendix B.4.
  CHECK(crc32c(std::string(32, '\0')) == 0x8a9136aaU);
  CHECK(crc32c(std::string(32, '\xff')) == 0x62a8ab43U);
  CHECK(crc32c("123456789") == 0xe3069283U);
  CHECK(crc32c("") == 0);
}

TEST_CASE("tensorboard: records, fields and file name are as readers expect") {
  const longspan::test::TemporaryDirectory directory;
  EventFile file(directory.path(), 0);
  const std::vector<Scalar> scalars = {{"train/loss", 2.5}, {"train/lr", 0.1}};
  file.write(300, scalars);
  file.sync();

  const std::string name = file.path().filename().string();
  const std::string prefix = "events.out.tfevents.";
  REQUIRE(name.starts_with(prefix));
  CHECK(name.find_first_not_of("0123456789", prefix.size()) == prefix.size() + 10);  // seconds
  std::string suffix = ".";
  suffix += std::to_string(::getpid());
  suffix += ".0";
  CHECK(name.ends_with(suffix));

  const std::vector<std::string> records = records_of(base::read_text(file.path()));
  REQUIRE(records.size() == 3);
  std::string_view version = records[0];
  CHECK(take<char>(version) == '\x09');  // field 1, 64 bits
  CHECK(take<double>(version) > 1.6e9);  // seconds since 1970
  CHECK(version == std::string("\x10\x00\x1a\x0d", 4) + "brain.Event:2");
  CHECK(records[1].substr(9) ==
        std::string("\x10\x01\x3a\x02\x08\x01", 6));  // session start, step 1

  std::string summary =
      std::string("\x0a\x11\x0a\x0a", 4) + "train/loss" + std::string("\x15\x00\x00\x20\x40", 5);
  summary +=
      std::string("\x0a\x0f\x0a\x08", 4) + "train/lr" + std::string("\x15\xcd\xcc\xcc\x3d", 5);
  // Step 300 is the varint ac 02.
  CHECK(records[2].substr(9) ==
        std::string("\x10\xac\x02\x2a", 4) + static_cast<char>(summary.size()) + summary);
}

TEST_CASE("tensorboard: a second file of the same second has another name and starts later") {
  const longspan::test::TemporaryDirectory directory;
  const EventFile first(directory.path(), 0);
  const EventFile second(directory.path(), 10);
  CHECK(first.path() != second.path());
  const std::vector<std::string> records = records_of(base::read_text(second.path()));
  REQUIRE(records.size() == 2);
  CHECK(records[1].substr(9) == std::string("\x10\x0b\x3a\x02\x08\x01", 6));
}

}  // namespace
}  // namespace longspan::train
