#pragma once

#include <cstdint>
#include <functional>
#include <set>
#include <string>
#include <vector>

#include "longspan/base/random.h"
#include "longspan/data/tokenizer.h"
#include "longspan/train/generate.h"
#include "train/loaded_model.h"
#include "train/sequence.h"

namespace longspan::train {

/// Why a continuation ended.
enum class Finish : std::uint8_t {
  kEnd,      ///< an end token
  kStop,     ///< a stop text
  kLength,   ///< as many tokens as were asked for
  kContext,  ///< no room is left
};
/// "end", "stop", "length", "context".
const char* name_of(Finish finish);

struct Continuation {
  std::string text;  ///< UTF-8, without what ended it
  std::int64_t tokens = 0;
  Finish finish = Finish::kLength;
};

/// How a text goes on.
struct ContinuationRules {
  SamplingOptions sampling;
  std::set<data::TokenId> end_ids;
  std::vector<std::string> stops;
  std::int64_t max_tokens = 0;
};

/// Draws tokens until the text ends, or the sequence is full; `tell` receives its pieces as they
/// become certain. The sequence, which must hold a token, has all tokens afterwards but the last
/// one drawn, which is not needed. Token i of the continuation is drawn with number i of `random`.
/// Ends with kLength when `stops`, which is asked before each token, says so.
Continuation continue_text(
    Sequence& sequence, const data::Tokenizer& tokenizer, const ContinuationRules& rules,
    const base::RandomStream& random, const std::function<void(const std::string& piece)>& tell,
    const std::function<bool()>& stops = [] { return false; });

/// The tokens that a text begins with: bos, and those of the prompt.
std::vector<data::TokenId> prompt_ids(const data::Tokenizer& tokenizer, const std::string& prompt);

/// Tokens that may follow a prompt of `length` tokens: max_tokens if it was set. Throws InputError,
/// naming `what` ("the prompt"), where they do not fit into the model's positions.
std::int64_t tokens_to_add(const GenerateOptions& options, const model::ModelConfig& config,
                           std::int64_t length, const std::string& what);

/// All samples of a prompt: number `prompt` of those of this call. The prompt is run once. The
/// first piece of each sample is an empty one.
std::vector<Continuation> continue_prompt(
    LoadedModel& model, const GenerateOptions& options, const std::set<data::TokenId>& end_ids,
    const std::vector<data::TokenId>& ids, std::int64_t prompt,
    const std::function<void(std::int64_t sample, const std::string& piece)>& tell);

}  // namespace longspan::train
