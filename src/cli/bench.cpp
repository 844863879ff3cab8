#include <fmt/format.h>
#include <omp.h>

#include <memory>
#include <string>
#include <vector>

#include "cli/command.h"
#include "cli/commands.h"
#include "cli/launch.h"
#include "longspan/base/file.h"
#include "longspan/comm/communicator.h"
#include "longspan/plan/cost_file.h"
#include "longspan/train/cost_model.h"
#include "longspan/train/device.h"
#include "longspan/train/kernel_bench.h"
#include "longspan/train/matmul_bench.h"
#include "longspan/train/reshard_bench.h"

namespace longspan::cli {
namespace {

/// What all benches of one device are asked for.
struct Measurement {
  std::string device = "cpu";
  std::string precision = "fp32";
  int threads = 0;
  int repeats = 7;

  void declare(const Command& command) {
    command.option("--device", device, "cpu or cuda").one_of({"cpu", "cuda"}).show_default();
    command.option("--precision", precision, "fp32 or bf16")
        .one_of({"fp32", "bf16"})
        .show_default();
    command.option("--threads", threads, "Threads (default: OMP_NUM_THREADS)").positive();
    command.option("--repeats", repeats, "Runs; the median counts").positive().show_default();
  }

  std::unique_ptr<backend::Backend> open() const {
    if (threads > 0) omp_set_num_threads(threads);
    return train::make_device(device);
  }
};

void add_size(const Command& command, const char* name, std::int64_t& value) {
  command.option(name, value, "").positive().show_default();
}

struct MatmulArguments {
  train::MatmulShapes shapes;
  Measurement how;
};

void run_matmul(const MatmulArguments& arguments) {
  const auto device = arguments.how.open();
  const auto figures = train::bench_matmuls(arguments.shapes, arguments.how.precision,
                                            arguments.how.repeats, *device);
  double flops = 0;
  double seconds = 0;
  fmt::print("{:<30} {:>6} {:>6} {:>6} {:>6} {:>10} {:>10}\n", "product", "m", "n", "k", "times",
             "ms", "GFLOP/s");
  for (const auto& figure : figures) {
    const double work = 2.0 * static_cast<double>(figure.m) * static_cast<double>(figure.n) *
                        static_cast<double>(figure.k);
    flops += work * static_cast<double>(figure.times);
    seconds += figure.seconds * static_cast<double>(figure.times);
    fmt::print("{:<30} {:>6} {:>6} {:>6} {:>6} {:>10.3f} {:>10.1f}\n", figure.name, figure.m,
               figure.n, figure.k, figure.times, 1e3 * figure.seconds,
               1e-9 * work / figure.seconds);
  }
  fmt::print(
      "{{\"precision\": \"{}\", \"gflop\": {:.3f}, \"seconds\": {:.6f}, \"gflops\": {:.2f}}}\n",
      arguments.how.precision, 1e-9 * flops, seconds, 1e-9 * flops / seconds);
}

void add_matmul_command(const Command& bench) {
  const Command matmul = bench.subcommand(
      "matmul", "The matrix products of one training step, each alone; last line is JSON");
  auto arguments = std::make_shared<MatmulArguments>();
  arguments->how.declare(matmul);
  add_size(matmul, "--tokens", arguments->shapes.tokens);
  add_size(matmul, "--hidden-size", arguments->shapes.hidden_size);
  add_size(matmul, "--intermediate-size", arguments->shapes.intermediate_size);
  add_size(matmul, "--layers", arguments->shapes.layers);
  add_size(matmul, "--vocab-size", arguments->shapes.vocab_size);
  matmul.callback([arguments] { run_matmul(*arguments); });
}

struct KernelArguments {
  train::KernelShapes shapes;
  Measurement how;
};

void run_kernels(const KernelArguments& arguments) {
  const auto device = arguments.how.open();
  const auto figures = train::bench_kernels(arguments.shapes, arguments.how.precision,
                                            arguments.how.repeats, *device);
  const double copy = figures.front().bytes / figures.front().seconds;
  std::string kernels;
  fmt::print("{:<24} {:>10} {:>10} {:>10} {:>8}\n", "operation", "MB", "ms", "GB/s", "of copy");
  for (const auto& figure : figures) {
    const double rate = figure.bytes / figure.seconds;
    fmt::print("{:<24} {:>10.1f} {:>10.4f} {:>10.1f} {:>7.0f}%\n", figure.name, 1e-6 * figure.bytes,
               1e3 * figure.seconds, 1e-9 * rate, 100 * rate / copy);
    kernels += fmt::format("{}{{\"name\": \"{}\", \"bytes\": {:.0f}, \"seconds\": {:.9f}}}",
                           kernels.empty() ? "" : ", ", figure.name, figure.bytes, figure.seconds);
  }
  fmt::print("{{\"precision\": \"{}\", \"kernels\": [{}]}}\n", arguments.how.precision, kernels);
}

void add_kernels_command(const Command& bench) {
  const Command kernels = bench.subcommand(
      "kernels",
      "The operations that memory bounds, each alone, against a copy; last line is JSON");
  auto arguments = std::make_shared<KernelArguments>();
  arguments->how.declare(kernels);
  add_size(kernels, "--tokens", arguments->shapes.tokens);
  add_size(kernels, "--hidden-size", arguments->shapes.hidden_size);
  add_size(kernels, "--intermediate-size", arguments->shapes.intermediate_size);
  add_size(kernels, "--heads", arguments->shapes.heads);
  add_size(kernels, "--head-dim", arguments->shapes.head_dim);
  add_size(kernels, "--vocab-size", arguments->shapes.vocab_size);
  add_size(kernels, "--loss-tokens", arguments->shapes.loss_tokens);
  kernels.callback([arguments] { run_kernels(*arguments); });
}

struct ReshardArguments {
  train::ReshardShapes shapes;
  std::string precision = "bf16";
  int repeats = 15;
};

void run_reshard(const ReshardArguments& arguments) {
  const auto world = comm::make_world_communicator();
  const auto figures =
      train::bench_reshard(arguments.shapes, arguments.precision, arguments.repeats, *world);
  if (world->rank() != 0) return;
  fmt::print("{:<20} {:>12} {:>10} {:>12} {:>8}\n", "exchange", "bytes sent", "ms", "packing ms",
             "share");
  for (const auto& figure : {figures.to_heads, figures.to_tokens}) {
    fmt::print("{:<20} {:>12} {:>10.3f} {:>12.3f} {:>7.0f}%\n", figure.name, figure.bytes,
               1e3 * figure.seconds, 1e3 * figure.packing_seconds,
               100 * figure.packing_seconds / figure.seconds);
  }
  const double seconds = figures.to_heads.seconds + figures.to_tokens.seconds;
  const double packing = figures.to_heads.packing_seconds + figures.to_tokens.packing_seconds;
  fmt::print("{{\"ranks\": {}, \"seconds\": {:.6f}, \"packing_share\": {:.4f}}}\n", world->size(),
             seconds, packing / seconds);
}

void add_reshard_command(const Command& bench) {
  const Command reshard = bench.subcommand(
      "reshard",
      "The exchanges of one Ulysses attention layer by all ranks of mpirun; last line is JSON");
  auto arguments = std::make_shared<ReshardArguments>();
  reshard.option("--precision", arguments->precision, "fp32 or bf16")
      .one_of({"fp32", "bf16"})
      .show_default();
  reshard.option("--repeats", arguments->repeats, "Runs; the median counts")
      .positive()
      .show_default();
  add_size(reshard, "--tokens", arguments->shapes.tokens);
  add_size(reshard, "--heads", arguments->shapes.heads);
  add_size(reshard, "--kv-heads", arguments->shapes.kv_heads);
  add_size(reshard, "--head-dim", arguments->shapes.head_dim);
  reshard.callback([arguments] { run_reshard(*arguments); });
}

struct CostArguments {
  std::string job;
  std::vector<std::string> overrides;
  std::string out;
  int repeats = 5;
  train::CostOptions options;
};

void run_profile_cost(const CostArguments& arguments) {
  const Launch launched = launch(arguments.job, arguments.overrides);
  const train::Costs costs =
      train::measure_costs(launched.job, *launched.world, arguments.repeats, arguments.options);
  comm::run_agreed(*launched.world, [&] {
    if (launched.world->rank() != 0) return;
    base::replace_file(arguments.out, plan::to_json(costs.model));
    fmt::print("{}\n{{\"ranks\": {}, \"worst_error\": {:.4f}}}\n", train::costs_text(costs),
               costs.model.ranks, costs.worst_error());
  });
}

void add_profile_cost_command(const Command& bench) {
  const Command profile = bench.subcommand(
      "profile-cost",
      "What groups of 1, 2, 4, ... of mpirun's ranks take for passes of a job, as a file for "
      "parallel.costs; last line is JSON");
  auto arguments = std::make_shared<CostArguments>();
  profile.option("job", arguments->job, "Job file (JSON)").required();
  profile.option("-o,--out", arguments->out, "Cost file to write").required();
  profile
      .option("--set", arguments->overrides,
              "Override a key: --set training.micro_batch_tokens=65536 (repeatable)")
      .one_at_a_time();
  profile.option("--repeats", arguments->repeats, "Runs; the median counts")
      .positive()
      .show_default();
  profile
      .option("--tokens", arguments->options.most_tokens,
              "Most tokens that a rank has in a pass (default: training.micro_batch_tokens)")
      .positive();
  profile
      .option("--level", arguments->options.levels,
              "A level of activation checkpointing that groups may choose: --level block "
              "(repeatable; default: the job's own)")
      .one_at_a_time();
  profile.callback([arguments] { run_profile_cost(*arguments); });
}

}  // namespace

void add_bench_command(const Command& program) {
  const Command command = program.subcommand("bench", "Measure what this machine can do");
  command.require_subcommand();
  add_matmul_command(command);
  add_kernels_command(command);
  add_reshard_command(command);
  add_profile_cost_command(command);
}

}  // namespace longspan::cli
