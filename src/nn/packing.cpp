#include "longspan/nn/packing.h"

#include <algorithm>
#include <cmath>
#include <iterator>
#include <utility>

#include "longspan/base/dtype.h"

namespace longspan::nn {

using backend::Index;
using backend::kNf4Block;
using backend::Tensor;
using base::DType;

namespace {

Index parts(Index elements, Index each) { return (elements + each - 1) / each; }

/// Bytes of what lies one behind the other. Scales have as much room again, so that pieces are
/// multiples of 8 bytes and other parameters behind them stay aligned in what a rank stores.
struct Sections {
  explicit Sections(Index elements)
      : scales(2 * parts(elements, Packing::kCut) * static_cast<Index>(sizeof(float))),
        sizes(parts(elements, kNf4Block)),
        codes(parts(elements, 2)) {}

  Index scales;
  Index sizes;
  Index codes;
};

Index aligned(Index bytes) {
  return parts(bytes, shard::Partition::kAlignment) * shard::Partition::kAlignment;
}

}  // namespace

PackedElements PackedElements::in(const Tensor& bytes, Index count) {
  const Sections of(count);
  const Index sizes_end = of.scales + of.sizes;
  return {bytes.rows(sizes_end, sizes_end + of.codes), bytes.rows(of.scales, sizes_end),
          bytes.rows(0, of.scales / 2).as(DType::kFloat32)};
}

Index Packing::bytes_of(Index elements) {
  const Sections of(elements);
  return of.scales + of.sizes + of.codes;
}

Packing::Packing(const std::vector<Item>& items, const shard::Partition& elements, DType dtype)
    : dtype_(dtype),
      packed_units_(static_cast<std::size_t>(elements.units())),
      means_(items.size()) {
  const auto size = static_cast<Index>(base::size_of(dtype));
  for (const Item& item : items) {
    Place place{item, 0};
    if (!places_.empty()) {
      const Place& last = places_.back();
      const Index end = byte(last, last.elements);
      const Index gap = item.offset - (last.offset + last.elements);
      // Elements that lie as they are keep their distances.
      place.byte = last.is_packed ? aligned(end) : end + gap * size;
      if (item.unit != last.unit) place.byte = aligned(place.byte);
    }
    places_.push_back(place);
    if (item.is_packed) packed_units_[static_cast<std::size_t>(item.unit)] = true;
  }
  end_ = byte(places_.back(), places_.back().elements);
  bytes_.emplace(elements.image([this](Index element) { return place(element); }));
}

Index Packing::byte(const Place& place, Index element) const {
  if (place.is_packed) return place.byte + bytes_of(element);
  return place.byte + element * static_cast<Index>(base::size_of(dtype_));
}

Index Packing::byte(int number, Index element) const {
  return byte(places_[static_cast<std::size_t>(number)], element);
}

/// Where an element of the axis is, or the gap that it is in.
Index Packing::place(Index element) const {
  const auto after = std::upper_bound(places_.begin(), places_.end(), element,
                                      [](Index at, const Place& one) { return at < one.offset; });
  const Place& at = *std::prev(after);
  const Index within = std::min(element - at.offset, at.elements);
  const Index gap = at.is_packed ? 0 : element - at.offset - within;
  const Index found = byte(at, within) + gap * static_cast<Index>(base::size_of(dtype_));
  return std::min(found, after == places_.end() ? end_ : after->byte);
}

void Packing::start() {
  unsettled_.clear();
  is_settled_ = false;
}

void Packing::settle(backend::Backend& backend, comm::Communicator* ranks) {
  std::vector<double> sums(means_.size());
  for (const Unsettled& one : unsettled_) {
    sums[static_cast<std::size_t>(one.number)] += backend.sum(one.sizes);
  }
  if (ranks != nullptr) ranks->all_reduce_sum(sums);
  for (std::size_t number = 0; number < sums.size(); ++number) {
    const auto blocks = static_cast<double>(parts(places_[number].elements, kNf4Block));
    means_[number] = static_cast<float>(sums[number] / blocks);
  }
  for (const Unsettled& one : unsettled_) {
    backend.nf4_quantize_sizes(one.elements.size_codes, one.elements.scales, one.sizes,
                               mean(one.number));
  }
  unsettled_.clear();
  is_settled_ = true;
}

}  // namespace longspan::nn
