#include "longspan/checkpoint/store.h"

#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <catch2/catch.hpp>
#include <random>

#include "checkpoint/commit.h"
#include "checkpoint/manifest.h"
#include "longspan/base/file.h"
#include "tests/checkpoint/samples.h"

namespace longspan::checkpoint {
namespace {

using longspan::test::TemporaryDirectory;
using test::check_sample;
using test::message_of;
using test::sample_contents;

std::vector<std::filesystem::path> files_below(const std::filesystem::path& directory) {
  std::vector<std::filesystem::path> files;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(directory)) {
    if (entry.is_regular_file()) files.push_back(entry.path());
  }
  std::sort(files.begin(), files.end());
  return files;
}

void overwrite(const std::filesystem::path& path, std::uint64_t position, char byte) {
  std::fstream file(path, std::ios::binary | std::ios::in | std::ios::out);
  file.seekp(static_cast<std::streamoff>(position));
  file.put(byte);
  REQUIRE(file.flush());
}

TEST_CASE("store: a saved step is committed, whole, and named by latest") {
  const TemporaryDirectory directory;
  const Store store(directory.path() / "run" / "checkpoints");
  CHECK(store.steps().empty());
  const auto saved =
      Store(directory.path() / "run" / "checkpoints").save(100, sample_contents(1), 0);
  CHECK(saved == directory.path() / "run" / "checkpoints" / "step-00000100");
  CHECK(store.steps() == std::vector<std::int64_t>{100});
  CHECK(store.step_directory(100) == saved);
  CHECK(test::latest_of(saved.parent_path()) == saved);
  check_sample(saved, 1);
  CHECK(SafetensorsFile(saved / "model.safetensors").metadata().at("format") == "pt");
  CHECK_FALSE(test::has_leftovers(saved.parent_path()));

  const Manifest manifest = read_manifest(saved);
  CHECK(manifest.step == 100);
  CHECK(manifest.files.size() == 5);
  CHECK(manifest.files.at("tokenizer/vocabulary.txt").bytes == 1);
}

TEST_CASE("store: bytes_of is what the files take") {
  const TemporaryDirectory directory;
  Contents contents = sample_contents(3);
  contents.write_more = nullptr;
  const auto saved = Store(directory.path()).save(INT64_MAX, contents, 0);
  CHECK(saved.filename() == "step-9223372036854775807");
  std::uint64_t total = 0;
  for (const auto& file : files_below(saved)) total += std::filesystem::file_size(file);
  CHECK(Store::bytes_of(contents) == total);
}

TEST_CASE("store: equal contents give equal bytes") {
  const TemporaryDirectory directory;
  const auto first = Store(directory.path() / "a").save(7, sample_contents(5), 0);
  const auto second = Store(directory.path() / "b").save(7, sample_contents(5), 0);
  for (const auto& file : files_below(first)) {
    CHECK(test::read_bytes(file) == test::read_bytes(second / file.lexically_relative(first)));
  }
}

TEST_CASE("store: retention keeps the newest, and never removes the one just written") {
  const TemporaryDirectory directory;
  Store store(directory.path());
  for (std::int64_t step = 1; step <= 5; ++step) store.save(step * 10, sample_contents(1), 3);
  CHECK(store.steps() == std::vector<std::int64_t>{30, 40, 50});
  store.save(35, sample_contents(2), 1);  // a run that went back to step 30
  CHECK(store.steps() == std::vector<std::int64_t>{35, 40, 50});
  check_sample(store.step_directory(35), 2);
  store.save(60, sample_contents(1), 0);
  CHECK(store.steps() == std::vector<std::int64_t>{35, 40, 50, 60});
  store.save(60, sample_contents(4), 1);
  CHECK(store.steps() == std::vector<std::int64_t>{60});
  check_sample(store.step_directory(60), 4);
  CHECK_FALSE(test::has_leftovers(directory.path()));
}

TEST_CASE("store: only committed directories with the exact name count") {
  const TemporaryDirectory directory;
  Store store(directory.path());
  const auto good = store.save(7, sample_contents(1), 0);
  for (const char* name : {"step-8", "step-000000009", "step-0000001x", "step--0000001", "best",
                           ".tmp-step-00000011", "step-99999999999999999999"}) {
    std::filesystem::copy(good, directory.path() / name, std::filesystem::copy_options::recursive);
  }
  std::filesystem::create_directory(directory.path() / "step-00000012");  // no manifest
  test::write_bytes(directory.path() / "step-00000013", "a file");
  CHECK(store.steps() == std::vector<std::int64_t>{7});
  store.save(12, sample_contents(2), 0);
  store.save(13, sample_contents(3), 0);
  CHECK(store.steps() == std::vector<std::int64_t>{7, 12, 13});
  check_sample(store.step_directory(13), 3);
  CHECK_FALSE(std::filesystem::exists(directory.path() / ".tmp-step-00000011"));
}

TEST_CASE("store: a replacement on a file system without exchange") {
  const TemporaryDirectory directory;
  Store store(directory.path());
  const auto final = store.save(7, sample_contents(1), 0);
  const auto aside = aside_path(directory.path(), 7);

  SECTION("goes through") {
    const auto fresh = Store(directory.path() / "other").save(7, sample_contents(2), 0);
    publish_by_moving_aside(fresh, final, aside);
    check_sample(final, 2);
    CHECK_FALSE(test::has_leftovers(directory.path()));
  }
  SECTION("keeps the old one when the new one cannot be renamed") {
    CHECK_THAT(
        message_of([&] { publish_by_moving_aside(directory.path() / "none", final, aside); }),
        Catch::Contains("cannot rename") && Catch::Contains("none"));
    check_sample(final, 1);
    CHECK_FALSE(test::has_leftovers(directory.path()));
  }
  SECTION("counts the old one while it waits, and brings it back") {
    std::filesystem::rename(final, aside);
    CHECK(store.steps() == std::vector<std::int64_t>{7});
    check_sample(store.step_directory(7), 1);
    store.save(8, sample_contents(2), 0);
    CHECK(store.steps() == std::vector<std::int64_t>{7, 8});
    check_sample(final, 1);
    CHECK_FALSE(test::has_leftovers(directory.path()));
  }
  SECTION("drops the old one when the new one has arrived") {
    std::filesystem::rename(final, aside);
    const auto fresh = Store(directory.path() / "other").save(7, sample_contents(2), 0);
    std::filesystem::rename(fresh, final);
    check_sample(store.step_directory(7), 2);
    clear_leftovers(directory.path());
    check_sample(final, 2);
    CHECK_FALSE(test::has_leftovers(directory.path()));
  }
}

TEST_CASE("verify: names the file and what differs") {
  const TemporaryDirectory directory;
  const auto saved = Store(directory.path()).save(1, sample_contents(1), 0);
  const auto fault = [&] {
    CHECK_THROWS_AS(verify(saved), base::DamagedCheckpointError);
    return message_of([&] { verify(saved); });
  };
  SECTION("missing") {
    std::filesystem::remove(saved / "optimizer.safetensors");
    CHECK_THAT(fault(), Catch::Contains(saved.string()) &&
                            Catch::Contains("optimizer.safetensors cannot be read (No such file"));
  }
  SECTION("longer") {
    std::ofstream(saved / "config.json", std::ios::app) << "x";
    CHECK_THAT(fault(), Catch::Contains("config.json has 4 bytes, expected 3"));
  }
  SECTION("changed") {
    test::write_bytes(saved / "config.json", "[]\n");
    CHECK_THAT(fault(), Catch::Contains("config.json has the xxh3 ") &&
                            Catch::Contains(", expected " + base::xxh3_hex("{}\n", 3)));
  }
  SECTION("a directory or a pipe in its place") {
    std::filesystem::remove(saved / "config.json");
    std::filesystem::create_directory(saved / "config.json");
    CHECK_THAT(fault(), Catch::Contains("config.json cannot be read"));
    std::filesystem::remove(saved / "config.json");
    REQUIRE(::mkfifo((saved / "config.json").c_str(), 0600) == 0);
    CHECK_THAT(fault(), Catch::Contains("config.json"));
  }
  SECTION("from another step") {
    const auto other = Store(directory.path()).save(2, sample_contents(2), 0);
    std::filesystem::copy(other / "model.safetensors", saved / "model.safetensors",
                          std::filesystem::copy_options::overwrite_existing);
    CHECK_THAT(fault(), Catch::Contains("model.safetensors has the xxh3"));
  }
  SECTION("no manifest, or one that is something else") {
    for (const char* text : {"", "{", "[]", "{\"step\": 1}", "{\"step\": 1, \"files\": 3}",
                             "{\"step\": 1, \"files\": {}}", "null"}) {
      test::write_bytes(saved / "manifest.json", text);
      CHECK_THAT(fault(), Catch::Contains("manifest.json"));
    }
    std::filesystem::remove(saved / "manifest.json");
    CHECK_THAT(fault(), Catch::Contains("manifest.json cannot be read (No such file"));
  }
  SECTION("a manifest that points outside") {
    for (const char* name : {"../step-00000001/config.json", "/etc/passwd", "tokenizer/../x", ""}) {
      Manifest manifest = read_manifest(Store(directory.path()).save(2, sample_contents(1), 0));
      manifest.files[name] = {1, "0"};
      test::write_bytes(saved / "manifest.json", render_manifest(manifest));
      CHECK_THAT(fault(), Catch::Contains("outside it"));
    }
  }
  SECTION("extra files are nobody's business") {
    test::write_bytes(saved / "README.md", "mine");
    CHECK_NOTHROW(verify(saved));
  }
}

TEST_CASE("verify: every flipped bit is found, whichever file it is in") {
  const TemporaryDirectory directory;
  const auto saved = Store(directory.path()).save(1, sample_contents(1), 0);
  std::vector<std::pair<std::filesystem::path, std::string>> files;
  std::uint64_t total = 0;
  for (const auto& path : files_below(saved)) {
    files.emplace_back(path, test::read_bytes(path));
    total += files.back().second.size();
  }
  REQUIRE(files.size() == 6);
  std::mt19937_64 random(1);
  const auto flip = [&](std::size_t file, std::uint64_t bit) {
    const char byte = files[file].second[bit / 8];
    overwrite(files[file].first, bit / 8, static_cast<char>(byte ^ (1U << (bit % 8))));
    INFO(files[file].first << " bit " << bit);
    CHECK_THROWS_AS(verify(saved), base::DamagedCheckpointError);
    overwrite(files[file].first, bit / 8, byte);
  };
  for (int i = 0; i < 400; ++i) {
    std::uint64_t bit = random() % (total * 8);
    std::size_t file = 0;
    for (; bit >= files[file].second.size() * 8; ++file) bit -= files[file].second.size() * 8;
    flip(file, bit);
  }
  const auto manifest = std::find_if(files.begin(), files.end(), [](const auto& file) {
    return file.first.filename() == kManifestName;
  });
  const auto index = static_cast<std::size_t>(manifest - files.begin());
  for (std::uint64_t bit = 0; bit < manifest->second.size() * 8; bit += 7) {
    flip(index, bit);
  }
  CHECK_NOTHROW(verify(saved));
}

TEST_CASE("store: latest_intact falls back over damaged steps and reports them") {
  const TemporaryDirectory directory;
  Store store(directory.path());
  std::vector<DamagedStep> damaged;
  CHECK(Store(directory.path() / "none").latest_intact(damaged) == std::nullopt);
  for (std::int64_t step = 1; step <= 3; ++step) store.save(step, sample_contents(1), 0);
  CHECK(store.latest_intact(damaged) == 3);
  CHECK(damaged.empty());

  test::write_bytes(store.step_directory(3) / "trainer.json", "");
  std::filesystem::remove(store.step_directory(2) / "model.safetensors");
  CHECK(store.latest_intact(damaged) == 1);
  REQUIRE(damaged.size() == 2);
  CHECK(damaged[0].step == 3);
  CHECK_THAT(damaged[0].reason, Catch::Contains("trainer.json has 0 bytes"));
  CHECK(damaged[1].step == 2);
  CHECK_THAT(damaged[1].reason, Catch::Contains("model.safetensors"));

  std::filesystem::remove(store.step_directory(1) / "model.safetensors");
  CHECK_THROWS_AS(store.latest_intact(damaged), base::DamagedCheckpointError);
  damaged.clear();
  CHECK_THAT(message_of([&] { store.latest_intact(damaged); }),
             Catch::Contains("none of the 3 checkpoints") && Catch::Contains("trainer.json"));

  store.save(3, sample_contents(9), 1);
  damaged.clear();
  CHECK(store.latest_intact(damaged) == 3);
  check_sample(store.step_directory(3), 9);
}

TEST_CASE("store: contents that make no checkpoint are refused and leave nothing") {
  const TemporaryDirectory directory;
  Store store(directory.path());
  store.save(1, sample_contents(1), 0);
  for (const char* name :
       {"", ".", "..", "a/b", "/a", "manifest.json", "model.safetensors", "config.json"}) {
    Contents contents = sample_contents(2);
    contents.texts.push_back({name, "x"});
    CHECK_THAT(message_of([&] { store.save(2, contents, 1); }),
               Catch::Contains("file name '" + std::string(name) + "'"));
  }
  Contents contents = sample_contents(2);
  contents.write_more = [](const auto& path) {
    std::filesystem::create_symlink("/etc/passwd", path / "link");
  };
  CHECK_THAT(message_of([&] { store.save(2, contents, 1); }), Catch::Contains("link"));
  contents.write_more = [](const auto&) { throw std::runtime_error("tokenizer is gone"); };
  CHECK_THROWS_WITH(store.save(2, contents, 1), "tokenizer is gone");
  CHECK_THROWS_AS(store.save(-1, sample_contents(1), 0), base::InternalError);
  CHECK(store.steps() == std::vector<std::int64_t>{1});
  check_sample(store.step_directory(1), 1);
  CHECK_FALSE(test::has_leftovers(directory.path()));
}

/// Runs `body` in a child process and returns its exit code; limits and users are its own.
int exit_code_of(const std::function<int()>& body) {
  const pid_t child = ::fork();
  if (child == 0) ::_exit(body());
  int status = 0;
  ::waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

TEST_CASE("store: a disk that takes no more leaves the earlier checkpoints") {
  const TemporaryDirectory directory;
  Store store(directory.path() / "checkpoints");
  store.save(1, sample_contents(1), 1);
  const int code = exit_code_of([&] {
    // The limit on file sizes stands in for a full disk: write fails with EFBIG.
    ::signal(SIGXFSZ, SIG_IGN);
    const rlimit limit{512, 512};
    ::setrlimit(RLIMIT_FSIZE, &limit);
    const std::string message = message_of([&] { store.save(2, sample_contents(2), 1); });
    if (message.find("File too large") == std::string::npos) return 1;
    if (message.find("checkpoint of step 2 failed") == std::string::npos) return 2;
    return message.find("safetensors") == std::string::npos ? 3 : 0;
  });
  CHECK(code == 0);
  CHECK(store.steps() == std::vector<std::int64_t>{1});
  check_sample(store.step_directory(1), 1);
  CHECK_FALSE(test::has_leftovers(directory.path() / "checkpoints"));
}

TEST_CASE("store: a directory that cannot be written or read is an error with its path") {
  const TemporaryDirectory directory;
  test::write_bytes(directory.path() / "file", "x");
  CHECK_THAT(
      message_of([&] { Store(directory.path() / "file" / "ck").save(1, sample_contents(1), 0); }),
      Catch::Contains("file/ck") && Catch::Contains("Not a directory"));

  Store store(directory.path() / "checkpoints");
  store.save(1, sample_contents(1), 0);
  const auto as_another_user = [&](mode_t mode, const std::function<void()>& action,
                                   const std::string& part) {
    REQUIRE(::chmod(directory.path().c_str(), 0755) == 0);
    REQUIRE(::chmod((directory.path() / "checkpoints").c_str(), mode) == 0);
    const int code = exit_code_of([&] {
      if (::getuid() == 0 && (::setgid(65534) != 0 || ::setuid(65534) != 0)) return 2;
      const std::string message = message_of(action);
      const bool told = message.find(part) != std::string::npos &&
                        message.find("checkpoints") != std::string::npos;
      return told ? 0 : 1;
    });
    REQUIRE(::chmod((directory.path() / "checkpoints").c_str(), 0755) == 0);
    return code;
  };
  CHECK(as_another_user(
            0555, [&] { store.save(2, sample_contents(2), 1); }, "Permission denied") == 0);
  CHECK(as_another_user(
            0000, [&] { store.steps(); }, "Permission denied") == 0);
  CHECK(as_another_user(
            0444, [&] { store.steps(); }, "Permission denied") == 0);
  CHECK(store.steps() == std::vector<std::int64_t>{1});
  check_sample(store.step_directory(1), 1);
}

}  // namespace
}  // namespace longspan::checkpoint
