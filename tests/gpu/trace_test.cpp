#include <catch2/catch.hpp>

#include "longspan/backend/cuda.h"
#include "longspan/model/decoder.h"
#include "tests/model/fixture.h"
#include "train/trace/backend_observer.h"

// The clock of the device: events with times, on its three queues.
namespace longspan::test {
namespace {

using base::DType;
using model::Decoder;
using train::Recorder;
using train::Row;
using train::TraceEvent;

constexpr std::size_t kMemory = std::size_t{128} << 20U;

struct Outcome {
  double nll_sum = 0;
  std::map<std::string, std::vector<double>> gradients;
};

/// The second of two passes may be recorded.
Outcome train_on(backend::Backend& device, backend::Backend& host, Recorder* recorder) {
  auto memory = model::MemoryPolicy::parse("block", "2", "2", 2, "memory");
  memory.set_slots({"host", "full", "full", "full", "full"}, "memory.saved_inputs", false);
  const auto config = model::test::small_config(true);
  Decoder decoder(config, DType::kFloat32, device, memory, {}, &host);
  decoder.parameters().initialise(5, 0.3);
  decoder.parameters().start_gradients();
  Outcome outcome;
  for (const bool is_traced : {false, recorder != nullptr}) {
    device.synchronize();
    if (is_traced) recorder->begin_step(2);
    const auto batch = model::test::random_batch(config, {17, 1, 0, 40, 9}, 1);
    outcome.nll_sum += model::test::run(decoder, batch, 0.1).nll_sum;
    device.synchronize();
    if (is_traced) recorder->end_step();
  }
  decoder.parameters().settle_gradients();
  outcome.gradients = model::test::gradients(device, decoder);
  return outcome;
}

TEST_CASE("gpu: a trace changes no bit, and its rows are in order") {
  const auto host = backend::make_pinned_backend(std::size_t{1} << 20U);
  const auto device = backend::make_cuda_backend(0, kMemory);
  const Outcome plain = train_on(*device, *host, nullptr);
  Recorder recorder;
  train::BackendObserver observer = train::BackendObserver::of_device(recorder);
  const auto traced = backend::make_cuda_backend(0, kMemory);
  recorder.follow(*traced);
  traced->observe(&observer);
  const Outcome found = train_on(*traced, *host, &recorder);
  CHECK(found.nll_sum == plain.nll_sum);
  CHECK(found.gradients == plain.gradients);

  for (const Row row : {Row::kCompute, Row::kCopies}) {
    double last = 0;
    int spans = 0;
    for (const TraceEvent& event : recorder.events()) {
      if (event.row != row) continue;
      INFO(event.details.name << " in row " << static_cast<int>(row));
      CHECK(event.begin >= last);
      CHECK(event.end >= event.begin);
      last = event.end;
      ++spans;
    }
    CHECK(spans > 0);
  }
  const TraceEvent& step = recorder.events().front();
  for (const TraceEvent& event : recorder.events()) {
    if (event.row == Row::kCopies) continue;
    INFO(event.details.name);
    CHECK(event.begin >= step.begin);
    CHECK(event.end <= step.end);
  }
}

TEST_CASE("gpu: times of events are those of the host's clock") {
  const auto device = backend::make_cuda_backend(0, kMemory);
  const auto* streams = device->streams();
  const auto first = streams->mark(backend::DeviceQueue::kCommunication);
  device->synchronize();
  const auto start = std::chrono::steady_clock::now();
  while (std::chrono::steady_clock::now() - start < std::chrono::milliseconds(20)) continue;
  const auto second = streams->mark(backend::DeviceQueue::kCommunication);
  device->synchronize();
  CHECK(second->seconds_since(*first) >= 0.0199);
  CHECK(second->seconds_since(*first) < 2.0);
}

}  // namespace
}  // namespace longspan::test
