#include "longspan/optim/blockllm.h"

#include <algorithm>

#include "longspan/backend/host_values.h"

namespace longspan::optim {

using backend::Index;
using backend::MemoryTag;
using backend::Tensor;

namespace {

constexpr Index kAlignment = nn::ParameterSet::kAlignment;

std::vector<Index> sizes_of(const nn::ParameterSet& parameters) {
  std::vector<Index> sizes;
  for (const nn::Parameter& parameter : parameters.parameters()) {
    sizes.push_back(parameter.shape.elements());
  }
  return sizes;
}

/// The first place from `end` on that is as far behind a whole vector as the range's weights are.
Index place_for(const nn::OwnRange& range, Index end) {
  const Index ahead = (range.stored - end) % kAlignment;
  return end + (ahead < 0 ? ahead + kAlignment : ahead);
}

/// Moves elements to a place before their own, which may overlap them: by way of the host, since
/// that is rare.
void move_back(backend::Backend& where, const Tensor& storage, Index to, Index from, Index count) {
  if (to == from) return;
  const Tensor source = storage.rows(from, from + count);
  std::vector<std::byte> bytes(source.bytes());
  where.copy_to_host(bytes.data(), source, bytes.size());
  where.copy_from_host(storage.rows(to, to + count), bytes.data(), bytes.size());
}

}  // namespace

BlockLlm::BlockLlm(const AdamConfig& config, const BlockConfig& blocks,
                   nn::ParameterSet& parameters, backend::Backend& backend, backend::Backend* host)
    : Optimizer(config, parameters, backend, host),
      choice_(blocks, sizes_of(parameters)),
      begins_(parameters.parameters().size(), kNowhere) {
  const auto count = static_cast<Index>(begins_.size());
  const auto make = [this](const backend::Shape& shape, base::DType dtype) {
    return home().allocate(shape, dtype, MemoryTag::kOptimizer);
  };
  of_parameters_ = make({count * BlockChoice::kEach}, base::DType::kFloat64);
  losses_ = make({BlockChoice::kSums}, base::DType::kFloat64);
  // Ranks that have as much have as much memory, however their parts are cut.
  const Index most = std::min(choice_.most(), parameters.partition().own_elements());
  moment1_ = make({most + count * kAlignment}, wide_dtype());
  moment2_ = make(moment1_.shape(), wide_dtype());
}

void BlockLlm::choose(const std::vector<double>& gradient_squares) {
  choice_.choose(gradient_squares, updates());
  place(/*keeps=*/true);
}

std::vector<StateTensor> BlockLlm::choice() const {
  std::vector<StateTensor> states;
  const auto append = [&](const char* name, const backend::Shape& shape, const Tensor& held,
                          const std::vector<double>& numbers) {
    home().copy_from_host(held, numbers.data(), held.bytes());
    StateTensor state;
    state.name = name;
    state.shape = shape;
    state.held = held;
    state.where = &home();
    state.is_split = false;
    states.push_back(std::move(state));
  };
  const auto count = static_cast<Index>(begins_.size());
  append("choice.parameters", {count, BlockChoice::kEach}, of_parameters_, choice_.of_parameters());
  append("choice.losses", losses_.shape(), losses_, choice_.sums());
  return states;
}

void BlockLlm::take_choice() {
  choice_.set(backend::host_values(home(), of_parameters_), backend::host_values(home(), losses_));
  place(/*keeps=*/false);
}

/// Gives what is chosen its moments: what had some has them still if `keeps`, else they are 0.
void BlockLlm::place(bool keeps) {
  std::vector<const nn::OwnRange*> stay;
  std::vector<const nn::OwnRange*> come;
  for (const nn::OwnRange& range : parameters().own_ranges()) {
    Index& begin = begins_[static_cast<std::size_t>(range.number)];
    if (!choice_.has(range.number) || !keeps) begin = kNowhere;
    if (choice_.has(range.number)) (begin == kNowhere ? come : stay).push_back(&range);
  }
  const auto begin_of = [this](const nn::OwnRange& range) -> Index& {
    return begins_[static_cast<std::size_t>(range.number)];
  };
  // In the order in which they lie, so that none is written over before it is read.
  std::sort(stay.begin(), stay.end(), [&](const nn::OwnRange* a, const nn::OwnRange* b) {
    return begin_of(*a) < begin_of(*b);
  });
  Index end = 0;
  for (const nn::OwnRange* range : stay) {
    const Index begin = place_for(*range, end);
    end = begin + range->elements.size();
    for (const Tensor& moments : {moment1_, moment2_}) {
      move_back(home(), moments, begin, begin_of(*range), range->elements.size());
    }
    begin_of(*range) = begin;
  }
  for (const nn::OwnRange* range : come) {
    const Index begin = place_for(*range, end);
    end = begin + range->elements.size();
    home().zero(moment1_.rows(begin, end));
    home().zero(moment2_.rows(begin, end));
    begin_of(*range) = begin;
  }
}

void BlockLlm::update(const Piece& piece, const backend::AdamWOptions& options) {
  const int number = piece.range->number;
  const Index first = begins_[static_cast<std::size_t>(number)];
  const auto of_piece = [&](const Tensor& moments) {
    return moments.rows(first + piece.begin, first + piece.end);
  };
  backend::AdamWOptions own = options;
  own.update = options.update - choice_.begun(number);
  home().adamw(piece.weight, piece.master, of_piece(moment1_), of_piece(moment2_), piece.gradient,
               own);
}

void BlockLlm::append_moments(std::vector<StateTensor>& states, const char* prefix,
                              const Tensor& moments) const {
  auto range = parameters().own_ranges().begin();
  const auto last = parameters().own_ranges().end();
  for (int number = 0; number < static_cast<int>(begins_.size()); ++number) {
    while (range != last && range->number < number) ++range;
    if (!choice_.has(number)) continue;
    const bool is_there = range != last && range->number == number;
    const Index begin = is_there ? begins_[static_cast<std::size_t>(number)] : 0;
    StateTensor state;
    state.name = prefix + parameters().at(number).name;
    state.parameter = number;
    state.shape = parameters().at(number).shape;
    state.held = moments.rows(begin, begin + (is_there ? range->elements.size() : 0));
    state.where = &home();
    states.push_back(std::move(state));
  }
}

void BlockLlm::append_states(std::vector<StateTensor>& states) const {
  states = choice();
  append_moments(states, "moment1.", moment1_);
  append_moments(states, "moment2.", moment2_);
}

}  // namespace longspan::optim
