#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "train/adapter_files.h"

namespace longspan::train {

/// An adapter as what it adds to the weights of its base: scale * B A. Holds all A and B.
class Merge {
 public:
  /// Throws InputError when the files are not of this adapter.
  explicit Merge(const AdaptedModel& adapted);

  /// Whether the base's tensor of this name is another one with the adapter.
  bool changes(const std::string& weight) const { return changes_.contains(weight); }
  /// Adds what belongs to elements [first, first + count) of the tensor.
  void add_to(double* numbers, const std::string& weight, std::uint64_t first,
              std::uint64_t count) const;

 private:
  /// left right, of a tensor [rows, columns] as it is stored.
  struct Change {
    std::int64_t rank = 0;
    std::int64_t columns = 0;
    std::vector<double> left;   // [rows, rank], scaled
    std::vector<double> right;  // [rank, columns]
  };
  std::map<std::string, Change> changes_;
};

}  // namespace longspan::train
