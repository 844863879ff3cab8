#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "longspan/data/text_source.h"

namespace longspan::data {

struct SentencePieceTraining {
  TextOptions text;
  std::int32_t vocab_size = 0;  ///< ids in all, 259 of them bytes and control pieces
  /// Of a larger corpus, evenly spaced stretches of about this much text are used.
  std::uint64_t max_bytes = std::uint64_t{512} << 20U;
};

/// Makes a sentencepiece model from files and folders (see TextSource): byte-pair encoding with
/// byte fallback and no normalisation, so that it gives back every text exactly. Ids: 0 unknown,
/// 1 bos, 2 eos, 3-258 the bytes. Pieces begin at spaces and do not span them; newlines may be in
/// a piece. The same text gives the same file. Throws InputError when the text is too small for
/// the vocabulary, or the vocabulary for the text's characters.
void train_sentencepiece(const std::vector<std::string>& inputs,
                         const SentencePieceTraining& training,
                         const std::filesystem::path& output);

}  // namespace longspan::data
