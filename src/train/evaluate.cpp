#include "longspan/train/evaluate.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <memory>
#include <numeric>

#include "longspan/base/error.h"
#include "longspan/data/joined_token_file.h"
#include "train/corpus.h"
#include "train/loaded_model.h"
#include "train/windows.h"

namespace longspan::train {
namespace {

using base::InputError;
using data::TokenFile;

/// Tokens of a row, unless a window has more: short documents together keep a device busy.
constexpr std::int64_t kRowTokens = 8192;
/// Of a window: offsets in a row are 32 bits.
constexpr std::int64_t kMostTokens = std::numeric_limits<std::int32_t>::max();

/// Which power of two a position belongs to.
std::size_t bucket_of(std::size_t position) {
  return static_cast<std::size_t>(std::bit_width(position));
}

/// Sums of one bucket of positions.
struct Sums {
  double nll = 0;
  std::int64_t targets = 0;
};

/// Of one row, by bucket; they are added in the order of rows, whoever ran them.
using RowSums = std::vector<Sums>;

std::string to_bytes(const RowSums& sums) {
  return {reinterpret_cast<const char*>(sums.data()), sums.size() * sizeof(Sums)};
}

void add_bytes(RowSums& total, const std::string& bytes) {
  for (std::size_t i = 0; i * sizeof(Sums) < bytes.size(); ++i) {
    Sums row;
    std::memcpy(&row, bytes.data() + i * sizeof(Sums), sizeof(Sums));
    total[i].nll += row.nll;
    total[i].targets += row.targets;
  }
}

std::int64_t longest_document(const TokenFile& file) {
  std::int64_t longest = 0;
  for (std::int64_t d = 0; d < file.documents(); ++d) {
    longest = std::max(longest, file.document_begin(d + 1) - file.document_begin(d));
  }
  return longest;
}

/// The files and their windows.
class Work {
 public:
  Work(const EvaluateOptions& options, LoadedModel& model, const comm::Communicator& world)
      : model_(&model) {
    check_flat(options);
    file_ = data::open_token_files(
        options.files, {options.raw_type, static_cast<data::TokenId>(options.document_end)});
    if (model.tokenizer() != nullptr) {
      check_tokenizer(*file_, *model.tokenizer(),
                      fmt::format("the model's, \"{}\"", model.tokenizer_name()));
    }
    file_->check_range(model.config().vocab_size, world.rank(), world.size());
    choose_lengths(options);
    windows_ = cut_windows(*file_, {length_, stride_, options.max_tokens});
    const std::int64_t row_tokens = std::max(longest_window(), kRowTokens);
    rows_ = pack_windows(windows_, row_tokens);
    std::vector<std::int64_t> documents(static_cast<std::size_t>(file_->documents()));
    std::iota(documents.begin(), documents.end(), 0);
    sampler_ = std::make_unique<data::Sampler>(
        *file_, std::move(documents),
        data::SamplerOptions{data::Packing::kPacked, row_tokens, 1, 0, false});
  }

  std::int64_t context_length() const { return length_; }
  std::size_t rows() const { return rows_.size(); }
  std::size_t buckets() const { return bucket_of(static_cast<std::size_t>(length_ - 1)) + 1; }

  /// Runs one row. Throws InputError for a loss that is not finite.
  RowSums run(std::size_t number) {
    const std::vector<Window>& row = rows_[number];
    const data::MicroBatch batch = read(row);
    std::vector<double> nll;
    model_->decoder().evaluate({batch.tokens, batch.labels, batch.positions, batch.cu_seqlens},
                               &nll);
    RowSums sums(buckets());
    for (std::size_t i = 0; i < nll.size(); ++i) {
      if (batch.labels[i] == data::kIgnoredLabel) continue;
      if (!std::isfinite(nll[i])) refuse(row, i, batch);
      Sums& bucket = sums[bucket_of(static_cast<std::size_t>(batch.positions[i]))];
      bucket.nll += nll[i];
      ++bucket.targets;
    }
    return sums;
  }

  /// What is known without the model, and what the rows came to.
  Evaluation finish(const RowSums& total) const {
    Evaluation result;
    result.context_length = length_;
    result.stride = stride_;
    for (std::size_t i = 0; i < total.size(); ++i) {
      if (total[i].targets == 0) continue;
      const std::int64_t first = i == 0 ? 0 : std::int64_t{1} << (i - 1);
      const std::int64_t last = std::min((std::int64_t{1} << i) - 1, length_ - 1);
      result.positions.push_back({first, last, total[i].targets, total[i].nll});
      result.targets += total[i].targets;
      result.nll += total[i].nll;
    }
    if (result.targets == 0) {
      throw InputError(
          fmt::format("no token of {} can be predicted: documents of two tokens or more are "
                      "needed, with labels "
                      "that count",
                      file_->path().string()));
    }
    count_text(result);
    return result;
  }

 private:
  static void check_flat(const EvaluateOptions& options) {
    const bool says = !options.raw_type.empty() || options.document_end >= 0;
    const bool is_any_flat = std::any_of(options.files.begin(), options.files.end(),
                                         [](const auto& file) { return TokenFile::is_flat(file); });
    if (says && !is_any_flat) {
      throw InputError(
          "--raw-type and --document-end are of files of tokens alone, and every file here lists "
          "its "
          "documents and says of what type its tokens are; leave them out");
    }
  }

