#pragma once

#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "longspan/base/file.h"
#include "longspan/data/tokenizer.h"
#include "tests/support/temporary_directory.h"
#include "tests/support/test_data.h"

namespace longspan::data {

/// One of tests/data/tokenizers (which bring <s>, <|im_start|> and others of their families) with
/// more added tokens; eos is the last of them, or `eos`.
inline std::unique_ptr<Tokenizer> tokenizer_with(const test::TemporaryDirectory& directory,
                                                 const std::string& family,
                                                 const std::vector<std::string>& tokens,
                                                 const std::string& eos, bool special = true) {
  auto file = nlohmann::json::parse(
      base::read_text(test::data_folder() / "data" / "tokenizers" / (family + ".json")));
  int next = 0;
  for (const auto& [piece, id] : file["model"]["vocab"].items()) {
    next = std::max(next, id.get<int>() + 1);
  }
  for (const auto& token : file["added_tokens"]) {
    next = std::max(next, token["id"].get<int>() + 1);
  }
  for (const std::string& token : tokens) {
    file["added_tokens"].push_back({{"id", next++},
                                    {"content", token},
                                    {"single_word", false},
                                    {"lstrip", false},
                                    {"rstrip", false},
                                    {"normalized", false},
                                    {"special", special}});
  }
  directory.write("tokenizer/tokenizer.json", file.dump());
  directory.write("tokenizer/tokenizer_config.json", nlohmann::json{{"eos_token", eos}}.dump());
  return load_tokenizer(directory.file("tokenizer"));
}

}  // namespace longspan::data
