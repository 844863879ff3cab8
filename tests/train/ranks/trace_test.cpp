// A step with a recorder in between: it must see everything, and change nothing.
#include <catch2/catch.hpp>
#include <set>

#include "tests/model/fixture.h"
#include "tests/train/ranks/step_bench.h"
#include "train/trace/backend_observer.h"
#include "train/trace/traced_communicator.h"

namespace longspan::train {
namespace {

using base::DType;
using longspan::test::world;

constexpr std::size_t kMemory = std::size_t{64} << 20U;

/// All ranks in one sequence group, a ring where there are two of them and more.
shard::SequenceDegrees degrees() {
  return {world().size() == 4 ? 2 : 1, world().size() == 4 ? 2 : world().size()};
}

struct Outcome {
  double nll = 0;
  double grad_norm = 0;
  std::vector<std::vector<double>> weights;
};

/// Two steps, the second of which a recorder may see.
Outcome train(const Job& job, std::unique_ptr<backend::Backend> device,
              std::unique_ptr<backend::Backend> host, comm::Communicator& ranks,
              Recorder* recorder) {
  const shard::Meshes meshes(ranks, {degrees()});
  TrainingStep step(job, *device, ranks, host.get());
  Outcome outcome;
  for (int number = 0; number < 2; ++number) {
    if (recorder != nullptr && number == 1) recorder->begin_step(number);
    const auto rows = longspan::test::joined(
        longspan::test::batches_of_ranks(job, 4, 0, static_cast<std::uint64_t>(number)));
    outcome.nll =
        step.forward_backward(longspan::test::passes_of(rows, meshes.of_size(world().size())))
            .loss_sum;
    outcome.grad_norm = step.update(number, outcome.nll).grad_norm;
    if (recorder != nullptr && number == 1) recorder->end_step();
  }
  nn::ParameterSet& parameters = step.model().parameters();
  for (const nn::OwnRange& range : parameters.own_ranges()) {
    outcome.weights.push_back(model::test::values(*device, parameters.own_weight(range)));
  }
  return outcome;
}

std::set<std::string> names_in(const Recorder& recorder, Row row) {
  std::set<std::string> names;
  for (const TraceEvent& event : recorder.events()) {
    CHECK(event.end >= event.begin);
    if (event.row == row) names.insert(event.details.name);
  }
  return names;
}

void check_names(const Recorder& recorder, const Job& job) {
  std::set<std::string> operations = {"add",
                                      "attention_backward",
                                      "attention_forward",

                                      "copy_from_host",

                                      "cross_entropy",
                                      "embedding_backward",
                                      "gather_rows",
                                      "matmul",
                                      "rms_norm_again",
                                      "rms_norm_backward",
                                      "rms_norm_forward",
                                      "rope",
                                      "rope_table",
                                      "sum",
                                      "sum_of_squares",
                                      "gated_backward",
                                      "gated_forward",
                                      "zero"};
  if (world().size() > 1) operations.insert({"attention_merge", "copy"});
  if (job.parallel.zero_stage > 1 && world().size() > 1) operations.insert("accumulate");
  std::set<std::string> seen = names_in(recorder, Row::kCompute);
  for (const std::string& name : operations) {
    INFO(name);
    CHECK(seen.count(name) == 1);
  }
  CHECK(names_in(recorder, Row::kHost) == std::set<std::string>{"adamw"});
  CHECK(names_in(recorder, Row::kCopies) == std::set<std::string>{"download", "upload"});

  std::set<std::string> collectives;
  if (world().size() > 1) {
    collectives = {"all_reduce of numbers", "send_receive"};
    if (job.parallel.zero_stage == 0) collectives.insert("all_reduce");
    if (job.parallel.zero_stage > 0) collectives.insert({"all_gather", "reduce_scatter"});
    if (degrees().ulysses > 1) collectives.insert("all_to_all");
  }
  CHECK(names_in(recorder, Row::kCommunication) == collectives);
}

TEST_CASE("a step that is traced gives the same bits, and all of it is seen") {
  Job job = longspan::test::small_job(false, GENERATE(0, 3));
  job.memory.activation_checkpointing = "block";
  job.memory.saved_inputs[model::Slot::kBlockInput] = "host";
  job.optimizer.offload = "host";
  const auto make = [] { return backend::make_cpu_backend(kMemory); };
  const Outcome plain = train(job, make(), make(), world(), nullptr);

  Recorder recorder;
  BackendObserver device_observer = BackendObserver::of_device(recorder);
  BackendObserver host_observer = BackendObserver::of_host(recorder);
  auto device = make();
  auto host = make();
  recorder.follow(*device);
  device->observe(&device_observer);
  host->observe(&host_observer);
  const auto ranks = make_traced_communicator(world(), recorder);
  const Outcome traced = train(job, std::move(device), std::move(host), *ranks, &recorder);

  CHECK(traced.nll == plain.nll);
  CHECK(traced.grad_norm == plain.grad_norm);
  CHECK(traced.weights == plain.weights);
  check_names(recorder, job);
}

TEST_CASE("operations that a step does without are seen, too, with their tensors") {
  Recorder recorder;
  BackendObserver observer = BackendObserver::of_device(recorder);
  const auto traced = backend::make_cpu_backend(kMemory);
  traced->observe(&observer);
  const auto tensor = traced->allocate({2, 3}, DType::kFloat32, backend::MemoryTag::kWorkspace);
  traced->fill(tensor, 1.0);
  CHECK(recorder.events().empty());
  recorder.begin_step(1);
  traced->fill(tensor, 2.0);
  CHECK(traced->sum(tensor) == 12.0);
  traced->random_normal(tensor, {1, base::Purpose::kTest, 0, 0}, 1.0, 0);
  traced->adamw({}, tensor.reshape({6}), tensor.reshape({6}), tensor.reshape({6}),
                tensor.reshape({6}), {});
  std::vector<float> values(6);
  traced->copy_to_host(values.data(), tensor, tensor.bytes());
  recorder.end_step();
  CHECK(names_in(recorder, Row::kCompute) ==
        std::set<std::string>{"adamw", "copy_to_host", "fill", "random_normal", "sum"});
  const Details& fill = recorder.events()[1].details;
  CHECK(fill.shape == tensor.shape());
  CHECK(fill.dtype == DType::kFloat32);
  CHECK(fill.bytes == 0);
  CHECK(recorder.events().back().details.bytes == 24);
}

TEST_CASE("a traced communicator is the one it stands for, and counts with it") {
  Recorder recorder;
  const auto ranks = make_traced_communicator(world(), recorder);
  CHECK(ranks->name() == world().name());
  CHECK(ranks->rank() == world().rank());
  CHECK(ranks->size() == world().size());
  CHECK(ranks->local_rank() == world().local_rank());
  CHECK(ranks->local_size() == world().local_size());
  CHECK(&ranks->traffic() == &world().traffic());

  std::vector<int> members;
  for (int rank = 0; rank < world().size(); ++rank) members.push_back(rank);
  const auto group = ranks->group("everyone", members);
  if (world().size() > 1) CHECK(&group->traffic() == &world().traffic());
  recorder.begin_step(1);
  std::vector<double> values = {1.0};
  group->all_reduce_sum(values);
  CHECK(values[0] == world().size());
  values[0] = world().rank();
  group->all_reduce_max(values);
  CHECK(values[0] == world().size() - 1);
  std::string bytes = world().rank() == 0 ? "abc" : "";
  group->broadcast(bytes, 0);
  CHECK(bytes == "abc");
  CHECK(group->all_gather(bytes) ==
        std::vector<std::string>(static_cast<std::size_t>(world().size()), "abc"));
  group->barrier();
  recorder.end_step();
  const std::set<std::string> all = {"all_reduce of numbers", "all_reduce_max of numbers",
                                     "broadcast of bytes", "all_gather of bytes", "barrier"};
  CHECK(names_in(recorder, Row::kCommunication) ==
        (world().size() > 1 ? all : std::set<std::string>()));
  for (const TraceEvent& event : recorder.events()) {
    if (event.row != Row::kCommunication) continue;
    CHECK(event.details.group == "everyone");
    CHECK(event.details.ranks == world().size());
  }
}

}  // namespace
}  // namespace longspan::train
