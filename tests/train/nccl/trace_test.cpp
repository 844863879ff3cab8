// Collectives on a queue of their own, beside a device that works on its own.
#include <catch2/catch.hpp>
#include <map>

#include "tests/comm/bench.h"
#include "train/trace/backend_observer.h"
#include "train/trace/traced_communicator.h"

namespace longspan::train {
namespace {

using backend::Tensor;

std::map<std::string, TraceEvent> by_name(const Recorder& recorder) {
  std::map<std::string, TraceEvent> result;
  for (const TraceEvent& event : recorder.events()) {
    INFO(event.details.name);
    CHECK(event.end >= event.begin);
    CHECK(result.emplace(event.details.name, event).second);
  }
  return result;
}

TEST_CASE("collectives of a device's queue are traced as it works, not as the host does") {
  const auto& bench = longspan::testing::benches().front();
  Recorder recorder;
  BackendObserver observer = BackendObserver::of_device(recorder);
  const auto device = bench.make_backend();
  recorder.follow(*device);
  device->observe(&observer);
  const auto ranks = make_traced_communicator(*bench.world, recorder);
  const int size = ranks->size();
  const Tensor whole =
      device->allocate({4 * size}, base::DType::kFloat32, backend::MemoryTag::kWeights);
  const Tensor other = device->allocate({8}, base::DType::kFloat32, backend::MemoryTag::kWeights);
  device->zero(other);
  device->synchronize();
  ranks->barrier();

  recorder.begin_step(1);
  device->fill(whole, 1.0);
  const auto pending = ranks->start_all_gather(whole, comm::even_offsets(4 * size, size), *device);
  device->zero(other);  // meanwhile
  pending->wait();
  device->accumulate(whole, whole);
  ranks->start_all_reduce_sum(whole, *device)->wait();
  std::vector<double> number = {1.0};
  ranks->all_reduce_sum(number);
  recorder.end_step();

  CHECK(longspan::testing::values_of<float>(*device, whole)[0] == 2.0F * static_cast<float>(size));
  if (size == 1) return;
  const auto events = by_name(recorder);
  const TraceEvent& gather = events.at("all_gather");
  CHECK(gather.row == Row::kCommunication);
  CHECK(gather.end > gather.begin);
  // What is given to the compute queue between a mark and the next one is not in them.
  constexpr double kApart = 1e-6;
  CHECK(gather.begin >= events.at("fill").end - kApart);
  CHECK(events.at("zero").begin >= events.at("fill").end);
  CHECK(events.at("accumulate").begin >= gather.end - kApart);
  CHECK(events.at("all_reduce").begin >= events.at("accumulate").end - kApart);
  CHECK(events.at("all_reduce").begin >= gather.end);
  CHECK(events.at("all_reduce of numbers").row == Row::kHost);
}

}  // namespace
}  // namespace longspan::train
