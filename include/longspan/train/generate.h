#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "longspan/comm/communicator.h"

namespace longspan::train {

/// How the next token is drawn.
struct SamplingOptions {
  double temperature = 0.8;         ///< 0: always the likeliest token
  double top_p = 0.95;              ///< smallest set of tokens with this probability; 1: all
  std::int64_t top_k = 0;           ///< of these, the likeliest so many; 0: all
  double repetition_penalty = 1.0;  ///< of tokens that came before; 1: none
  std::uint64_t seed = 1;

  bool operator==(const SamplingOptions&) const = default;
};

struct GenerateOptions {
  /// A run's directory (then its newest checkpoint), a checkpoint's, or a model's in Hugging Face's
  /// layout.
  std::string model;
  std::string tokenizer;  ///< name or path; empty: the model's own
  std::string dtype;      ///< "fp32", "bf16", "fp64"; empty: that of the files
  std::string device = "cpu";
  std::string base = {};  ///< of an adapter: its base's directory; empty: as it says itself
  SamplingOptions sampling;
  /// Most tokens of a continuation; 0: kDefaultTokens, or as many as the model's positions leave.
  std::int64_t max_tokens = 0;
  std::int64_t samples = 1;        ///< of each prompt
  std::vector<std::string> stops;  ///< texts before which a continuation ends

  bool operator==(const GenerateOptions&) const = default;
};
inline constexpr std::int64_t kDefaultTokens = 200;

/// Texts that are told to the user as they come: of a sample (from 0) the next piece, whole UTF-8
/// characters; and remarks.
struct GenerateListener {
  std::function<void(std::int64_t sample, const std::string& piece)> text;
  std::function<void(const std::string& remark)> note;
};

/// Samples continuations of a prompt; the first piece of each is the prompt. One ends at an end
/// token (the tokenizer's, and those of config.json and generation_config.json), before a stop
/// text, at max_tokens, or when the model's positions are used up. The same seed gives the same
/// samples. Throws InputError, also for a prompt with which max_tokens do not fit into the model's
/// positions, DamagedCheckpointError, and OutOfMemoryError where the key-value cache has no room.
void generate(const GenerateOptions& options, const std::string& prompt,
              const GenerateListener& listener);

/// Continues all prompts of a file, and writes a line of JSON for each into `output`, in order:
/// "prompt" (or "messages"), and "completions", of which each has "text", "tokens" and "finish"
/// ("end", "stop", "length", "context"). Of a .jsonl file each line has a "prompt", or "messages"
/// of which each has "role" and "content"; of any other file each line is a prompt. Ranks share the
/// prompts; what a prompt gives depends on the seed and the number of its line alone. `output` must
/// be new, and takes its name when it is complete. All prompts are read and checked before any is
/// continued. Returns their number. Called by every rank. `chat_template` for messages: its name;
/// empty: told by the tokenizer. Throws as `generate`.
std::int64_t generate_batch(const GenerateOptions& options, const std::string& prompts,
                            const std::string& output, const std::string& chat_template,
                            comm::Communicator& world, const GenerateListener& listener);

}  // namespace longspan::train
