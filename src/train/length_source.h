#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace longspan::train {

/// Where batches of sequences get their lengths from: a list that is gone through in a random
/// order, epoch after epoch, or a distribution.
class LengthSource {
 public:
  /// A file of quantiles (.csv: a line "quantile,tokens", then numbers from 0 to 1 and the lengths
  /// at them, both rising), a token file (.tokens, .bin or .idx: its documents), or a text with one
  /// length a line. Throws InputError naming file and line where it is none of these.
  static LengthSource open(const std::string& path);
  static LengthSource of(std::vector<std::int64_t> lengths);

  bool is_distribution() const { return !quantiles_.empty(); }
  /// Sequences of the list; 0: a distribution has no end.
  std::int64_t size() const { return static_cast<std::int64_t>(list_.size()); }
  /// The number-th sequence, from 0 on, in the order of `seed`. Not thread-safe.
  std::int64_t length(std::uint64_t seed, std::uint64_t number);
  /// Whether any sequence could be of at most so many tokens.
  bool has_any(std::int64_t most_tokens) const;

 private:
  struct Quantile {
    double part;
    double tokens;
  };
  std::int64_t draw(std::uint64_t seed, std::uint64_t number) const;
  void shuffle(std::uint64_t seed, std::uint64_t epoch);

  std::vector<std::int64_t> list_;
  std::vector<Quantile> quantiles_;
  std::vector<std::int64_t> order_;  // of the list, in an epoch
  std::uint64_t shuffled_seed_ = 0;
  std::uint64_t shuffled_epoch_ = 0;

  friend class QuantileReader;
};

}  // namespace longspan::train
