#include "longspan/data/token_file.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/parallel.h"
#include "data/token_formats.h"
#include "longspan/base/error.h"

namespace longspan::data {
namespace {

constexpr std::int64_t kBlockTokens = std::int64_t{1} << 16U;

[[noreturn]] void refuse_token(const TokenFile& file, std::int64_t place, TokenId token,
                               std::int64_t vocab_size) {
  std::int64_t low = 0;
  std::int64_t high = file.documents();
  while (high - low > 1) {  // the last document that begins at or before the place
    const std::int64_t middle = low + (high - low) / 2;
    (file.document_begin(middle) <= place ? low : high) = middle;
  }
  throw base::InputError(fmt::format(
      "{}: token {} at place {} (of document {}, its token {}) is not in [0, {}): the "
      "file is damaged or belongs to another tokenizer",
      file.path_of(low).string(), token, place, low, place - file.document_begin(low), vocab_size));
}

}  // namespace

std::unique_ptr<TokenFile> TokenFile::open(const std::filesystem::path& path,
                                           const FlatTokens& flat) {
  if (!is_megatron_name(path)) return open_tokens_file(path);
  if (is_flat(path)) return open_flat_file(path, flat);
  return open_megatron_file(path);
}

bool TokenFile::is_flat(const std::filesystem::path& path) {
  // Only Megatron's have an index beside them.
  std::error_code ignored;
  return is_megatron_name(path) && path.extension() != ".idx" &&
         !std::filesystem::exists(megatron_name(path, ".idx"), ignored);
}

void TokenFile::check_range(std::int64_t vocab_size, int part, int parts) const {
  const std::int64_t blocks = (tokens() + kBlockTokens - 1) / kBlockTokens;
  const std::int64_t begin = blocks * part / parts;
  const std::int64_t end = blocks * (part + 1) / parts;
  std::atomic<std::int64_t> first_bad{blocks};
  base::parallel_for(end - begin, base::worker_threads(), [&](std::int64_t number) {
    const std::int64_t block = begin + number;
    if (block > first_bad) return;
    std::vector<TokenId> buffer(kBlockTokens);
    const std::int64_t from = block * kBlockTokens;
    const std::int64_t count = std::min(kBlockTokens, tokens() - from);
    read(from, from + count, buffer.data());
    std::uint32_t largest = 0;  // negative ids are large ones
    for (std::int64_t index = 0; index < count; ++index) {
      largest = std::max(largest, static_cast<std::uint32_t>(buffer[index]));
    }
    if (static_cast<std::int64_t>(largest) < vocab_size) return;
    std::int64_t known = first_bad;
    while (block < known && !first_bad.compare_exchange_weak(known, block)) {
    }
  });
  if (first_bad == blocks) return;
  for (std::int64_t place = first_bad * kBlockTokens;; ++place) {
    TokenId token = 0;
    read(place, place + 1, &token);
    if (token < 0 || token >= vocab_size) refuse_token(*this, place, token, vocab_size);
  }
}

}  // namespace longspan::data
