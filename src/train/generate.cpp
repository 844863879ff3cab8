#include "longspan/train/generate.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <numeric>
#include <vector>

#include "longspan/base/error.h"
#include "longspan/base/file.h"
#include "longspan/base/random.h"
#include "longspan/checkpoint/safetensors.h"
#include "longspan/checkpoint/store.h"
#include "longspan/data/tokenizer.h"
#include "longspan/model/decoder.h"
#include "longspan/train/device.h"
#include "train/run_directory.h"
#include "train/training_state.h"

namespace longspan::train {
namespace {

using base::InputError;
using data::TokenId;

/// One draw by temperature and nucleus (Holtzman et al. 2020), deterministic in `draw` [0, 1).
TokenId sample_token(const std::vector<float>& logits, const GenerateOptions& options,
                     double draw) {
  const auto best = std::max_element(logits.begin(), logits.end());
  if (options.temperature == 0) return static_cast<TokenId>(best - logits.begin());
  std::vector<double> weights(logits.size());
  double total = 0;
  for (std::size_t i = 0; i < logits.size(); ++i) {
    weights[i] = std::exp((static_cast<double>(logits[i]) - static_cast<double>(*best)) /
                          options.temperature);
    total += weights[i];
  }
  std::vector<TokenId> order(logits.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](TokenId a, TokenId b) {
    return weights[static_cast<std::size_t>(a)] > weights[static_cast<std::size_t>(b)];
  });
  double kept = 0;
  std::size_t count = 0;
  while (count < order.size() && (count == 0 || kept < options.top_p * total)) {
    kept += weights[static_cast<std::size_t>(order[count++])];
  }
  double target = draw * kept;
  for (std::size_t i = 0; i + 1 < count; ++i) {
    target -= weights[static_cast<std::size_t>(order[i])];
    if (target < 0) return order[i];
  }
  return order[count - 1];
}

std::string one_sample(model::Decoder& model, const data::Tokenizer& tokenizer,
                       const GenerateOptions& options, std::int64_t sample) {
  std::vector<TokenId> ids = {tokenizer.bos_id()};
  for (const TokenId id : tokenizer.encode(options.prompt)) ids.push_back(id);
  const auto prompt_length = static_cast<std::int64_t>(ids.size());
  const std::int64_t room = model.config().max_position_embeddings - prompt_length;
  if (room <= 0) {
    throw InputError(
        fmt::format("the prompt has {} tokens, and the model's max_position_embeddings is {}",
                    prompt_length, model.config().max_position_embeddings));
  }
  const std::int64_t count = std::min(options.max_tokens, room);
  auto cache = model.make_cache(prompt_length + count);
  const base::RandomStream random(options.seed, base::Purpose::kSampling, 0,
                                  static_cast<std::uint64_t>(sample));
  std::vector<TokenId> fresh = ids;
  for (std::int64_t i = 0; i < count; ++i) {
    auto logits = model.next_logits(fresh, cache);
    // A model may have more rows than the tokenizer has ids: those are never sampled.
    logits.resize(static_cast<std::size_t>(tokenizer.vocab_size()));
    const TokenId next =
        sample_token(logits, options, random.uniform(static_cast<std::uint64_t>(i)));
    if (next == tokenizer.eos_id()) break;
    ids.push_back(next);
    fresh = {next};
  }
  return tokenizer.decode(ids);
}

}  // namespace

void generate(const std::string& checkpoint, const GenerateOptions& options,
              const std::function<void(std::int64_t, const std::string&)>& emit) {
  const auto directory = find_checkpoint(checkpoint);
  checkpoint::verify(directory);
  const auto config_path = directory / "config.json";
  const auto config =
      model::ModelConfig::from_config_json(base::read_text(config_path), config_path.string());
  const auto tokenizer =
      data::load_tokenizer(options.tokenizer.empty() ? directory.string() : options.tokenizer);
  if (tokenizer->vocab_size() > config.vocab_size) {
    throw InputError(fmt::format("the tokenizer has {} ids, and the model of {} only {}",
                                 tokenizer->vocab_size(), directory.string(), config.vocab_size));
  }
  const checkpoint::SafetensorsFile weights(directory / "model.safetensors");
  if (weights.tensors().empty()) {
    throw InputError(
        fmt::format("{} holds no tensors", (directory / "model.safetensors").string()));
  }
  const auto backend = make_device(options.device);
  model::Decoder model(config, weights.tensors().begin()->second.dtype, *backend);
  load_weights(directory, model, *backend);
  for (std::int64_t sample = 0; sample < options.samples; ++sample) {
    emit(sample, one_sample(model, *tokenizer, options, sample));
  }
}

}  // namespace longspan::train
