// What a ParameterSet does whose matrices are kept as codes.
#include <algorithm>
#include <utility>

#include "longspan/base/error.h"
#include "longspan/nn/parameter.h"

namespace longspan::nn {

using backend::Index;
using backend::MemoryTag;
using backend::Tensor;
using shard::Range;

void ParameterSet::pack(int number) {
  Parameter& parameter = parameters_[static_cast<std::size_t>(number)];
  if (partition_ || parameter.shape.rank() != 2) {
    throw base::InternalError(parameter.name + " " + parameter.shape.to_string() +
                              " cannot be packed");
  }
  parameter.is_packed = true;
}

/// Places what is packed and the rest, once the axis of elements is divided.
void ParameterSet::place_packed(base::DType dtype) {
  const bool packs = std::any_of(parameters_.begin(), parameters_.end(),
                                 [](const Parameter& one) { return one.is_packed; });
  if (!packs) return;
  std::vector<Packing::Item> items;
  for (const Parameter& parameter : parameters_) {
    items.push_back(
        {parameter.offset, parameter.shape.elements(), parameter.unit, parameter.is_packed});
  }
  packing_.emplace(items, *partition_, dtype);
}

/// Of the weights as they are stored: of elements, or of bytes.
const shard::Partition& ParameterSet::stored_partition() const {
  return packing_ ? packing_->bytes() : *partition_;
}

Tensor ParameterSet::own_bytes(const OwnRange& range) const {
  const shard::Partition& bytes = packing_->bytes();
  const int unit = at(range.number).unit;
  const Index apart = splits_weights() ? bytes.stored(unit).begin - bytes.own(unit).begin : 0;
  return weights_.rows(packing_->byte(range.number, range.elements.begin) + apart,
                       packing_->byte(range.number, range.elements.end) + apart);
}

void ParameterSet::write_packed(const WriteWeights& write) {
  packing_->start();
  for (const OwnRange& range : own_ranges_) {
    if (at(range.number).is_packed) {
      write_codes(range, write);
    } else {
      write(range.number, range.elements.begin, own_bytes(range).as(packing_->dtype()));
    }
  }
}

/// Elements come in pieces, so that they are not all there at once.
void ParameterSet::write_codes(const OwnRange& range, const WriteWeights& write) {
  constexpr Index kPiece = 64 * Packing::kCut;
  const Index count = range.elements.size();
  const Index blocks = (count + backend::kNf4Block - 1) / backend::kNf4Block;
  const PackedElements elements = PackedElements::in(own_bytes(range), count);
  const Tensor sizes = backend_->allocate({blocks}, base::DType::kFloat32, MemoryTag::kWorkspace);
  for (Index begin = 0; begin < count; begin += kPiece) {
    const Index end = std::min(begin + kPiece, count);
    const Tensor piece =
        backend_->allocate({end - begin}, packing_->dtype(), MemoryTag::kWorkspace);
    write(range.number, range.elements.begin + begin, piece);
    const Index first = begin / backend::kNf4Block;
    const Index last = std::min(blocks, (begin + kPiece) / backend::kNf4Block);
    backend_->nf4_quantize(elements.codes.rows(begin / 2, (end + 1) / 2), sizes.rows(first, last),
                           piece);
  }
  packing_->add({range.number, elements, sizes});
}

void ParameterSet::settle_packed() {
  if (!packing_ || packing_->is_settled()) return;
  packing_->settle(*backend_, splits_weights() ? ranks_ : nullptr);
}

/// The whole weights of a unit of which all ranks' bytes are `stored`.
Tensor ParameterSet::read_unit(int number, const Tensor& stored) const {
  if (!packing_->is_settled()) {
    throw base::InternalError("weights are asked for whose codes are not whole: settle_packed");
  }
  if (!packing_->is_packed(number)) return stored.as(packing_->dtype());
  const Unit& unit = unit_at(number);
  const Tensor whole =
      backend_->allocate({partition_->unit(number).size()}, packing_->dtype(), MemoryTag::kWeights);
  for (int parameter = unit.first; parameter < unit.end; ++parameter) {
    const Index begin = at(parameter).offset - unit.begin;
    unpack(parameter, whole.rows(begin, begin + at(parameter).shape.elements()), stored);
  }
  return whole;
}

void ParameterSet::unpack(int number, const Tensor& out, const Tensor& of_unit) const {
  const Index unit_begin = packing_->bytes().unit(at(number).unit).begin;
  const auto bytes_of = [&](const Range& elements) {
    return of_unit.rows(packing_->byte(number, elements.begin) - unit_begin,
                        packing_->byte(number, elements.end) - unit_begin);
  };
  if (!at(number).is_packed) {
    backend_->copy(out, bytes_of({0, out.elements()}).as(packing_->dtype()));
    return;
  }
  for (int rank = 0; rank < partition_->ranks(); ++rank) {
    const Range part = piece(number, rank);
    if (part.size() == 0) continue;
    const PackedElements packed = PackedElements::in(bytes_of(part), part.size());
    backend_->nf4_dequantize(out.rows(part.begin, part.end), packed.codes, packed.size_codes,
                             packed.scales, packing_->mean(number));
  }
}

}  // namespace longspan::nn
