#include "longspan/data/sampler.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <limits>
#include <numeric>

#include "data/packing.h"
#include "longspan/base/error.h"
#include "longspan/base/random.h"

namespace longspan::data {

class Sampler::Impl {
 public:
  Impl(const TokenFile& file, std::vector<std::int64_t> documents, SamplerOptions options)
      : file_(file), documents_(std::move(documents)), options_(options) {
    std::sort(documents_.begin(), documents_.end());
    check();
    for (const std::int64_t document : documents_) tokens_ += length(document);
    if (options_.packing != Packing::kStreamed) {
      packed_ = options_.packing == Packing::kPacked
                    ? pack_documents(file_, documents_, options_)
                    : single_rows(file_, documents_, options_.row_tokens);
      row_count_ = static_cast<std::int64_t>(packed_.row_begin.size()) - 1;
    } else {
      stream_begin_.reserve(documents_.size() + 1);
      for (const std::int64_t document : documents_) {
        stream_begin_.push_back(stream_begin_.back() + length(document));
      }
      row_count_ = (stream_begin_.back() + options_.row_tokens - 1) / options_.row_tokens;
    }
  }

  std::int64_t row_count() const { return row_count_; }
  /// The first row of a step, in the endless sequence of epochs.
  std::int64_t first_row(std::int64_t step) {
    if (options_.packing != Packing::kSingle) return step * options_.rows_per_step;
    const std::int64_t place = step * options_.tokens_per_step;
    const std::int64_t epoch = place / tokens_;
    const std::vector<std::int64_t>& begins = order(epoch).begins;
    const auto first = std::lower_bound(begins.begin(), begins.end(), place % tokens_);
    return epoch * row_count_ + (first - begins.begin());
  }

  /// A row of the endless sequence of epochs.
  std::vector<Span> row(std::int64_t number) {
    const std::int64_t epoch = number / row_count_;
    const std::int64_t place = number % row_count_;
    if (!options_.shuffle) return make_row(place);
    return make_row(order(epoch).rows[static_cast<std::size_t>(place)]);
  }

  MicroBatch read(const std::vector<Span>& row) const {
    MicroBatch batch;
    std::int64_t count = 0;
    for (const Span& span : row) count += check_span(span);
    batch.tokens.resize(static_cast<std::size_t>(count));
    batch.labels.resize(batch.tokens.size());
    batch.positions.resize(batch.tokens.size());
    batch.cu_seqlens.push_back(0);
    std::int64_t at = 0;
    for (const Span& span : row) {
      const std::int64_t length = span.end - span.begin;
      file_.read(span.begin, span.end, batch.tokens.data() + at);
      std::copy_n(batch.tokens.data() + at + 1, length - 1, batch.labels.data() + at);
      batch.labels[static_cast<std::size_t>(at + length - 1)] = next_token(span);
      std::iota(batch.positions.begin() + at, batch.positions.begin() + at + length, 0);
      at += length;
      batch.cu_seqlens.push_back(static_cast<std::int32_t>(at));
    }
    if (options_.packing == Packing::kStreamed && count > 0) {
      std::iota(batch.positions.begin(), batch.positions.end(), 0);
      batch.cu_seqlens = {0, static_cast<std::int32_t>(count)};
    }
    batch.targets = count - std::count(batch.labels.begin(), batch.labels.end(), kIgnoredLabel);
    return batch;
  }

 private:
  std::int64_t length(std::int64_t document) const {
    return file_.document_begin(document + 1) - file_.document_begin(document);
  }

  void check() const {
    const bool has_step = options_.packing == Packing::kSingle
                              ? options_.tokens_per_step >= options_.row_tokens
                              : options_.rows_per_step >= 1;
    const bool sized = options_.row_tokens >= 1 && has_step &&
                       options_.row_tokens <= std::numeric_limits<std::int32_t>::max();
    if (!sized) {
      throw base::InternalError(
          fmt::format("a sampler of {} rows or {} tokens a step, {} tokens a row",
                      options_.rows_per_step, options_.tokens_per_step, options_.row_tokens));
    }
    const bool listed =
        std::adjacent_find(documents_.begin(), documents_.end()) == documents_.end() &&
        (documents_.empty() || (documents_.front() >= 0 && documents_.back() < file_.documents()));
    if (!listed) throw base::InternalError("a sampler's documents repeat or are not in the file");
    std::int64_t longest = 0;
    std::int64_t tokens = 0;
    for (const std::int64_t document : documents_) {
      longest = std::max(longest, length(document));
      tokens += length(document);
    }
    if ((options_.packing == Packing::kStreamed ? tokens : longest) < 2) {
      throw base::InputError(fmt::format(
          "nothing to train on in {}: {} documents chosen of {}, with {} tokens; at least two "
          "tokens in a row are needed",
          file_.path().string(), documents_.size(), file_.documents(), tokens));
    }
  }

  /// Its length; throws when it is not a range of its document.
  std::int64_t check_span(const Span& span) const {
    const bool legal = span.document >= 0 && span.document < file_.documents() &&
                       span.begin < span.end && span.begin >= file_.document_begin(span.document) &&
                       span.end <= file_.document_begin(span.document + 1);
    if (!legal) {
      throw base::InternalError(fmt::format("tokens {} to {} are not a span of document {}",
                                            span.begin, span.end, span.document));
    }
    return span.end - span.begin;
  }

  std::vector<Span> make_row(std::int64_t number) const {
    if (options_.packing == Packing::kStreamed) return make_streamed_row(number);
    const auto row = static_cast<std::size_t>(number);
    return {packed_.spans.begin() + packed_.row_begin[row],
            packed_.spans.begin() + packed_.row_begin[row + 1]};
  }

