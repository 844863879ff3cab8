#include "train/corpus.h"

#include <fmt/format.h>

#include <algorithm>
#include <numeric>

#include "longspan/base/error.h"
#include "longspan/base/file.h"
#include "longspan/data/joined_token_file.h"

namespace longspan::train {
namespace {

using data::TokenFile;

std::vector<std::int64_t> all_documents(const TokenFile& file) {
  std::vector<std::int64_t> documents(static_cast<std::size_t>(file.documents()));
  std::iota(documents.begin(), documents.end(), 0);
  return documents;
}

/// Validation has rows, whoever plans the steps of training.
data::Packing validation_packing(const Job& job) {
  return job.data.packing == "packed" ? data::Packing::kPacked : data::Packing::kStreamed;
}

data::SamplerOptions sampler_options(const Job& job) {
  data::SamplerOptions options;
  options.packing = job.parallel.plans_steps() ? data::Packing::kSingle : validation_packing(job);
  options.tokens_per_step = job.training.tokens_per_step;
  options.row_tokens = job.training.micro_batch_tokens;
  options.rows_per_step = job.training.tokens_per_step / job.training.micro_batch_tokens;
  options.seed = job.run.seed;
  options.shuffle = job.data.shuffle;
  return options;
}

/// Keys about files of tokens alone say nothing about others.
void check_flat_keys(const Job::Data& data) {
  const auto is_any_flat = [](const std::vector<std::string>& files) {
    return std::any_of(files.begin(), files.end(),
                       [](const std::string& file) { return data::TokenFile::is_flat(file); });
  };
  if (is_any_flat(data.train) || is_any_flat(data.validation)) return;
  const auto refuse = [](const char* key, const std::string& value) {
    throw base::InputError(fmt::format(
        "data.{} is {}, but every file of the data lists its documents and says of what type its "
        "tokens are; leave the key out",
        key, value));
  };
  if (!data.raw_type.empty()) refuse("raw_type", "\"" + data.raw_type + "\"");
  if (data.document_end >= 0) refuse("document_end", std::to_string(data.document_end));
}

/// Documents to train on, of each file of a blend or of all, and to validate on.
struct Sources {
  std::vector<std::vector<std::int64_t>> training;
  std::vector<std::int64_t> validation;
};

/// Without weights the documents of all files are split; of a blend, those of each file.
Sources split_sources(const TokenFile& file, const Job& job) {
  const std::vector<std::int64_t> begins = job.data.weights.empty()
                                               ? std::vector<std::int64_t>{0, file.documents()}
                                               : file.file_begins();
  Sources sources;
  for (std::size_t source = 0; source + 1 < begins.size(); ++source) {
    const std::int64_t documents = begins[source + 1] - begins[source];
    if (documents == 0 && !job.data.weights.empty()) {
      throw base::InputError(
          fmt::format("{} has no documents, but a weight in data.weights; leave both out",
                      job.data.train[source]));
    }
    auto split = data::split_documents(documents, job.data.validation_fraction, job.run.seed);
    for (auto* list : {&split.training, &split.validation}) {
      for (std::int64_t& document : *list) document += begins[source];
    }
    sources.training.push_back(std::move(split.training));
    sources.validation.insert(sources.validation.end(), split.validation.begin(),
                              split.validation.end());
  }
  return sources;
}

}  // namespace

void check_tokenizer(const TokenFile& file, const data::Tokenizer& tokenizer,
                     const std::string& name) {
  const std::string found = file.tokenizer_hash();
  if (!found.empty() && found != tokenizer.hash()) {
    throw base::InputError(
        fmt::format("{} was made with another tokenizer (hash {}) than {} (hash {}); "
                    "tokenize again, or name the tokenizer it was made with",
                    file.path().string(), found, name, tokenizer.hash()));
  }
}

double text_bytes(const TokenFile& file, const std::vector<data::Span>& spans) {
  double bytes = 0;
  for (const data::Span& span : spans) {
    for (std::int64_t d = span.document; d < file.documents() && file.document_begin(d) < span.end;
         ++d) {
      const std::int64_t begin = file.document_begin(d);
      const std::int64_t end = file.document_begin(d + 1);
      if (file.document_bytes(d) < 0) return -1;
      if (end == begin) continue;
      const std::int64_t covered = std::min(end, span.end) - std::max(begin, span.begin);
      bytes += static_cast<double>(file.document_bytes(d)) * static_cast<double>(covered) /
               static_cast<double>(end - begin);
    }
  }
  return bytes;
}

Corpus::Corpus(const Job& job, int rank, int ranks)
    : files_(job.data.train), is_blend_(!job.data.weights.empty()), steps_(job.training.steps) {
  check_flat_keys(job.data);
  const data::FlatTokens flat{job.data.raw_type, static_cast<data::TokenId>(job.data.document_end)};
  training_file_ = data::open_token_files(job.data.train, flat);
  if (!job.data.validation.empty()) {
    validation_file_ = data::open_token_files(job.data.validation, flat);
  }
  if (!job.data.tokenizer.empty()) {
    tokenizer_ = data::load_tokenizer(job.data.tokenizer);
    if (tokenizer_->vocab_size() > job.model.vocab_size) {
      throw base::InputError(fmt::format(
          "model.vocab_size is {}, but data.tokenizer \"{}\" has {} ids; set it to {} or more",
          job.model.vocab_size, job.data.tokenizer, tokenizer_->vocab_size(),
          tokenizer_->vocab_size()));
    }
    const std::string name = fmt::format("data.tokenizer \"{}\"", job.data.tokenizer);
    check_tokenizer(*training_file_, *tokenizer_, name);
    if (validation_file_) check_tokenizer(*validation_file_, *tokenizer_, name);
  }
  training_file_->check_range(job.model.vocab_size, rank, ranks);
  if (validation_file_) validation_file_->check_range(job.model.vocab_size, rank, ranks);

  open_samplers(job);
}

void Corpus::open_samplers(const Job& job) {
  auto options = sampler_options(job);
  const Sources sources = split_sources(*training_file_, job);
  if (job.data.validation_fraction > 0 && sources.validation.empty()) {
    throw base::InputError(fmt::format(
        "data.validation_fraction is {}, but {} has only {} document(s): there is nothing to "
        "split off; name a file in data.validation instead",
        job.data.validation_fraction, job.data.train.front(), training_file_->documents()));
  }
  training_ =
      std::make_unique<data::Blend>(*training_file_, sources.training, job.data.weights, options);
  options.shuffle = false;
  options.packing = validation_packing(job);
  if (validation_file_) {
    validation_ = std::make_unique<data::Sampler>(*validation_file_,
                                                  all_documents(*validation_file_), options);
  } else if (!sources.validation.empty()) {
    validation_ = std::make_unique<data::Sampler>(*training_file_, sources.validation, options);
  }
}

double Corpus::validation_bytes(const std::vector<data::Span>& row) const {
  const TokenFile& file = validation_file_ ? *validation_file_ : *training_file_;
  return file.is_masked() ? -1 : text_bytes(file, row);
}

std::string Corpus::fingerprint() const {
  const TokenFile& file = *training_file_;
  std::string text =
      fmt::format("{} tokens in {} documents, tokenizer {}", file.tokens(), file.documents(),
                  file.tokenizer_hash().empty() ? "unknown" : file.tokenizer_hash());
  if (file.is_masked()) {
    text += fmt::format(", {} tokens in the loss", file.loss_tokens(0, file.tokens()));
  }
  if (files_.size() == 1) return text;
  // Of several files the order counts, too: documents are known by their numbers.
  base::Xxh3Stream hash;
  for (std::int64_t document = 0; document < file.documents(); ++document) {
    const std::int64_t begin = file.document_begin(document);
    hash.update(&begin, sizeof(begin));
  }
  text += fmt::format(", documents of {} files {}", files_.size(), hash.hex());
  if (is_blend_) text += fmt::format(", drawn {}", fmt::join(training_->shares(), ":"));
  return text;
}

std::vector<std::string> Corpus::blend_report() const {
  std::vector<std::string> lines;
  if (!is_blend_) return lines;
  for (std::size_t source = 0; source < files_.size(); ++source) {
    lines.push_back(fmt::format("blend   {}: {:.2f}% of the rows, {:.2f} epochs in {} steps",
                                files_[source], 100 * training_->share(source),
                                training_->epochs(source, steps_), steps_));
  }
  return lines;
}

std::vector<std::int64_t> row_lengths(const std::vector<std::vector<data::Span>>& rows) {
  std::vector<std::int64_t> lengths;
  for (const auto& row : rows) {
    lengths.push_back(0);
    for (const data::Span& span : row) lengths.back() += span.end - span.begin;
  }
  return lengths;
}

}  // namespace longspan::train
