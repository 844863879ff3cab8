#pragma once

#include <cstdint>
#include <string>

namespace longspan::train {

struct ModelOutput {
  std::string directory;  ///< must not exist, or be empty
  std::string dtype;      ///< "fp32", "bf16" or "fp16"; empty: as the weights are
  std::uint64_t shard_bytes = 5'000'000'000;  ///< of tensors in a file, but for a larger tensor
  bool merge = false;     ///< of an adapter: it is added to the weights of its base
  std::string base = {};  ///< of an adapter: its base's directory; empty: as it says itself
};

/// What was read, and perhaps written.
struct ModelRead {
  std::string model_type;
  std::int64_t parameters = 0;
  std::string dtype;        ///< of what was written, else of what was read: "bfloat16"
  std::uint64_t bytes = 0;  ///< of tensors, likewise
  std::int64_t files = 0;   ///< likewise
};

/// Checks a model directory whole: config.json, the index, every tensor's name and shape, that all
/// numbers are finite and a tied head is the embedding. Writes it anew where `output` names a
/// directory: the parameters alone under their full names, config.json as this program understands
/// it, generation_config.json, and the tokenizer's files. A piece of a tensor is all that is in
/// memory. The new directory appears complete or not at all. Throws InputError.
ModelRead import_model(const std::string& directory, const ModelOutput& output);

/// Writes a checkpoint (a step's directory, or a run's: then the newest step), which is verified
/// first, as a model directory in the same way. Of an adapter (a checkpoint's, or a directory that
/// PEFT wrote) its base with it, merged: sums in float64, rounded once. Throws InputError, and
/// DamagedCheckpointError.
ModelRead export_model(const std::string& checkpoint, const ModelOutput& output);

}  // namespace longspan::train
