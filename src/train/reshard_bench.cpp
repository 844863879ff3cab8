#include "longspan/train/reshard_bench.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <functional>
#include <memory>
#include <vector>

#include "longspan/base/error.h"

#include "longspan/comm/dry.h"
#include "longspan/shard/reshard.h"
#include "train/precision.h"
#include "train/timing.h"

namespace longspan::train {
namespace {

using backend::Tensor;
using shard::Cover;
using shard::Layout;
using shard::Move;
using Clock = std::chrono::steady_clock;

/// The median of the slowest rank's times.
double median_seconds(const std::function<void()>& run, int repeats, comm::Communicator& world) {
  run();  // fresh pages cost time once
  std::vector<double> seconds;
  for (int i = 0; i < repeats; ++i) {
    world.barrier();
    const auto start = Clock::now();
    run();
    std::vector<double> slowest{std::chrono::duration<double>(Clock::now() - start).count()};
    world.all_reduce_max(slowest);
    seconds.push_back(slowest[0]);
  }
  return median(std::move(seconds));
}

class Bench {
 public:
  Bench(const std::string& precision, int repeats, comm::Communicator& world)
      : dtype_(dtype_of_precision(precision)), repeats_(repeats), world_(&world) {}

  ReshardFigure measure(const std::string& name, const std::vector<Move>& moves) {
    const shard::ReshardPlan plan(world_->rank(), moves);
    std::vector<Tensor> sources;
    std::vector<Tensor> targets;
    for (std::size_t i = 0; i < moves.size(); ++i) {
      sources.push_back(make(plan.source_shape(i)));
      targets.push_back(make(plan.target_shape(i)));
    }
    std::vector<double> bytes{static_cast<double>(plan.cost(dtype_).bytes_sent)};
    world_->all_reduce_max(bytes);
    ReshardFigure figure;
    figure.name = name;
    figure.bytes = static_cast<std::uint64_t>(bytes[0]);
    figure.seconds =
        median_seconds([&] { plan.run(targets, sources, *world_, *backend_); }, repeats_, *world_);
    // A communicator that sends nothing leaves the copies.
    figure.packing_seconds =
        median_seconds([&] { plan.run(targets, sources, silent_, *backend_); }, repeats_, *world_);
    return figure;
  }

 private:
  Tensor make(const backend::Shape& shape) {
    const Tensor tensor = backend_->allocate(shape, dtype_, backend::MemoryTag::kWorkspace);
    backend_->zero(tensor);
    return tensor;
  }

  base::DType dtype_;
  int repeats_;
  comm::Communicator* world_;
  std::unique_ptr<backend::Backend> backend_ = backend::make_cpu_backend(std::size_t{1} << 34U);
  backend::DryBackend dry_{backend::DeviceProfile::load("cpu"), 1};
  comm::DryCommunicator silent_{world_->rank(), world_->size(), dry_};
};

}  // namespace

ReshardFigures bench_reshard(const ReshardShapes& shapes, const std::string& precision, int repeats,
                             comm::Communicator& world) {
  if (shapes.heads % shapes.kv_heads != 0) {
    throw base::InputError(
        fmt::format("--kv-heads {} does not divide --heads {}", shapes.kv_heads, shapes.heads));
  }
  const Cover heads = Cover::even(shapes.heads, world.size());
  const Layout by_token{0, Cover::even(shapes.tokens, world.size())};
  const Layout by_head{1, heads};
  const Layout by_kv_head{1, Cover::of_kv_heads(heads, shapes.kv_heads)};
  const backend::Shape q{shapes.tokens, shapes.heads, shapes.head_dim};
  const backend::Shape kv{shapes.tokens, shapes.kv_heads, shapes.head_dim};
  Bench bench(precision, repeats, world);
  ReshardFigures figures;
  figures.to_heads = bench.measure(
      "q, k, v to heads",
      {{q, by_token, by_head}, {kv, by_token, by_kv_head}, {kv, by_token, by_kv_head}});
  figures.to_tokens = bench.measure("output to tokens", {{q, by_head, by_token}});
  return figures;
}

}  // namespace longspan::train
