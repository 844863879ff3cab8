#pragma once

#include <optional>
#include <utility>
#include <vector>

#include "longspan/backend/backend.h"
#include "longspan/comm/communicator.h"
#include "longspan/shard/partition.h"

namespace longspan::nn {

/// Elements of a matrix, packed: views of what nf4_dequantize reads.
struct PackedElements {
  backend::Tensor codes;       ///< uint8, two elements each
  backend::Tensor size_codes;  ///< uint8, for each kNf4Block elements
  backend::Tensor scales;      ///< float32, for each kNf4Scales of these

  /// Of `count` elements, which begin at a multiple of Packing::kCut and are as many or end the
  /// matrix; `bytes` uint8, as many as Packing::bytes_of says.
  static PackedElements in(const backend::Tensor& bytes, backend::Index count);
};

/// Where the weights of a set with packed matrices lie: on an axis of bytes, in the order of the
/// elements' axis and divided among ranks where that is. A matrix that is packed has, of each
/// rank's piece, the scales, then the sizes' codes, then the codes; others lie as elements do.
class Packing {
 public:
  /// What is cut lies in scales of its own.
  static constexpr backend::Index kCut = backend::kNf4Block * backend::kNf4Scales;
  /// Bytes of packed elements; of a multiple of kCut that of its parts.
  static backend::Index bytes_of(backend::Index elements);

  /// A parameter on the elements' axis, in order.
  struct Item {
    backend::Index offset = 0;
    backend::Index elements = 0;
    int unit = 0;
    bool is_packed = false;
  };
  /// `elements`: of the weights, which are `dtype` where they are not packed; packed matrices are
  /// cut at multiples of kCut of their elements alone.
  Packing(const std::vector<Item>& items, const shard::Partition& elements, base::DType dtype);

  base::DType dtype() const { return dtype_; }
  const shard::Partition& bytes() const { return *bytes_; }
  /// Whether something in the unit is packed.
  bool is_packed(int unit) const { return packed_units_[static_cast<std::size_t>(unit)]; }
  /// The byte at which an element of a parameter begins, or behind its last one.
  backend::Index byte(int number, backend::Index element) const;

  /// Of a matrix that is packed: the mean of its sizes.
  float mean(int number) const { return means_[static_cast<std::size_t>(number)]; }

  /// Sizes of a rank's piece of a matrix that wait for the mean of all.
  struct Unsettled {
    int number = 0;
    PackedElements elements;
    backend::Tensor sizes;
  };
  /// What is there is to be written, anew if it was before: nothing waits.
  void start();
  void add(Unsettled unsettled) { unsettled_.push_back(std::move(unsettled)); }
  /// Codes what waits, with the mean of each matrix over all of `ranks`, which all call it and have
  /// a piece each, maybe empty; null: this rank has all.
  void settle(backend::Backend& backend, comm::Communicator* ranks);
  bool is_settled() const { return is_settled_; }

 private:
  struct Place : Item {
    backend::Index byte = 0;
  };
  backend::Index byte(const Place& place, backend::Index element) const;
  backend::Index place(backend::Index element) const;

  base::DType dtype_;
  std::vector<Place> places_;
  backend::Index end_ = 0;
  std::optional<shard::Partition> bytes_;
  std::vector<bool> packed_units_;
  std::vector<float> means_;
  std::vector<Unsettled> unsettled_;
  bool is_settled_ = false;
};

}  // namespace longspan::nn
