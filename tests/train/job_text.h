#pragma once

#include <catch2/catch.hpp>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "longspan/base/error.h"
#include "longspan/train/job.h"
#include "tests/support/temporary_directory.h"

// Job files as text, read and refused.
namespace longspan::test {

/// No key that has a default.
inline nlohmann::json smallest() {
  return {{"run", {{"output_dir", "out"}}},
          {"model",
           {{"vocab_size", 256},
            {"hidden_size", 64},
            {"intermediate_size", 128},
            {"num_hidden_layers", 2},
            {"num_attention_heads", 4}}},
          {"data", {{"train", {"a.tokens"}}}},
          {"optimizer", {{"learning_rate", 1e-3}}},
          {"training", {{"steps", 100}, {"tokens_per_step", 512}, {"micro_batch_tokens", 128}}}};
}

inline train::Job read(const std::string& text, const std::vector<std::string>& overrides = {}) {
  const TemporaryDirectory directory;
  return train::read_job(directory.write("job.json", text), overrides);
}

inline std::string refusal(const std::string& text,
                           const std::vector<std::string>& overrides = {}) {
  try {
    read(text, overrides);
  } catch (const base::InputError& error) {
    CHECK(error.code() == base::ExitCode::kBadInput);
    return error.what();
  }
  return "accepted";
}

/// The refusal of the smallest job with these settings.
inline std::string refusal_of(const std::vector<std::string>& overrides) {
  return refusal(smallest().dump(), overrides);
}

/// The refusal of the smallest job with one more or other member.
inline std::string refusal_with(const char* section, const char* key, const nlohmann::json& value) {
  nlohmann::json job = smallest();
  job[section][key] = value;
  return refusal(job.dump());
}

}  // namespace longspan::test
