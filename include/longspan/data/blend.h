#pragma once

#include <cstdint>
#include <vector>

#include "longspan/data/sampler.h"
#include "longspan/data/token_file.h"

namespace longspan::data {

/// Which of several sources each row of an endless sequence comes from, in proportion to weights:
/// of kPeriod rows each source has its share, rounded by largest remainders, and every period has
/// the same order, in which row i goes to the source that is furthest behind share * (i + 1). So
/// row i's source, and which of that source's rows it is, are found at once.
class BlendOrder {
 public:
  static constexpr std::int64_t kPeriod = 65536;

  /// Throws InputError for a weight that gets no row of a period; weights are positive and finite.
  explicit BlendOrder(const std::vector<double>& weights);

  std::size_t source(std::int64_t row) const;
  /// How many of the rows before `row` are the source's.
  std::int64_t rows_before(std::size_t source, std::int64_t row) const;
  /// Of each source in a period.
  const std::vector<std::int64_t>& shares() const { return shares_; }

 private:
  std::vector<std::int64_t> shares_;
  std::vector<std::uint32_t> sources_;              ///< of the rows of a period
  std::vector<std::vector<std::uint32_t>> places_;  ///< of each source's rows in a period
};

/// Rows of one or several sources, which are documents of the same file: of one, a Sampler's; of
/// several, each drawn in proportion to its weight from a Sampler of its own. A pure function of
/// options and step, as Sampler is. Not thread-safe, but for `read`.
class Blend {
 public:
  /// `documents[i]` are source i's, as Sampler wants them; those of the next source are behind
  /// them. `weights` has one for each source, but may be empty for a single one. The file must
  /// outlive this. Throws InputError as Sampler and BlendOrder.
  Blend(const TokenFile& file, const std::vector<std::vector<std::int64_t>>& documents,
        const std::vector<double>& weights, SamplerOptions options);
  ~Blend();

  /// The rows of a step, `rows_per_step` of them; `step` counts from 0.
  std::vector<std::vector<Span>> rows(std::int64_t step);
  /// As Sampler::read.
  MicroBatch read(const std::vector<Span>& row) const;

  std::size_t sources() const { return samplers_.size(); }
  /// Part of all rows that is the source's.
  double share(std::size_t source) const;
  /// How often the source's documents are gone through in so many steps.
  double epochs(std::size_t source, std::int64_t steps) const;
  /// In a period, of each source; what the order of rows depends on.
  const std::vector<std::int64_t>& shares() const { return order_.shares(); }

 private:
  std::int64_t rows_per_step_;
  BlendOrder order_;
  std::vector<std::unique_ptr<Sampler>> samplers_;  ///< each of one row a step
  std::vector<std::int64_t> first_document_;        ///< of each source
};

}  // namespace longspan::data
