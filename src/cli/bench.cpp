#include <fmt/format.h>
#include <omp.h>

#include <CLI/CLI.hpp>
#include <memory>
#include <string>

#include "cli/commands.h"
#include "longspan/comm/communicator.h"
#include "longspan/train/matmul_bench.h"
#include "longspan/train/reshard_bench.h"

namespace longspan::cli {
namespace {

struct Arguments {
  train::MatmulShapes shapes;
  std::string precision = "fp32";
  int threads = 0;
  int repeats = 7;
};

void run(const Arguments& arguments) {
  if (arguments.threads > 0) omp_set_num_threads(arguments.threads);
  const auto figures =
      train::bench_matmuls(arguments.shapes, arguments.precision, arguments.repeats);
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
      arguments.precision, 1e-9 * flops, seconds, 1e-9 * flops / seconds);
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

void add_reshard_command(CLI::App& bench) {
  auto* reshard = bench.add_subcommand(
      "reshard",
      "The exchanges of one Ulysses attention layer by all ranks of mpirun; last line is JSON");
  auto arguments = std::make_shared<ReshardArguments>();
  reshard->add_option("--precision", arguments->precision, "fp32 or bf16")
      ->check(CLI::IsMember({"fp32", "bf16"}))
      ->capture_default_str();
  reshard->add_option("--repeats", arguments->repeats, "Runs; the median counts")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  const auto size = [&](const char* name, std::int64_t& value) {
    reshard->add_option(name, value)->check(CLI::PositiveNumber)->capture_default_str();
  };
  size("--tokens", arguments->shapes.tokens);
  size("--heads", arguments->shapes.heads);
  size("--kv-heads", arguments->shapes.kv_heads);
  size("--head-dim", arguments->shapes.head_dim);
  reshard->callback([arguments] { run_reshard(*arguments); });
}

}  // namespace

void add_bench_command(CLI::App& app) {
  auto* command = app.add_subcommand("bench", "Measure what this machine can do");
  command->require_subcommand(1);
  add_reshard_command(*command);
  auto* matmul = command->add_subcommand(
      "matmul", "The matrix products of one training step, each alone; last line is JSON");
  auto arguments = std::make_shared<Arguments>();
  matmul->add_option("--precision", arguments->precision, "fp32 or bf16")
      ->check(CLI::IsMember({"fp32", "bf16"}))
      ->capture_default_str();
  matmul->add_option("--threads", arguments->threads, "Threads (default: OMP_NUM_THREADS)")
      ->check(CLI::PositiveNumber);
  matmul->add_option("--repeats", arguments->repeats, "Runs of each product; the median counts")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  matmul->add_option("--tokens", arguments->shapes.tokens)
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  matmul->add_option("--hidden-size", arguments->shapes.hidden_size)
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  matmul->add_option("--intermediate-size", arguments->shapes.intermediate_size)
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  matmul->add_option("--layers", arguments->shapes.layers)
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  matmul->add_option("--vocab-size", arguments->shapes.vocab_size)
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  matmul->callback([arguments] { run(*arguments); });
}

}  // namespace longspan::cli
