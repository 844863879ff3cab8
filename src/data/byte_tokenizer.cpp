#include "data/byte_tokenizer.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>

#include "data/hf/added_tokens.h"
#include "longspan/base/error.h"
#include "longspan/base/file.h"
#include "longspan/base/json.h"

namespace longspan::data {
namespace {

constexpr TokenId kFirstByte = 3;
constexpr std::array<std::string_view, kFirstByte> kSpecial = {"<pad>", "</s>", "<unk>"};

}  // namespace

std::string ByteTokenizer::hash() const {
  static constexpr std::string_view kRule = "bytes: pad 0, eos 1, unk 2, byte b = 3 + b";
  return base::xxh3_hex(kRule.data(), kRule.size());
}

std::vector<TokenId> ByteTokenizer::encode(std::string_view text) const {
  std::vector<TokenId> ids(text.size());
  for (std::size_t index = 0; index < text.size(); ++index) {
    ids[index] = kFirstByte + static_cast<unsigned char>(text[index]);
  }
  return ids;
}

std::vector<TokenId> ByteTokenizer::encode_with_special(std::string_view text) const {
  static const hf::TokenFinder kFinder =
      hf::TokenFinder::of_contents({{0, std::string(kSpecial[0])},
                                    {1, std::string(kSpecial[1])},
                                    {2, std::string(kSpecial[2])}});
  return kFinder.encode(text, [&](std::string_view part, bool) { return encode(part); });
}

std::optional<TokenId> ByteTokenizer::special_id(std::string_view content) const {
  const auto* const found = std::find(kSpecial.begin(), kSpecial.end(), content);
  if (found == kSpecial.end()) return std::nullopt;
  return static_cast<TokenId>(found - kSpecial.begin());
}

std::string ByteTokenizer::decode(const std::vector<TokenId>& ids) const {
  std::string text;
  text.reserve(ids.size());
  for (const TokenId id : ids) {
    if (id < 0 || id >= vocab_size()) {
      throw base::InputError(
          fmt::format("cannot decode token {}: the byte tokenizer has {} ids", id, vocab_size()));
    }
    if (id >= kFirstByte) text.push_back(static_cast<char>(id - kFirstByte));
  }
  return text;
}

void ByteTokenizer::save(const std::filesystem::path& directory) const {
  const nlohmann::json config = {{"tokenizer_class", "ByT5Tokenizer"},
                                 {"extra_ids", 0},
                                 {"pad_token", kSpecial[0]},
                                 {"eos_token", kSpecial[1]},
                                 {"unk_token", kSpecial[2]}};
  base::make_directories(directory);
  base::replace_file(directory / "tokenizer_config.json", base::json_text(config, 2) + "\n");
}

}  // namespace longspan::data
