#include "train/sequence.h"

#include <catch2/catch.hpp>
#include <numeric>

#include "longspan/base/error.h"
#include "tests/model/fixture.h"

namespace longspan::train {
namespace {

using backend::MemoryTag;
using data::TokenId;

struct Model {
  std::unique_ptr<backend::Backend> backend = model::test::make_backend();
  model::Decoder decoder;

  explicit Model(base::DType dtype = base::DType::kFloat64)
      : decoder(model::test::small_config(true), dtype, *backend, {}, {.trains = false}) {
    decoder.parameters().initialise(5, 0.3);
  }
};

std::vector<TokenId> some_tokens(std::size_t count, int step) {
  std::vector<TokenId> tokens(count);
  for (std::size_t i = 0; i < count; ++i) {
    tokens[i] = static_cast<TokenId>((static_cast<std::size_t>(step) * i + i / 7) % 50);
  }
  return tokens;
}

void check_same(const std::vector<float>& a, const std::vector<float>& b) {
  REQUIRE(a.size() == b.size());
  for (std::size_t i = 0; i < a.size(); ++i) CHECK(a[i] == Approx(b[i]).epsilon(1e-5).margin(1e-6));
}

TEST_CASE("sequence: of a text that changes at its end, what is new alone is run") {
  Model model;
  const auto whole = some_tokens(30, 3);
  const std::vector<TokenId> begin(whole.begin(), whole.begin() + 20);
  std::vector<TokenId> other = begin;
  other[15] = (other[15] + 1) % 50;

  Sequence sequence(model.decoder, 40, 8);
  CHECK(sequence.become(begin) == 20);
  CHECK(sequence.become(whole) == 10);
  Sequence fresh(model.decoder, 40, 40);
  fresh.append(whole);
  check_same(sequence.logits(), fresh.logits());
  // The last token is run again: its logits are asked for.
  CHECK(sequence.become(begin) == 1);
  CHECK(sequence.become(other) == 5);
  CHECK(sequence.tokens() == other);
  CHECK(sequence.room() == 20);
  Sequence again(model.decoder, 40, 40);
  again.append(other);
  check_same(sequence.logits(), again.logits());
  CHECK_THROWS_AS(sequence.append(some_tokens(21, 1)), base::InternalError);
  sequence.append(some_tokens(20, 1));
  CHECK(sequence.room() == 0);
}

TEST_CASE("sequence: the cache takes the room it needs, up to its capacity") {
  Model model(base::DType::kFloat32);
  const backend::Ledger& ledger = model.backend->ledger();
  const model::ModelConfig& config = model.decoder.config();
  const auto a_token = static_cast<std::size_t>(2 * config.num_hidden_layers *
                                                config.num_key_value_heads * config.head_dim * 4);
  Sequence sequence(model.decoder, 1000, 64);
  CHECK(ledger.live(MemoryTag::kSaved) == 64 * a_token);
  sequence.append(some_tokens(65, 3));
  CHECK(ledger.live(MemoryTag::kSaved) == 128 * a_token);
  sequence.append(some_tokens(435, 3));
  CHECK(ledger.live(MemoryTag::kSaved) == 500 * a_token);
  sequence.append(some_tokens(1, 3));
  CHECK(ledger.live(MemoryTag::kSaved) == 1000 * a_token);
}

TEST_CASE("sequence: what a prompt needs beside the cache does not grow with it") {
  std::vector<std::size_t> peaks;
  for (const std::size_t tokens : {4096U, 12288U}) {
    Model model(base::DType::kFloat32);
    Sequence sequence(model.decoder, static_cast<std::int64_t>(tokens),
                      static_cast<std::int64_t>(tokens));
    sequence.append(some_tokens(tokens, 3));
    peaks.push_back(model.backend->ledger().peak(MemoryTag::kWorkspace));
  }
  CHECK(peaks[1] <= peaks[0] + peaks[0] / 20);
}

}  // namespace
}  // namespace longspan::train
