#include "longspan/base/file.h"

#include <catch2/catch.hpp>
#include <cmath>
#include <filesystem>
#include <limits>
#include <string>

#include "longspan/base/bfloat16.h"
#include "longspan/base/error.h"
#include "tests/support/temporary_directory.h"

using namespace longspan::base;

TEST_CASE("files are written, appended, mapped and replaced", "[file]") {
  const longspan::test::TemporaryDirectory scratch;
  const auto path = scratch.path() / "a.txt";
  {
    FileWriter writer(path);
    writer.write("one ");
    writer.write(std::string(3 << 20, 'x'));
    CHECK(writer.written() == 4 + (3 << 20));
    writer.commit();
  }
  {
    FileWriter writer(path, true);
    writer.write("end");
    writer.commit();
  }
  const MappedFile mapped(path);
  CHECK(mapped.size() == 7 + (3 << 20));
  CHECK(mapped.text().substr(mapped.size() - 3) == "end");
  replace_file(path, "new");
  CHECK(read_text(path) == "new");
  CHECK(std::distance(std::filesystem::directory_iterator(scratch.path()), {}) == 1);
  replace_file(scratch.path() / "empty", "");
  CHECK(MappedFile(scratch.path() / "empty").size() == 0);
}

TEST_CASE("what cannot be opened or written is named", "[file]") {
  const longspan::test::TemporaryDirectory scratch;
  CHECK_THROWS_WITH(MappedFile(scratch.path() / "none"), Catch::Contains("none"));
  CHECK_THROWS_WITH(MappedFile(scratch.path()), Catch::Contains("not a regular file"));
  CHECK_THROWS_AS(FileWriter(scratch.path() / "none" / "x"), InputError);
  CHECK_THROWS_AS(make_directories("/proc/none"), InputError);
}

TEST_CASE("streamed and whole hashes agree", "[file]") {
  const std::string text(100000, 'q');
  Xxh3Stream stream;
  stream.update(text.data(), 333);
  stream.update(text.data() + 333, text.size() - 333);
  CHECK(stream.hex() == xxh3_hex(text.data(), text.size()));
  CHECK(stream.hex().size() == 32);
  CHECK(xxh3_hex("", 0) == "99aa06d3014798d86001c324468d497f");
}

TEST_CASE("sizes for people", "[file]") {
  CHECK(format_bytes(0) == "0 B");
  CHECK(format_bytes(999) == "999 B");
  CHECK(format_bytes(1024) == "1.00 KiB");
  CHECK(format_bytes(std::uint64_t{1536} << 20U) == "1.50 GiB");
  CHECK(format_bytes(std::uint64_t{300} << 20U) == "300 MiB");
}

TEST_CASE("bfloat16 rounds to nearest even and keeps NaN", "[bfloat16]") {
  CHECK(static_cast<float>(BFloat16(1.0F)) == 1.0F);
  CHECK(static_cast<float>(BFloat16(1.0F + 0x1p-8F)) == 1.0F);            // tie to even
  CHECK(static_cast<float>(BFloat16(1.0F + 0x3p-8F)) == 1.0F + 0x1p-6F);  // tie to even
  CHECK(static_cast<float>(BFloat16(1.0F + 0x1.01p-8F)) == 1.0F + 0x1p-7F);
  CHECK(std::isinf(static_cast<float>(BFloat16(3.4e38F))));
  CHECK(std::isnan(static_cast<float>(BFloat16(std::numeric_limits<float>::quiet_NaN()))));
  CHECK(static_cast<float>(BFloat16(-0.0F)) == 0.0F);
}
