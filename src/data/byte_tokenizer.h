#pragma once

#include "longspan/data/tokenizer.h"

namespace longspan::data {

/// One token a byte, with the ids of ByT5: pad 0, eos 1, unk 2, byte b = 3 + b. A document begins
/// and ends with the same token.
class ByteTokenizer final : public Tokenizer {
 public:
  std::string name() const override { return "bytes"; }
  TokenId vocab_size() const override { return 259; }
  TokenId bos_id() const override { return 1; }
  TokenId eos_id() const override { return 1; }
  std::string hash() const override;
  std::vector<TokenId> encode(std::string_view text) const override;
  std::vector<TokenId> encode_with_special(std::string_view text) const override;
  std::optional<TokenId> special_id(std::string_view content) const override;
  std::string decode(const std::vector<TokenId>& ids) const override;
  void save(const std::filesystem::path& directory) const override;
};

}  // namespace longspan::data
