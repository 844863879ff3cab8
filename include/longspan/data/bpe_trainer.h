#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "longspan/data/text_source.h"

namespace longspan::data {

struct BpeTraining {
  TextOptions text;
  std::int32_t vocab_size = 0;  ///< ids in all, 256 of them bytes and one the end of a document
  /// Of a larger corpus, evenly spaced stretches of about this much text are used.
  std::uint64_t max_bytes = std::uint64_t{512} << 20U;
};

/// Makes a tokenizer.json of byte-level byte-pair encoding from files and folders (see TextSource),
/// which `tokenizers` and `transformers` load, too. Text is cut into words by the pattern of
/// Llama 3; of the pairs of neighbours in words the most frequent is joined, of equally frequent
/// ones that with the lower ids, until there are `vocab_size` ids. Ids: 0-255 the bytes, then
/// joined ones, the last <|endoftext|>. It gives back all bytes. The same text gives the same file.
/// Throws InputError when the text is too small for the vocabulary.
void train_bpe(const std::vector<std::string>& inputs, const BpeTraining& training,
               const std::filesystem::path& output);

}  // namespace longspan::data
