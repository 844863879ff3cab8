#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "longspan/comm/communicator.h"

namespace longspan::train {

struct EvaluateOptions {
  /// A run's directory (then its newest checkpoint), a checkpoint's, or a model's in Hugging Face's
  /// layout.
  std::string model = {};
  std::vector<std::string> files = {};  ///< of tokens; they count as one
  std::string tokenizer = {};           ///< name or path; empty: the model's own, if it has one
  std::string precision = {};  ///< "fp32", "bf16", "fp64"; empty: that of the model's files
  std::string device = "cpu";
  std::string base = {};      ///< of an adapter: its base's directory; empty: as it says itself
  std::string raw_type = {};  ///< of files without a header: see data::FlatTokens
  std::int64_t document_end = -1;  ///< likewise
  /// Tokens of a window; 0: the model's max_position_embeddings, or the longest document if that is
  /// shorter.
  std::int64_t context_length = 0;
  std::int64_t stride = 0;      ///< from one window's begin to the next one's; 0: context_length
  std::int64_t max_tokens = 0;  ///< the first tokens of the files alone; 0: all
};

/// Losses of the tokens that were predicted at positions [first, last] of their windows: from
/// first + 1 to last + 1 tokens.
struct PositionLosses {
  std::int64_t first = 0;
  std::int64_t last = 0;
  std::int64_t targets = 0;
  double nll = 0;  ///< sum, in nats

  double loss() const { return nll / static_cast<double>(targets); }
};

/// What a model gives the tokens of files. A document longer than a window is read in several: with
/// a stride of the window's length they follow each other, and every token but a document's first
/// is predicted from what its window has before it; with a shorter one windows overlap, and a token
/// counts in the first window that it is predicted in.
struct Evaluation {
  std::string model;  ///< the directory
  std::string model_type;
  std::int64_t parameters = 0;
  std::string precision;  ///< "float32"
  std::vector<std::string> files;
  std::int64_t documents = 0;  ///< that were read, whole or in part
  std::int64_t tokens = 0;     ///< of these, each once
  std::int64_t targets = 0;    ///< tokens that were predicted and count
  std::int64_t context_length = 0;
  std::int64_t stride = 0;
  double nll = 0;  ///< sum, in nats
  /// Of the text; absent when a file does not say, or not all labels count.
  std::optional<double> text_bytes;
  /// By powers of two: 0, 1, 2 to 3, 4 to 7, ..., as far as there are tokens.
  std::vector<PositionLosses> positions;

  double loss() const { return nll / static_cast<double>(targets); }
  std::optional<double> bits_per_byte() const;
};

/// Evaluates; windows are packed into rows, which the ranks share. The figures are the same bits
/// for every number of ranks that have as many threads each. Throws InputError, also for a file
/// that was made with another tokenizer than the model's, DamagedCheckpointError, OutOfMemoryError.
/// Called by every rank; `note` (rank 0) receives remarks, `progress` (rank 0) the rows done, and
/// of how many.
Evaluation evaluate(const EvaluateOptions& options, comm::Communicator& world,
                    const std::function<void(const std::string& remark)>& note,
                    const std::function<void(std::size_t done, std::size_t rows)>& progress);

/// For a terminal; as one line of JSON; and the loss by position as an SVG picture.
std::string evaluation_text(const Evaluation& evaluation);
std::string evaluation_json(const Evaluation& evaluation);
std::string evaluation_picture(const Evaluation& evaluation);

}  // namespace longspan::train
