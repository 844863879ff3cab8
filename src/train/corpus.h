#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "longspan/data/blend.h"
#include "longspan/data/sampler.h"
#include "longspan/data/token_file.h"
#include "longspan/data/tokenizer.h"
#include "longspan/train/job.h"

namespace longspan::train {

/// Throws InputError when a token file says that it was made with another tokenizer than this one,
/// which messages call `name` ("data.tokenizer \"bytes\"").
void check_tokenizer(const data::TokenFile& file, const data::Tokenizer& tokenizer,
                     const std::string& name);

/// Bytes of text that spans stand for: whole documents count all their bytes, parts of them a share
/// by tokens. -1 when the file does not say.
double text_bytes(const data::TokenFile& file, const std::vector<data::Span>& spans);

/// The data of a job, opened and checked: token ids against the vocabulary, tokenizers against
/// each other.
class Corpus {
 public:
  /// The ranks share the reading of the range check. Throws InputError; the caller agrees on it.
  Corpus(const Job& job, int rank, int ranks);

  data::Blend& training() { return *training_; }
  /// Null when the job has no validation data.
  data::Sampler* validation() { return validation_.get(); }
  /// Null when the job names no tokenizer.
  const data::Tokenizer* tokenizer() const { return tokenizer_.get(); }
  /// Text bytes that the targets of validation rows stand for (see `text_bytes`); -1 also where not
  /// all tokens are targets.
  double validation_bytes(const std::vector<data::Span>& row) const;
  /// What the order of samples depends on besides the job's keys; kept in checkpoints.
  std::string fingerprint() const;
  /// A line for each file of a blend: its share of the rows, and how often the job's steps go
  /// through it. Empty without data.weights.
  std::vector<std::string> blend_report() const;

 private:
  void open_samplers(const Job& job);

  std::vector<std::string> files_;  ///< of training
  bool is_blend_;
  std::int64_t steps_;
  std::unique_ptr<data::Tokenizer> tokenizer_;
  std::unique_ptr<data::TokenFile> training_file_;
  std::unique_ptr<data::TokenFile> validation_file_;  ///< null when split off the training file
  std::unique_ptr<data::Blend> training_;
  std::unique_ptr<data::Sampler> validation_;
};

/// Tokens of each row.
std::vector<std::int64_t> row_lengths(const std::vector<std::vector<data::Span>>& rows);

}  // namespace longspan::train
