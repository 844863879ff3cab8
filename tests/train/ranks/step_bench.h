#pragma once

#include <memory>
#include <string>
#include <vector>

#include "longspan/comm/communicator.h"
#include "longspan/data/sampler.h"
#include "longspan/train/job.h"
#include "train/training_step.h"

namespace longspan::test {

comm::Communicator& world();

/// A small job in float32: of this model with three layers, or of Llama with grouped-query
/// attention.
train::Job small_job(const model::ModelConfig& config, int zero_stage);
train::Job small_job(bool tied, int zero_stage);

/// A job of two layers whose heads have 4 dimensions, and of a vocabulary of kVocab ids.
train::Job job_of(backend::Index heads, backend::Index kv_heads, const std::string& precision,
                  const std::string& model_type = "llama");
inline constexpr int kVocab = 61;

/// Ways for all ranks to share rows: Ulysses ranks, rings, and rings of Ulysses ranks.
std::vector<shard::SequenceDegrees> all_degrees();

/// Documents of these lengths as one row; `unmasked` of their labels count, spread over the row.
std::shared_ptr<const data::MicroBatch> row_of(const std::vector<std::int32_t>& lengths,
                                               double unmasked, std::uint64_t seed);

using Batches = std::vector<std::shared_ptr<const data::MicroBatch>>;

/// Micro-batches of every rank in a step. Ranks play four parts in turn, beginning with `first`:
/// three micro-batches; one, all of whose labels are ignored; none; two, of which one is masked in
/// part. Documents are of many lengths, and others in every step.
std::vector<Batches> batches_of_ranks(const train::Job& job, int ranks, int first,
                                      std::uint64_t step);
Batches joined(const std::vector<Batches>& of_ranks);
/// What this rank runs: its own, and empty ones until it has as many as any.
Batches padded(const std::vector<Batches>& of_ranks, int rank);
/// The same as passes of the sequence group of `mesh`, or of this rank alone.
std::vector<train::RankPass> passes_of(const Batches& batches, const shard::Mesh* mesh = nullptr);

/// How far what this rank holds of the set's weights, or gradients, is from the reference, which is
/// whole: the largest ||a - b|| / ||b|| of a parameter that counts (null: all do), over all ranks.
double largest_distance(nn::ParameterSet& set, bool weights, nn::ParameterSet& reference,
                        bool (*counts)(const nn::Parameter&) = nullptr);
bool is_no_bias(const nn::Parameter& parameter);

}  // namespace longspan::test
