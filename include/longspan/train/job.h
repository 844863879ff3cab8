#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "longspan/model/lora.h"
#include "longspan/model/memory_policy.h"
#include "longspan/model/model_config.h"
#include "longspan/model/row_sampling.h"
#include "longspan/model/velora.h"
#include "longspan/train/common_job.h"

namespace longspan::base {
class Declarations;
}

namespace longspan::train {

/// A job, section by section as in its file. The values here are the defaults; what a key means,
/// its range and its default are declared once, in `declare` (src/train/job.cpp).
struct Job : CommonJob {
  model::ModelConfig model;
  /// A model directory, whose config.json `model` then is (but for what the job may change) and
  /// with whose weights the run begins; empty: new weights.
  std::string model_from;

  /// What is trained instead of the model, which then is a frozen base.
  struct Adapter {
    std::string type = "none";
    std::string from;  ///< a directory with one, which `lora` then is; empty: a new one
    std::string base_weights = "full";
    model::LoraConfig lora;
  } adapter;
  /// The adapter's; nothing where the model itself is trained.
  std::optional<model::LoraConfig> lora() const;
  model::VeloraConfig velora;  ///< gradients of what is trained that are compressed
  model::RowSamplingConfig column_row_sampling;  ///< gradients that are of sampled tokens
  /// Whether a step draws random numbers by its tokens: for dropout, to round codes, or to sample.
  bool draws_by_token() const {
    return adapter.lora.dropout > 0 || memory.saved_rounding == "stochastic" ||
           column_row_sampling.is_on();
  }
  /// Numbers that are trained.
  std::int64_t trained_parameters() const;
  /// Model FLOPs of what a step does with such a row: of forward and backward, see
  /// model::ModelConfig::training_flops and model::adapter_training_flops, less what compressed
  /// and sampled gradients save; or of two forwards.
  double training_flops(const std::vector<std::int32_t>& cu_seqlens) const;

  struct Data {
    std::vector<std::string> train;       ///< token files
    std::vector<double> weights;          ///< of the files of `train`; empty: all are one corpus
    std::vector<std::string> validation;  ///< token files; or split off by the fraction
    double validation_fraction = 0.0;
    std::string tokenizer;  ///< "bytes", a .model file, a directory; empty: none goes along
    std::string raw_type;   ///< of tokens in files without a header; see data::FlatTokens
    std::int64_t document_end = -1;  ///< likewise; -1: none
    std::string packing = "packed";
    bool shuffle = true;
  } data;
};

/// Binds every key to its member: name, type, range, default, help. The one place where a key is
/// declared; reading, writing, `longspan schema`, `--help` and docs/job-file.md come from it.
void declare(Job& job, base::Declarations& declarations);

/// Reads, overrides ("a.b=value", the value as JSON or else a string) and checks a job file.
/// Relative paths in it are taken from the working directory. Throws InputError.
Job read_job(const std::string& path, const std::vector<std::string>& overrides);
/// The checks that concern several keys; `read_job` calls it. Throws InputError.
void check(Job& job);
/// What `memory` says about activations; where groups choose, of what belongs to none. Throws
/// InputError.
model::MemoryPolicy memory_policy(const Job& job);
/// The same with this level of activation checkpointing instead of the job's.
model::MemoryPolicy memory_policy(const Job& job, const std::string& level);
/// The resolved job as JSON text: reading it again gives the same job.
std::string to_json(const Job& job);

/// What the declarations say about job files: JSON Schema; text for a terminal; the tables of
/// docs/job-file.md.
std::string job_schema();
std::string job_help();
std::string job_markdown();

}  // namespace longspan::train