  void choose_lengths(const EvaluateOptions& options) {
    const std::int64_t longest = std::clamp<std::int64_t>(longest_document(*file_), 1, kMostTokens);
    length_ = options.context_length > 0
                  ? options.context_length
                  : std::min(model_->config().max_position_embeddings, longest);
    stride_ = options.stride > 0 ? options.stride : length_;
    if (length_ <= kMostTokens && stride_ <= length_) return;
    throw InputError(
        fmt::format("--context-length {} and --stride {}: expected at most {} tokens in a window, "
                    "and a stride of "
                    "at most those, or tokens between windows would never be read",
                    length_, stride_, kMostTokens));
  }

  std::int64_t longest_window() const {
    std::int64_t longest = 0;
    for (const Window& window : windows_) {
      longest = std::max(longest, window.span.end - window.span.begin);
    }
    return longest;
  }

  data::MicroBatch read(const std::vector<Window>& row) const {
    std::vector<data::Span> spans;
    for (const Window& window : row) spans.push_back(window.span);
    data::MicroBatch batch = sampler_->read(spans);
    for (std::size_t i = 0; i < row.size(); ++i) {
      const std::int64_t seen = row[i].counted - row[i].span.begin;
      std::fill_n(batch.labels.begin() + batch.cu_seqlens[i], seen, data::kIgnoredLabel);
    }
    return batch;
  }

  [[noreturn]] void refuse(const std::vector<Window>& row, std::size_t token,
                           const data::MicroBatch& batch) const {
    const auto after = std::upper_bound(batch.cu_seqlens.begin(), batch.cu_seqlens.end(),
                                        static_cast<std::int32_t>(token));
    const Window& window = row[static_cast<std::size_t>(after - batch.cu_seqlens.begin() - 1)];
    throw InputError(fmt::format(
        "the loss at position {} of document {} is not finite: the model's weights are damaged, or "
        "its numbers beyond its type; try --precision fp32",
        batch.positions[token], window.span.document));
  }

  /// Documents, tokens and text. Where labels were masked, what counts is not the text.
  void count_text(Evaluation& result) const {
    std::vector<data::Span> documents;
    for (const Window& window : windows_) {
      if (documents.empty() || documents.back().document != window.span.document) {
        documents.push_back(window.span);
      }
      documents.back().end = window.span.end;
    }
    std::int64_t predicted = 0;
    for (const data::Span& document : documents) {
      const std::int64_t tokens = document.end - document.begin;
      result.tokens += tokens;
      predicted += tokens - (document.end == file_->document_begin(document.document + 1) ? 1 : 0);
    }
    result.documents = static_cast<std::int64_t>(documents.size());
    const double bytes = text_bytes(*file_, documents);
    if (bytes > 0 && predicted == result.targets) result.text_bytes = bytes;
  }

  LoadedModel* model_;
  std::unique_ptr<TokenFile> file_;
  std::int64_t length_ = 0;
  std::int64_t stride_ = 0;
  std::vector<Window> windows_;
  std::vector<std::vector<Window>> rows_;
  std::unique_ptr<data::Sampler> sampler_;
};

/// What a user may not expect.
std::vector<std::string> remarks(const LoadedModel& model, std::int64_t context_length) {
  std::vector<std::string> notes = model.notes();
  if (model.tokenizer() == nullptr) {
    notes.push_back(fmt::format(
        "{} holds no tokenizer: whether the tokens were made for it was not checked but for their "
        "range",
        model.directory().string()));
  }
  const std::int64_t positions = model.config().max_position_embeddings;
  if (context_length > positions) {
    notes.push_back(
        fmt::format("windows of {} tokens are beyond the model's "
                    "max_position_embeddings, {}",
                    context_length, positions));
  }
  return notes;
}

}  // namespace

std::optional<double> Evaluation::bits_per_byte() const {
  if (!text_bytes) return std::nullopt;
  return nll / std::log(2.0) / *text_bytes;
}

Evaluation evaluate(const EvaluateOptions& options, comm::Communicator& world,
                    const std::function<void(const std::string& remark)>& note,
                    const std::function<void(std::size_t done, std::size_t rows)>& progress) {
  LoadedModel model(
      {options.model, options.tokenizer, options.precision, options.device, options.base}, world);
  std::unique_ptr<Work> work;
  comm::run_agreed(world, [&] { work = std::make_unique<Work>(options, model, world); });
  if (world.rank() == 0) {
    for (const std::string& remark : remarks(model, work->context_length())) note(remark);
  }
  RowSums total(work->buckets());
  const auto ranks = static_cast<std::size_t>(world.size());
  for (std::size_t first = 0; first < work->rows(); first += ranks) {
    const std::size_t mine = first + static_cast<std::size_t>(world.rank());
    RowSums sums;
    comm::run_agreed(world, [&] {
      if (mine < work->rows()) sums = work->run(mine);
    });
    for (const std::string& row : world.all_gather(to_bytes(sums))) add_bytes(total, row);
    if (world.rank() == 0) progress(std::min(first + ranks, work->rows()), work->rows());
  }
  Evaluation result;
  comm::run_agreed(world, [&] { result = work->finish(total); });
  result.model = model.directory().string();
  result.model_type = model.config().model_type;
  result.parameters = model.config().parameters();
  result.precision = base::name_of(model.decoder().dtype());
  result.files = options.files;
  return result;
}

}  // namespace longspan::train
