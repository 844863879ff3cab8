#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "longspan/data/token_file.h"

namespace longspan::data {

/// Label of an input for which nothing is predicted.
inline constexpr std::int32_t kIgnoredLabel = -100;

/// A range of one document's tokens: inputs [begin, end) of the token file.
struct Span {
  std::int64_t document = 0;
  std::int64_t begin = 0;
  std::int64_t end = 0;
};

/// What one rank runs forward and backward at once: spans packed one after another.
struct MicroBatch {
  std::vector<TokenId> tokens;
  std::vector<std::int32_t> labels;      ///< shifted; kIgnoredLabel (-100) where nothing is
                                         ///< predicted, or the file says that it does not count
  std::vector<std::int32_t> positions;   ///< restart with each span
  std::vector<std::int32_t> cu_seqlens;  ///< of the spans
  std::int64_t targets = 0;              ///< labels that are not ignored
  /// Which of its step's each token is; empty: they are the step's first.
  std::vector<std::int32_t> numbers = {};
};

/// How documents become rows of tokens.
enum class Packing : std::uint8_t {
  kPacked,    ///< whole documents (split at the row budget) share a row; no attention across
  kStreamed,  ///< the corpus as one stream, cut every row; attention crosses documents
  kSingle,    ///< each document (split at the row budget) is a row of its own
};

struct SamplerOptions {
  Packing packing = Packing::kPacked;
  std::int64_t row_tokens = 0;     ///< budget of one row = one micro-batch
  std::int64_t rows_per_step = 0;  ///< rows of one global batch; not for single ones
  /// For single rows alone, at least row_tokens: step s takes those that begin at one of the tokens
  /// [s, s + 1) * tokens_per_step of all epochs, one after another; so many tokens on average.
  std::int64_t tokens_per_step = 0;
  std::uint64_t seed = 0;
  /// A new order of the rows each epoch. Without it rows keep the file's order, but that gaps in
  /// packed rows are filled with documents from at most 256 rows further on.
  bool shuffle = true;
};

/// Which rows make the global batch of a step: a pure function of (options, step), the same on
/// every rank and for every number of ranks. An epoch visits every token of every chosen document
/// exactly once; epochs follow each other without a gap, also within a step. Which spans share a
/// packed row is decided once, by the seed; so every epoch has the same number of rows, and any
/// step is found at once. Memory grows with the documents (and the rows), not with the steps.
/// Not thread-safe, but for `read`.
class Sampler {
 public:
  /// Over the documents listed (numbers in `file`, each once, in any order), which may be all of
  /// them. The file must outlive the sampler. Throws InputError when there is nothing to train on,
  /// as in documents of which no token counts in the loss. Single rows may have no target.
  Sampler(const TokenFile& file, std::vector<std::int64_t> documents, SamplerOptions options);
  ~Sampler();

  /// The rows of a step, at least one; `step` counts from 0.
  std::vector<std::vector<Span>> rows(std::int64_t step);
  /// Rows of one pass over the documents, in order: what validation walks through.
  std::vector<std::vector<Span>> epoch_rows(std::int64_t epoch);
  std::int64_t rows_per_epoch() const;
  /// Reads a row's tokens and makes its labels, positions and boundaries. The row must be one that
  /// a sampler over the same file, documents and options gave; of packed rows, any spans of
  /// documents may be one.
  MicroBatch read(const std::vector<Span>& row) const;

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

/// Splits a file's documents by a hash of (seed, document): about `fraction` of them for
/// validation, never none of either when there are at least two and 0 < fraction < 1; a single
/// document is for training then. Both lists ascend. Throws InputError for a fraction outside
/// [0, 1].
struct Split {
  std::vector<std::int64_t> training;
  std::vector<std::int64_t> validation;
};
Split split_documents(std::int64_t documents, double fraction, std::uint64_t seed);

}  // namespace longspan::data
