#include "longspan/optim/mezo.h"

#include <algorithm>

namespace longspan::optim {

using backend::Index;
using backend::MemoryTag;
using backend::Tensor;

Mezo::Mezo(const AdamConfig& decay, const PerturbationConfig& config, nn::ParameterSet& parameters,
           backend::Backend& backend)
    : Optimizer(decay, parameters, backend, nullptr, /*keeps_master=*/true), config_(config) {}

base::RandomStream Mezo::stream(base::Purpose purpose, std::int64_t step, int number) const {
  return {config_.seed, purpose, static_cast<std::uint64_t>(step),
          static_cast<std::uint64_t>(number)};
}

Tensor Mezo::scratch(const backend::Shape& shape) const {
  return home().allocate(shape, wide_dtype(), MemoryTag::kWorkspace);
}

/// Room for the largest chunk of any own range.
Tensor Mezo::make_chunk() const {
  Index most = 0;
  for (const nn::OwnRange& range : parameters().own_ranges()) {
    most = std::max(most, range.elements.size());
  }
  return scratch({std::min(most, kChunk)});
}

void Mezo::write_direction(const Tensor& out, const nn::OwnRange& range, Index begin, Index /*end*/,
                           double factor) const {
  home().random_normal(out, stream(base::Purpose::kPerturbation, step_, range.number), factor,
                       static_cast<std::uint64_t>(range.elements.begin + begin));
}

double Mezo::correction(const nn::Parameter& /*parameter*/) const { return 1.0; }

void Mezo::move(double factor) {
  const Tensor chunk = make_chunk();
  for (const nn::OwnRange& range : parameters().own_ranges()) {
    const Piece piece = resident(range);
    for (Index begin = 0; begin < piece.end; begin += kChunk) {
      const Index end = std::min(begin + kChunk, piece.end);
      const Tensor moved = chunk.rows(0, end - begin);
      write_direction(moved, range, begin, end, factor);
      home().accumulate(moved, piece.master.rows(begin, end));
      home().copy(piece.weight.rows(begin, end), moved);
    }
  }
}

void Mezo::move_back() {
  for (const nn::OwnRange& range : parameters().own_ranges()) {
    const Piece piece = resident(range);
    home().copy(piece.weight, piece.master);
  }
}

void Mezo::update(const Piece& piece, const backend::AdamWOptions& options) {
  const double keep = 1.0 - double{options.learning_rate} * double{options.weight_decay};
  const double factor = -double{options.learning_rate} * double{options.gradient_scale} *
                        correction(parameters().at(piece.range->number));
  if (keep != 1.0) home().scale(piece.master, keep);
  const Tensor chunk = scratch({std::min(piece.end, kChunk)});
  for (Index begin = 0; begin < piece.end; begin += kChunk) {
    const Index end = std::min(begin + kChunk, piece.end);
    const Tensor change = chunk.rows(0, end - begin);
    write_direction(change, *piece.range, begin, end, factor);
    home().accumulate(piece.master.rows(begin, end), change);
  }
  home().copy(piece.weight, piece.master);
}

void Mezo::append_states(std::vector<StateTensor>& /*states*/) const {}

}  // namespace longspan::optim