  std::vector<Span> make_streamed_row(std::int64_t number) const {
    const std::int64_t end = std::min((number + 1) * options_.row_tokens, stream_begin_.back());
    std::int64_t at = number * options_.row_tokens;
    const auto after = std::upper_bound(stream_begin_.begin(), stream_begin_.end(), at);
    auto index = static_cast<std::size_t>(after - stream_begin_.begin()) - 1;
    std::vector<Span> row;
    for (; at < end; ++index) {
      const std::int64_t stop = std::min(end, stream_begin_[index + 1]);
      if (stop == at) continue;  // a document without tokens
      const std::int64_t shift = file_.document_begin(documents_[index]) - stream_begin_[index];
      row.push_back({documents_[index], at + shift, stop + shift});
      at = stop;
    }
    return row;
  }

  /// The label of a span's last token.
  std::int32_t next_token(const Span& span) const {
    std::int64_t place = span.end;
    if (place == file_.document_begin(span.document + 1)) {
      if (options_.packing != Packing::kStreamed) return kIgnoredLabel;
      auto next = std::upper_bound(documents_.begin(), documents_.end(), span.document);
      while (next != documents_.end() && length(*next) == 0) ++next;
      if (next == documents_.end()) return kIgnoredLabel;
      place = file_.document_begin(*next);
    }
    TokenId token = 0;
    file_.read(place, place + 1, &token);
    return token;
  }

  struct Order {
    std::int64_t epoch = -1;
    std::vector<std::int64_t> rows;
    std::vector<std::int64_t> begins;  ///< of single rows, in the epoch's tokens
  };

  const Order& order(std::int64_t epoch) {
    Order& slot = orders_[static_cast<std::size_t>(epoch % 2)];
    if (slot.epoch != epoch) {
      if (epoch > std::numeric_limits<std::uint32_t>::max()) {
        throw base::InternalError(fmt::format("epoch {} is beyond the sampler's 2^32", epoch));
      }
      if (options_.shuffle) {
        slot.rows =
            shuffled(row_count_, options_.seed, static_cast<std::uint64_t>(epoch), Shuffle::kRows);
      } else {
        slot.rows.resize(static_cast<std::size_t>(row_count_));
        std::iota(slot.rows.begin(), slot.rows.end(), 0);
      }
      if (options_.packing == Packing::kSingle) slot.begins = begins_of(slot.rows);
      slot.epoch = epoch;
    }
    return slot;
  }

  std::vector<std::int64_t> begins_of(const std::vector<std::int64_t>& rows) const {
    std::vector<std::int64_t> begins;
    begins.reserve(rows.size());
    std::int64_t at = 0;
    for (const std::int64_t row : rows) {
      begins.push_back(at);
      const Span& span = packed_.spans[static_cast<std::size_t>(row)];
      at += span.end - span.begin;
    }
    return begins;
  }

  const TokenFile& file_;
  std::vector<std::int64_t> documents_;  ///< ascending
  SamplerOptions options_;
  std::int64_t row_count_ = 0;
  std::int64_t tokens_ = 0;  ///< of an epoch
  PackedRows packed_;
  std::vector<std::int64_t> stream_begin_ = {0};  ///< of each document in the stream, and the end
  std::array<Order, 2> orders_;                   ///< of the epochs at a step's two ends
};

Sampler::Sampler(const TokenFile& file, std::vector<std::int64_t> documents, SamplerOptions options)
    : impl_(std::make_unique<Impl>(file, std::move(documents), options)) {}

Sampler::~Sampler() = default;

std::int64_t Sampler::rows_per_epoch() const { return impl_->row_count(); }

std::vector<std::vector<Span>> Sampler::rows(std::int64_t step) {
  std::vector<std::vector<Span>> rows;
  const std::int64_t end = impl_->first_row(step + 1);
  for (std::int64_t row = impl_->first_row(step); row < end; ++row) {
    rows.push_back(impl_->row(row));
  }
  return rows;
}

std::vector<std::vector<Span>> Sampler::epoch_rows(std::int64_t epoch) {
  std::vector<std::vector<Span>> rows;
  const std::int64_t first = epoch * impl_->row_count();
  for (std::int64_t row = first; row < first + impl_->row_count(); ++row) {
    rows.push_back(impl_->row(row));
  }
  return rows;
}

MicroBatch Sampler::read(const std::vector<Span>& row) const { return impl_->read(row); }

Split split_documents(std::int64_t documents, double fraction, std::uint64_t seed) {
  if (!(fraction >= 0.0 && fraction <= 1.0)) {
    throw base::InputError(fmt::format("a validation fraction of {} is not in [0, 1]", fraction));
  }
  const base::RandomStream random(seed, base::Purpose::kValidationSplit, 0, 0);
  const auto draw = [&](std::int64_t document) {
    return random.bits(static_cast<std::uint64_t>(document));
  };
  Split split;
  for (std::int64_t document = 0; document < documents; ++document) {
    const bool held_out = random.uniform(static_cast<std::uint64_t>(document)) < fraction;
    (held_out ? split.validation : split.training).push_back(document);
  }
  if (fraction == 0.0 || fraction == 1.0 || documents == 0) return split;
  if (documents == 1) return {{0}, {}};
  const auto by_draw = [&](std::int64_t a, std::int64_t b) { return draw(a) < draw(b); };
  auto& full = split.validation.empty() ? split.training : split.validation;
  auto& empty = split.validation.empty() ? split.validation : split.training;
  if (!empty.empty()) return split;
  const auto moved = &empty == &split.validation
                         ? std::min_element(full.begin(), full.end(), by_draw)
                         : std::max_element(full.begin(), full.end(), by_draw);
  empty.push_back(*moved);
  full.erase(moved);
  return split;
}

}  // namespace longspan::data
