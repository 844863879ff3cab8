#include <catch2/catch.hpp>
#include <cmath>
#include <map>
#include <nlohmann/json.hpp>

#include "longspan/backend/dry.h"
#include "longspan/base/error.h"
#include "longspan/base/file.h"
#include "tests/support/temporary_directory.h"
#include "train/trace/chrome_trace.h"
#include "train/trace/recorder.h"
#include "train/trace/step_trace.h"

namespace longspan::train {
namespace {

using backend::DeviceQueue;
using backend::Mark;

/// Queues that are where the test puts them; they tell times as CUDA does.
class FakeStreams : public backend::DeviceStreams {
 public:
  int device() const override { return 0; }
  void* compute() const override { return nullptr; }
  void* communication() const override { return nullptr; }
  std::unique_ptr<Mark> mark(DeviceQueue queue) const override {
    return std::make_unique<FakeMark>(seconds_.at(queue));
  }
  void move(DeviceQueue queue, double seconds) { seconds_[queue] = seconds; }

 private:
  class FakeMark : public Mark {
   public:
    explicit FakeMark(double seconds) : seconds_(seconds) {}
    double seconds_since(const Mark& earlier) const override {
      const double seconds = seconds_ - static_cast<const FakeMark&>(earlier).seconds_;
      REQUIRE(seconds >= 0);
      return 1e-3 * static_cast<double>(static_cast<float>(1e3 * seconds));
    }

   private:
    double seconds_;
  };
  std::map<DeviceQueue, double> seconds_ = {
      {DeviceQueue::kCompute, 0}, {DeviceQueue::kCommunication, 0}, {DeviceQueue::kCopies, 0}};
};

class FakeDevice : public backend::DryBackend {
 public:
  explicit FakeDevice(const FakeStreams& streams)
      : DryBackend(backend::DeviceProfile::load("h200"), 1), streams_(&streams) {}
  const backend::DeviceStreams* streams() const override { return streams_; }

