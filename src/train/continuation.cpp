#include "train/continuation.h"

#include <fmt/format.h>

#include <algorithm>

#include "longspan/base/error.h"
#include "train/sampling.h"
#include "train/text_stream.h"

namespace longspan::train {

using data::TokenId;

const char* name_of(Finish finish) {
  switch (finish) {
    case Finish::kEnd:
      return "end";
    case Finish::kStop:
      return "stop";
    case Finish::kLength:
      return "length";
    case Finish::kContext:
      return "context";
  }
  return "";
}

Continuation continue_text(Sequence& sequence, const data::Tokenizer& tokenizer,
                           const ContinuationRules& rules, const base::RandomStream& random,
                           const std::function<void(const std::string& piece)>& tell,
                           const std::function<bool()>& stops) {
  Continuation result;
  TextStream stream(tokenizer, sequence.tokens(), rules.stops);
  const auto add = [&](const std::string& piece) {
    if (piece.empty()) return;
    result.text += piece;
    tell(piece);
  };
  // The last token drawn is not run, so there is one more than the cache has room for.
  const std::int64_t most = std::min(rules.max_tokens, sequence.room() + 1);
  result.finish = most < rules.max_tokens ? Finish::kContext : Finish::kLength;
  while (result.tokens < most) {
    if (stops()) {
      result.finish = Finish::kLength;
      break;
    }
    std::vector<float> logits = sequence.logits();
    // A model may have more rows than the tokenizer has ids: those are never sampled.
    logits.resize(static_cast<std::size_t>(tokenizer.vocab_size()));
    penalise_repetition(logits, sequence.tokens(), rules.sampling.repetition_penalty);
    const double draw = random.uniform(static_cast<std::uint64_t>(result.tokens));
    const TokenId next = sample_token(logits, rules.sampling, draw);
    if (rules.end_ids.contains(next)) {
      result.finish = Finish::kEnd;
      break;
    }
    ++result.tokens;
    add(stream.add(next));
    if (stream.stopped()) break;
    if (result.tokens < most) sequence.append({next});
  }
  add(stream.finish());
  if (stream.stopped()) result.finish = Finish::kStop;
  return result;
}

std::vector<TokenId> prompt_ids(const data::Tokenizer& tokenizer, const std::string& prompt) {
  std::vector<TokenId> ids = tokenizer.encode(prompt);
  ids.insert(ids.begin(), tokenizer.bos_id());
  return ids;
}

std::int64_t tokens_to_add(const GenerateOptions& options, const model::ModelConfig& config,
                           std::int64_t length, const std::string& what) {
  const std::int64_t room = config.max_position_embeddings - length;
  const std::int64_t least = std::max<std::int64_t>(options.max_tokens, 1);
  if (least <= room) return options.max_tokens > 0 ? least : std::min(kDefaultTokens, room);
  throw base::InputError(fmt::format(
      "{} has {} tokens, and with {} more it is beyond the model's max_position_embeddings, {}; {}",
      what, length, least, config.max_position_embeddings,
      room > 0 ? fmt::format("set --max-tokens to {} or less", room) : "shorten it"));
}

std::vector<Continuation> continue_prompt(
    LoadedModel& model, const GenerateOptions& options, const std::set<TokenId>& end_ids,
    const std::vector<TokenId>& ids, std::int64_t prompt,
    const std::function<void(std::int64_t sample, const std::string& piece)>& tell) {
  const auto length = static_cast<std::int64_t>(ids.size());
  const ContinuationRules rules{options.sampling, end_ids, options.stops,
                                options.max_tokens > 0 ? options.max_tokens : kDefaultTokens};
  const std::int64_t more = tokens_to_add(options, model.config(), length, "the prompt");
  Sequence sequence(model.decoder(), length + more - 1, length + more - 1);
  std::vector<Continuation> samples;
  for (std::int64_t sample = 0; sample < options.samples; ++sample) {
    tell(sample, "");
    sequence.become(ids);
    const base::RandomStream random(options.sampling.seed, base::Purpose::kSampling,
                                    static_cast<std::uint64_t>(prompt),
                                    static_cast<std::uint64_t>(sample));
    samples.push_back(continue_text(sequence, model.needed_tokenizer(), rules, random,
                                    [&](const std::string& piece) { tell(sample, piece); }));
  }
  return samples;
}

}  // namespace longspan::train
