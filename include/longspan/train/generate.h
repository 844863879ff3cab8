#pragma once

#include <cstdint>
#include <functional>
#include <string>

namespace longspan::train {

struct GenerateOptions {
  std::string prompt;
  std::string tokenizer;  ///< name or path; empty: the checkpoint's own
  std::int64_t max_tokens = 200;
  std::int64_t samples = 1;
  double temperature = 0.8;  ///< 0: always the likeliest token
  double top_p = 0.95;       ///< smallest set of tokens with this probability; 1: all
  std::uint64_t seed = 1;
  std::string device = "cpu";  ///< as run.device
};

/// Samples continuations from a checkpoint: a step directory, or a run directory (then its latest
/// step). `emit(sample, text)` receives each sample, prompt included, when it is finished: at
/// max_tokens, at the end-of-text token, or when the model's positions are used up. The same seed
/// gives the same samples. Throws InputError, DamagedCheckpointError.
void generate(const std::string& checkpoint, const GenerateOptions& options,
              const std::function<void(std::int64_t sample, const std::string& text)>& emit);

}  // namespace longspan::train
