#include "longspan/data/npy_clips.h"

#include <catch2/catch.hpp>
#include <cstring>
#include <fstream>
#include <string>

#include "longspan/base/error.h"
#include "longspan/base/float16.h"
#include "tests/support/temporary_directory.h"

namespace longspan::data {
namespace {

using Catch::Matchers::Contains;
using test::TemporaryDirectory;

/// As NumPy writes it, padded to a multiple of 64 bytes.
std::string header(const std::string& dictionary, int version = 1) {
  std::string text = dictionary;
  const std::size_t before = version == 1 ? 10 : 12;
  while ((before + text.size() + 1) % 64 != 0) text += ' ';
  text += '\n';
  std::string bytes("\x93NUMPY", 6);
  bytes += static_cast<char>(version);
  bytes += '\0';
  for (std::size_t i = 0; i < before - 8; ++i) {
    bytes += static_cast<char>(text.size() >> (8 * i) & 0xffU);
  }
  return bytes + text;
}

std::string dictionary(const std::string& descr, const std::string& shape) {
  return "{'descr': '" + descr + "', 'fortran_order': False, 'shape': " + shape + ", }";
}

template <typename T>
std::string numbers(std::size_t count) {
  std::string bytes;
  for (std::size_t i = 0; i < count; ++i) {
    T value{};
    if constexpr (std::is_same_v<T, base::Float16>) {
      value = base::Float16(static_cast<float>(i));
    } else {
      value = static_cast<T>(i);
    }
    bytes.append(reinterpret_cast<const char*>(&value), sizeof(T));
  }
  return bytes;
}

std::filesystem::path written(const TemporaryDirectory& scratch, const std::string& bytes,
                              const std::string& name = "a.npy") {
  const std::filesystem::path path = scratch.path() / name;
  std::ofstream(path, std::ios::binary) << bytes;
  return path;
}

std::string refusal(const TemporaryDirectory& scratch, const std::string& bytes) {
  try {
    const NpyClips clips({written(scratch, bytes)});
  } catch (const base::InputError& error) {
    return error.what();
  }
  return "";
}

TEST_CASE("npy: clips of every dtype and version, box by box") {
  const TemporaryDirectory scratch;
  const int version = GENERATE(1, 2, 3);
  const std::string shape = "(2, 3, 2, 4, 5)";  // 240 elements
  const std::string descr = GENERATE("<f2", "<f4", "<f8", "|u1");
  const std::string data = descr == "<f2"   ? numbers<base::Float16>(240)
                           : descr == "<f4" ? numbers<float>(240)
                           : descr == "<f8" ? numbers<double>(240)
                                            : numbers<std::uint8_t>(240);
  const NpyClips clips({written(scratch, header(dictionary(descr, shape), version) + data)});
  REQUIRE(clips.count() == 2);
  CHECK(clips.shape(1) == ClipShape{3, 2, 4, 5});
  const ClipBox box{1, 2, 2, 2, 1, 3};
  std::vector<float> out(2 * 2 * 3 * 2);
  clips.read(1, box, out.data());
  std::size_t at = 0;
  for (int t = 1; t < 3; ++t) {
    for (int y = 2; y < 4; ++y) {
      for (int x = 1; x < 4; ++x) {
        for (int c = 0; c < 2; ++c) {
          const int place = (((3 + t) * 2 + c) * 4 + y) * 5 + x;
          const float expected = descr == "|u1" ? static_cast<float>(place) / 127.5F - 1.0F
                                                : static_cast<float>(place);
          REQUIRE(out[at++] == expected);
        }
      }
    }
  }
}

TEST_CASE("npy: several files, one clip each or several, of sizes of their own") {
  const TemporaryDirectory scratch;
  const auto one =
      written(scratch, header(dictionary("<f4", "(2, 1, 2, 2)")) + numbers<float>(8), "one.npy");
  const auto two =
      written(scratch, header(dictionary("<f4", "(3, 1, 1, 1, 3)")) + numbers<float>(9), "two.npy");
  const NpyClips clips({one, two});
  CHECK(clips.count() == 4);
  CHECK(clips.shape(0) == ClipShape{2, 1, 2, 2});
  CHECK(clips.shape(3) == ClipShape{1, 1, 1, 3});
  std::vector<float> out(3);
  clips.read(2, {0, 1, 0, 1, 0, 3}, out.data());
  CHECK(out == std::vector<float>{3, 4, 5});
  CHECK_THAT(clips.fingerprint(), Contains("one.npy <f4 1x2x1x2x2"));
}

TEST_CASE("npy: what is no array of clips is refused by name") {
  const TemporaryDirectory scratch;
  const std::string good = header(dictionary("<f4", "(1, 1, 2, 2)")) + numbers<float>(4);
  CHECK(refusal(scratch, good).empty());
  for (std::size_t length = 0; length < good.size(); ++length) {
    INFO(length);
    CHECK_THAT(refusal(scratch, good.substr(0, length)), Contains("a.npy"));
  }
  const auto with = [&](const std::string& text) {
    return refusal(scratch, header(text) + numbers<float>(64));
  };
  CHECK_THAT(with(dictionary(">f4", "(1, 1, 2, 2)")), Contains("\">f4\"; legal: \"<f2\""));
  CHECK_THAT(with(dictionary("<f4", "(2, 2)")), Contains("[2, 2]; legal: [frames"));
  CHECK_THAT(with(dictionary("<f4", "(1, 0, 2, 2)")), Contains("none of them 0"));
  CHECK_THAT(with(dictionary("<f4", "(1, 1, 9, 9)")), Contains("shorter than its array"));
  CHECK_THAT(with(dictionary("<f4", "(4294967296, 4294967296, 4294967296, 4294967296)")),
             Contains("shorter than its array"));
  CHECK_THAT(with(dictionary("<f4", "(99999999999999999999, 1, 1, 1)")), Contains("whole numbers"));
  CHECK_THAT(with(dictionary("<f4", "(-1, 1, 1, 1)")), Contains("whole numbers"));
  CHECK_THAT(with("{'descr': '<f4', 'fortran_order': True, 'shape': (1, 1, 2, 2), }"),
             Contains("Fortran order"));
  CHECK_THAT(with("{'descr': '<f4', 'fortran_order': False}"), Contains("lacks"));
  CHECK_THAT(with("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (1,)}"),
             Contains("quotes"));
  CHECK_THAT(with("{'descr': '<f4', 'descr': '<f4', 'fortran_order': False, 'shape': (1,)}"),
             Contains("the key 'descr'"));
  CHECK_THAT(with("{'descr': '<f4', 'fortran_order': False, 'shape': (1, 1, 2, 2), } 1"),
             Contains("behind its end"));
  std::string other = good;
  other[6] = 4;
  CHECK_THAT(refusal(scratch, other), Contains("version 4.0"));
  other = good;
  other[0] = 'x';
  CHECK_THAT(refusal(scratch, other), Contains("is no .npy file"));
}

TEST_CASE("npy clips: what is written is read again") {
  const TemporaryDirectory scratch;
  const ClipShape shape{2, 3, 4, 5};
  std::vector<std::vector<float>> clips(2);
  for (std::int64_t i = 0; i < 2 * shape.elements(); ++i) {
    clips[static_cast<std::size_t>(i / shape.elements())].push_back(static_cast<float>(i));
  }
  const auto path = scratch.path() / "written.npy";
  write_npy_clips(path, shape, {clips[0].data(), clips[1].data()});
  const NpyClips found({path});
  REQUIRE(found.count() == 2);
  for (std::int64_t clip = 0; clip < 2; ++clip) {
    REQUIRE(found.shape(clip) == shape);
    std::vector<float> numbers(static_cast<std::size_t>(shape.elements()));
    found.read(clip, {0, 2, 0, 4, 0, 5}, numbers.data());
    CHECK(numbers == clips[static_cast<std::size_t>(clip)]);
  }
}

}  // namespace
}  // namespace longspan::data
