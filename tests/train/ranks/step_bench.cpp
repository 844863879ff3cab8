#include "tests/train/ranks/step_bench.h"

#include <algorithm>
#include <cmath>

#include "tests/model/fixture.h"
#include "train/step_plan.h"

namespace longspan::test {

using backend::Tensor;

comm::Communicator& world() {
  static const std::unique_ptr<comm::Communicator> kWorld = comm::make_world_communicator();
  return *kWorld;
}

train::Job small_job(bool tied, int zero_stage) {
  return small_job(model::test::small_config(tied), zero_stage);
}

train::Job small_job(const model::ModelConfig& config, int zero_stage) {
  train::Job job;
  job.model = config;
  job.model.num_hidden_layers = 3;
  job.model.initializer_range = 0.3;
  job.optimizer.learning_rate = 0.01;
  job.optimizer.epsilon = 1e-4;  // no division by gradients that are only rounding
  job.training.steps = 10;
  job.parallel.zero_stage = zero_stage;
  return job;
}

train::Job job_of(backend::Index heads, backend::Index kv_heads, const std::string& precision,
                  const std::string& model_type) {
  train::Job job;
  job.model.model_type = model_type;
  job.model.vocab_size = kVocab;
  job.model.hidden_size = 4 * heads;
  job.model.intermediate_size = 40;
  job.model.num_hidden_layers = 2;
  job.model.num_attention_heads = heads;
  job.model.num_key_value_heads = kv_heads;
  job.model.initializer_range = 0.2;
  job.model.resolve("model");
  job.optimizer.learning_rate = 1e-3;
  job.training.steps = 10;
  job.training.precision = precision;
  return job;
}

std::vector<shard::SequenceDegrees> all_degrees() {
  std::vector<shard::SequenceDegrees> all;
  for (int ulysses = 1; ulysses <= world().size(); ++ulysses) {
    for (int ring = 1; ulysses * ring <= world().size(); ++ring) {
      if (world().size() % (ulysses * ring) == 0) all.push_back({ulysses, ring});
    }
  }
  return all;
}

std::shared_ptr<const data::MicroBatch> row_of(const std::vector<std::int32_t>& lengths,
                                               double unmasked, std::uint64_t seed) {
  const base::RandomStream random(seed, base::Purpose::kTest, 0, 0);
  auto row = std::make_shared<data::MicroBatch>();
  row->cu_seqlens = {0};
  for (const std::int32_t length : lengths) {
    for (std::int32_t i = 0; i < length; ++i) {
      const std::uint64_t at = row->tokens.size();
      row->tokens.push_back(static_cast<data::TokenId>(random.bits(3 * at) % kVocab));
      const bool counts = random.uniform(3 * at + 1) < unmasked;
      row->labels.push_back(counts ? static_cast<std::int32_t>(random.bits(3 * at + 2) % kVocab)
                                   : data::kIgnoredLabel);
      row->targets += counts ? 1 : 0;
      row->positions.push_back(i);
    }
    row->cu_seqlens.push_back(static_cast<std::int32_t>(row->tokens.size()));
  }
  return row;
}

std::vector<Batches> batches_of_ranks(const train::Job& job, int ranks, int first,
                                      std::uint64_t step) {
  std::vector<Batches> all;
  for (int rank = 0; rank < ranks; ++rank) {
    const int part = (first + rank) % 4;
    const int count = part == 0 ? 3 : part == 1 ? 1 : part == 2 ? 0 : 2;
    Batches mine;
    for (int i = 0; i < count; ++i) {
      const auto seed =
          100 * step + 10 * static_cast<std::uint64_t>(rank) + static_cast<std::uint64_t>(i);
      auto host = model::test::random_batch(job.model, {5 + rank, 1, 0, 9 - 3 * i, 12}, seed);
      for (std::size_t t = 0; t < host.labels.size(); ++t) {
        const bool masked = part == 1 || (part == 3 && i == 0 && t % 3 != 0);
        if (masked) host.labels[t] = data::kIgnoredLabel;
      }
      auto batch = std::make_shared<data::MicroBatch>();
      batch->targets = static_cast<std::int64_t>(host.labels.size()) -
                       std::count(host.labels.begin(), host.labels.end(), data::kIgnoredLabel);
      batch->tokens = host.tokens;
      batch->labels = host.labels;
      batch->positions = host.positions;
      batch->cu_seqlens = host.cu_seqlens;
      mine.push_back(std::move(batch));
    }
    all.push_back(std::move(mine));
  }
  return all;
}

Batches joined(const std::vector<Batches>& of_ranks) {
  Batches all;
  for (const Batches& one : of_ranks) all.insert(all.end(), one.begin(), one.end());
  return all;
}

Batches padded(const std::vector<Batches>& of_ranks, int rank) {
  std::size_t passes = 0;
  for (const Batches& one : of_ranks) passes = std::max(passes, one.size());
  Batches mine = of_ranks[static_cast<std::size_t>(rank)];
  mine.resize(passes, train::empty_micro_batch());
  return mine;
}

std::vector<train::RankPass> passes_of(const Batches& batches, const shard::Mesh* mesh) {
  std::vector<train::RankPass> passes;
  for (const auto& batch : batches) passes.push_back({batch, mesh});
  return passes;
}

namespace {

/// Elements of any float tensor.
std::vector<double> values_of(const Tensor& tensor) {
  const auto host = backend::make_cpu_backend(std::size_t{64} << 20U);
  return model::test::values(*host, tensor);
}

}  // namespace

bool is_no_bias(const nn::Parameter& parameter) {
  return parameter.kind != nn::ParameterKind::kBias;
}

double largest_distance(nn::ParameterSet& set, bool weights, nn::ParameterSet& reference,
                        bool (*counts)(const nn::Parameter&)) {
  const std::size_t count = set.parameters().size();
  std::vector<double> sums(2 * count);
  for (const nn::OwnRange& range : set.own_ranges()) {
    const auto found = values_of(weights ? set.own_weight(range) : set.own_gradient(range));
    const auto whole =
        values_of(weights ? reference.weight(range.number) : reference.gradient(range.number));
    const auto at = static_cast<std::size_t>(range.number);
    const auto begin =
        static_cast<std::size_t>(weights ? range.elements.begin : range.gradient.begin);
    for (std::size_t i = 0; i < found.size(); ++i) {
      const double expected = whole[begin + i];
      const double difference = found[i] - expected;
      sums[2 * at] += difference * difference;
      sums[2 * at + 1] += expected * expected;
    }
  }
  world().all_reduce_sum(sums);
  double largest = 0;
  for (std::size_t at = 0; at < count; ++at) {
    if (counts != nullptr && !counts(set.parameters()[at])) continue;
    // Where all should be 0, all must be.
    const double scale = sums[2 * at + 1] > 0 ? sums[2 * at + 1] : 1e-30;
    const double distance = std::sqrt(sums[2 * at] / scale);
    if (!(distance <= largest)) largest = std::isnan(distance) ? HUGE_VAL : distance;
  }
  return largest;
}

}  // namespace longspan::test
