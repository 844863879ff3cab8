#include "train/metrics.h"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <fstream>
#include <functional>
#include <nlohmann/json.hpp>

#include "longspan/base/error.h"
#include "longspan/base/file.h"
#include "tests/support/temporary_directory.h"

namespace longspan::train {
namespace {

using longspan::test::TemporaryDirectory;

StepMetrics sample(std::int64_t step) {
  StepMetrics metrics;
  metrics.step = step;
  metrics.tokens = 4096;
  metrics.loss = 2.5 + 1.0 / 3.0;
  metrics.grad_norm = 0.1;
  metrics.lr = 3e-5;
  metrics.step_seconds = 2;
  metrics.tokens_per_second = 2048;
  metrics.model_flops_utilization = 0.375;
  metrics.peak_bytes = {{"weights", 100}, {"total", 18446744073709551615U}};
  metrics.comm_bytes = {{"all_reduce", 7}};
  metrics.skipped = 1;
  return metrics;
}

std::string lines_in(const TemporaryDirectory& directory) {
  return base::read_text(directory.path() / "metrics.jsonl");
}

std::size_t event_files_in(const TemporaryDirectory& directory) {
  std::size_t count = 0;
  for (const auto& entry : std::filesystem::directory_iterator(directory.path())) {
    if (entry.path().filename().string().starts_with("events.out.tfevents.")) ++count;
  }
  return count;
}

TEST_CASE("metrics: lines have the documented keys, in order, and exact values") {
  const TemporaryDirectory directory;
  MetricsWriter writer(directory.path(), 0, false);
  writer.write(sample(1));
  writer.write(ValidationMetrics{1, 2.25, 1.5});
  writer.write(ValidationMetrics{2, 2.25});
  // Read while the writer is open: each line is handed over at once.
  CHECK(lines_in(directory) ==
        R"({"step":1,"tokens":4096,"loss":2.8333333333333335,"grad_norm":0.1,"lr":3e-05,)"
        R"("step_seconds":2,"tokens_per_second":2048,"model_flops_utilization":0.375,)"
        R"("peak_bytes":{"total":18446744073709551615,"weights":100},)"
        R"("comm_bytes":{"all_reduce":7},"skipped":1})"
        "\n"
        R"({"step":1,"validation_loss":2.25,"bits_per_byte":1.5})"
        "\n"
        R"({"step":2,"validation_loss":2.25})"
        "\n");
  CHECK(event_files_in(directory) == 0);
}

TEST_CASE("metrics: doubles read back bit for bit, and what is not finite is a string") {
  const TemporaryDirectory directory;
  MetricsWriter writer(directory.path(), 0, false);
  const double values[] = {1.0 / 3.0, 5e-324, 1.7976931348623157e308, -2.5, 1e22, 123456789.125};
  for (const double value : values) {
    StepMetrics metrics = sample(1);
    metrics.loss = value;
    writer.write(metrics);
  }
  StepMetrics odd = sample(2);
  odd.loss = std::nan("");
  odd.grad_norm = INFINITY;
  odd.lr = -INFINITY;
  writer.write(odd);
  writer.write(ValidationMetrics{2, std::nan(""), 1});

  std::ifstream file(directory.path() / "metrics.jsonl");
  std::string line;
  for (const double value : values) {
    REQUIRE(std::getline(file, line));
    const double read = nlohmann::json::parse(line).at("loss").get<double>();
    CHECK(read == value);
  }
  REQUIRE(std::getline(file, line));
  const auto object = nlohmann::json::parse(line);
  CHECK(object.at("loss") == "NaN");
  CHECK(object.at("grad_norm") == "Infinity");
  CHECK(object.at("lr") == "-Infinity");
  REQUIRE(std::getline(file, line));
  CHECK(nlohmann::json::parse(line).at("validation_loss") == "NaN");
}

TEST_CASE("metrics: resuming keeps the lines up to the step byte for byte") {
  const TemporaryDirectory directory;
  const auto path = directory.path() / "metrics.jsonl";
  const std::string kept =
      "{\"step\":1,\"loss\":3}\n{ \"step\": 2, \"validation_loss\": 2.50 }\n{\"step\":2}\n";
  const std::string dropped = "{\"step\":3,\"loss\":1}\n{\"step\":4}\n";
  const auto resume = [&](const std::string& text, std::int64_t step) {
    std::ofstream(path, std::ios::binary) << text;
    MetricsWriter(directory.path(), step, false).write(ValidationMetrics{9, 1});
    std::string found = lines_in(directory);
    const std::string added = "{\"step\":9,\"validation_loss\":1}\n";
    REQUIRE(found.ends_with(added));
    return found.substr(0, found.size() - added.size());
  };
  CHECK(resume(kept + dropped, 2) == kept);
  CHECK(resume(kept, 2) == kept);
  CHECK(resume(kept + dropped, 4) == kept + dropped);
  CHECK(resume(kept + dropped, 0).empty());
  CHECK(resume("", 5).empty());
  CHECK(resume(kept + "{\"step\":2,\"lo", 2) == kept);          // killed while writing
  CHECK(resume(kept + "{\"step\":2}", 2) == kept);              // not even the line's end
  CHECK(resume(kept + std::string(64, '\0'), 2) == kept);       // power lost
  CHECK(resume(kept + std::string("\0\0\n\0", 4), 2) == kept);  // the same, with an end
  CHECK(resume(kept + "garbage\n" + dropped, 2) == kept);       // before dropped lines alone
  CHECK(resume("{\"step\":3}\n" + kept, 2) == kept);            // out of order
  CHECK_FALSE(std::filesystem::exists(directory.path() / "metrics.jsonl.tmp"));
}

TEST_CASE("metrics: damage among lines to be kept is an error that names the line") {
  const TemporaryDirectory directory;
  const auto path = directory.path() / "metrics.jsonl";
  for (const char* line :
       {"garbage", "[1]", "{\"loss\":1}", "{\"step\":\"1\"}", "{\"step\":1.5}"}) {
    const std::string text = "{\"step\":1}\n" + std::string(line) + "\n{\"step\":2}\n";
    std::ofstream(path, std::ios::binary) << text;
    INFO(line);
    CHECK_THROWS_WITH(MetricsWriter(directory.path(), 5, false),
                      Catch::Contains("metrics.jsonl line 2 ") && Catch::Contains("line 3"));
    CHECK_THROWS_AS(MetricsWriter(directory.path(), 5, false), base::InputError);
    CHECK(lines_in(directory) == text);
  }
}

TEST_CASE("metrics: a killed writer leaves every line it wrote") {
  const TemporaryDirectory directory;
  const pid_t child = ::fork();
  if (child == 0) {
    MetricsWriter writer(directory.path(), 0, true);
    for (int step = 1; step <= 20; ++step) writer.write(sample(step));
    ::kill(::getpid(), SIGKILL);
  }
  int status = 0;
  REQUIRE(::waitpid(child, &status, 0) == child);
  REQUIRE(WIFSIGNALED(status));
  const std::string text = lines_in(directory);
  CHECK(std::count(text.begin(), text.end(), '\n') == 20);
  MetricsWriter(directory.path(), 20, true).sync();
  CHECK(lines_in(directory) == text);
  CHECK(event_files_in(directory) == 2);
}

TEST_CASE("metrics: TensorBoard gets each value under its tag") {
  const TemporaryDirectory directory;
  MetricsWriter writer(directory.path() / "new" / "run", 0, true);
  writer.write(sample(1));
  writer.write(ValidationMetrics{1, 2.25, 1.5});
  std::string events;
  for (const auto& entry : std::filesystem::directory_iterator(directory.path() / "new" / "run")) {
    if (entry.path().filename() != "metrics.jsonl") events += base::read_text(entry.path());
  }
  for (const char* tag :
       {"train/loss", "train/grad_norm", "train/lr", "train/tokens_per_second", "train/mfu",
        "memory/peak_total", "validation/loss", "validation/bits_per_byte"}) {
    INFO(tag);
    CHECK(events.find(tag) != std::string::npos);
  }
}

TEST_CASE("metrics: a place that cannot be written is an error with its path") {
  const TemporaryDirectory directory;
  std::ofstream(directory.path() / "file") << "x";
  CHECK_THROWS_WITH(MetricsWriter(directory.path() / "file" / "run", 0, true),
                    Catch::Contains("file/run"));
}

}  // namespace
}  // namespace longspan::train