 private:
  const FakeStreams* streams_;
};

Details named(const char* name) {
  Details details;
  details.name = name;
  return details;
}

TEST_CASE("trace: times of a device are exact after minutes") {
  FakeStreams streams;
  Timeline timeline;
  timeline.follow_device(streams, DeviceQueue::kCompute, Timeline::Clock::now());
  std::vector<double> expected;
  std::vector<std::size_t> marks;
  for (int i = 0; i < 1000; ++i) {
    // Far apart and near each other in turn.
    expected.push_back((expected.empty() ? 0 : expected.back()) + (i % 2 == 0 ? 0.7 : 10e-6));
    streams.move(DeviceQueue::kCompute, expected.back());
    marks.push_back(timeline.mark());
  }
  timeline.resolve();
  for (std::size_t i = 1; i < expected.size(); ++i) {
    const double found = timeline.seconds(marks[i]) - timeline.seconds(marks[i - 1]);
    REQUIRE(found == Approx(expected[i] - expected[i - 1]).margin(0.2e-6));
  }
}

/// By name; every one is there once.
std::map<std::string, TraceEvent> by_name(const Recorder& recorder) {
  std::map<std::string, TraceEvent> result;
  for (const TraceEvent& event : recorder.events()) {
    CHECK(event.end >= event.begin);
    CHECK(result.emplace(event.details.name, event).second);
  }
  return result;
}

TEST_CASE("trace: a span begins where its queue can, and ends where that is done") {
  FakeStreams streams;
  FakeDevice device(streams);
  Recorder recorder;
  recorder.follow(device);
  CHECK_FALSE(recorder.is_recording());
  recorder.begin_step(3);
  CHECK(recorder.is_recording());

  const auto work = recorder.begin(Row::kCompute, named("work"));
  streams.move(DeviceQueue::kCompute, 4);
  recorder.end(work);
  CHECK(recorder.row_of_host(Row::kCommunication) == Row::kHost);
  const auto copy = recorder.begin(Row::kCopies, named("behind the work"));
  streams.move(DeviceQueue::kCopies, 6);
  recorder.end(copy);
  const auto next = recorder.begin(Row::kCopies, named("behind the copy"));
  streams.move(DeviceQueue::kCopies, 7);
  recorder.end(next);
  // A queue that has nothing to do does not wait for the compute queue.
  recorder.end(recorder.begin(Row::kCommunication, named("nothing")));
  recorder.enter("place", 2);
  streams.move(DeviceQueue::kCompute, 9);
  recorder.leave();
  recorder.begin(Row::kCompute, named("without an end"));
  recorder.end_step();

  const auto events = by_name(recorder);
  const double start = events.at("work").begin;
  const auto check = [&](const char* name, double begin, double end) {
    INFO(name);
    CHECK(events.at(name).begin - start == Approx(begin).margin(1e-3));
    CHECK(events.at(name).end - start == Approx(end).margin(1e-3));
  };
  check("work", 0, 4);
  check("behind the work", 4, 6);
  check("behind the copy", 6, 7);
  check("nothing", 0, 0);
  check("place", 4, 9);
  check("step", 0, 9);
  CHECK(events.size() == 6);
  CHECK(events.at("step").details.number == 3);
}

TEST_CASE("trace: steps follow each other, and what is not of one is dropped") {
  Recorder recorder;  // by the host's clock
  recorder.begin_step(1);
  const auto late = recorder.begin(Row::kCommunication, named("late"));
  recorder.end_step();
  recorder.end(late);
  recorder.begin_step(2);
  recorder.end(late);
  recorder.end(recorder.begin(Row::kHost, named("work")));
  recorder.end_step();
  REQUIRE(recorder.events().size() == 3);
  CHECK(recorder.events()[0].end <= recorder.events()[1].begin);
  CHECK(recorder.events()[1].begin <= recorder.events()[2].begin);
  CHECK(recorder.events()[2].end <= recorder.events()[1].end);
  CHECK(std::string(recorder.events()[2].details.name) == "work");
  CHECK(recorder.row_of_host(Row::kCommunication) == Row::kCommunication);
}

TEST_CASE("trace: a place that an exception leaves has no end") {
  Recorder recorder;
  recorder.begin_step(1);
  struct Place {
    explicit Place(Recorder& recorder) : recorder_(&recorder) { recorder.enter("place", -1); }
    ~Place() { recorder_->leave(); }
    Recorder* recorder_;
  };
  try {
    const Place place(recorder);
    throw base::InternalError("the device has failed");
  } catch (const base::InternalError&) {
    recorder.end_step();
  }
  REQUIRE(recorder.events().size() == 1);
  CHECK(std::string(recorder.events()[0].details.name) == "step");
}

TEST_CASE("trace: what overlaps in a row gets rows of its own, places do not") {
  std::vector<TraceEvent> events;
  const auto add = [&](Row row, double begin, double end, const char* name) {
    events.push_back({row, begin, end, named(name)});
  };
  add(Row::kPlaces, 0, 9e-6, "outer");
  add(Row::kPlaces, 0, 2e-6, "inner");
  add(Row::kCommunication, 1e-6, 5e-6, "first");
  add(Row::kCommunication, 2e-6, 3e-6, "second");
  add(Row::kCommunication, 3e-6, 4e-6, "behind the second");
  add(Row::kCommunication, 5e-6, 6e-6, "behind the first");
  events.back().details.bytes = 12;
  events.back().details.group = "data";
  events.back().details.ranks = 4;
  events.back().details.number = 7;

  const auto json = nlohmann::json::parse(chrome_trace({rank_trace(events, 0), rank_trace({}, 1)}));
  std::map<std::string, nlohmann::json> spans;
  std::map<int, std::string> threads;
  std::map<int, std::string> processes;
  for (const auto& event : json["traceEvents"]) {
    if (event["ph"] == "X") spans[event["name"]] = event;
    if (event["name"] == "thread_name") threads[event["tid"]] = event["args"]["name"];
    if (event["name"] == "process_name") processes[event["pid"]] = event["args"]["name"];
  }
  const auto thread_of = [&](const char* name) { return threads.at(spans.at(name)["tid"]); };
  CHECK(thread_of("outer") == thread_of("inner"));
  CHECK(thread_of("first") == "communication");
  CHECK(thread_of("second") == "communication 2");
  CHECK(thread_of("behind the second") == "communication 2");
  CHECK(thread_of("behind the first 7") == "communication");
  CHECK(threads.size() == 3);
  CHECK(processes == std::map<int, std::string>{{0, "rank 0"}, {1, "rank 1"}});
  const auto& last = spans.at("behind the first 7");
  CHECK(last["ts"] == 5.0);
  CHECK(last["dur"] == 1.0);
  CHECK(last["pid"] == 0);
  CHECK(last["args"] == nlohmann::json({{"bytes", 12}, {"group", "data"}, {"ranks", 4}}));
}

TEST_CASE("trace: the steps behind the first, or the only one") {
  StepTrace trace("unused", 2);
  trace.choose_steps(10, 20);
  for (int step = 11; step <= 20; ++step) CHECK(trace.is_due(step) == (step == 12 || step == 13));
  CHECK_FALSE(trace.is_over(12, false));
  CHECK(trace.is_over(13, false));
  CHECK(trace.is_over(12, true));
  CHECK(trace.is_over(11, true));
  CHECK_FALSE(trace.is_over(14, true));  // it is written
  trace.choose_steps(10, 12);
  CHECK_FALSE(trace.is_due(11));
  CHECK(trace.is_over(12, false));
  trace.choose_steps(10, 11);
  CHECK(trace.is_due(11));
  CHECK(trace.is_over(11, false));
}

TEST_CASE("trace: a file only of what was traced") {
  const test::TemporaryDirectory directory;
  const auto path = directory.path() / "trace.json";
  const auto world = comm::make_single_communicator();
  StepTrace trace(path, 1);
  trace.check_file();
  trace.choose_steps(0, 5);
  CHECK_THROWS_AS(trace.write(*world), base::InputError);
  CHECK(std::filesystem::is_empty(directory.path()));
  trace.begin_step(2, *world);
  trace.end_step();
  CHECK_THAT(trace.write(*world), Catch::StartsWith("trace: step 2 of 1 rank in " + path.string()));
  CHECK(nlohmann::json::parse(base::read_text(path))["traceEvents"].size() == 5);
  CHECK_THROWS_AS(StepTrace(directory.path(), 1).check_file(), base::InputError);
  CHECK_THROWS_AS(StepTrace(path / "in-a-file", 1).check_file(), base::InputError);
}

}  // namespace
}  // namespace longspan::train
