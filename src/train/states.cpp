#include "train/states.h"

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <optional>
#include <string>
#include <utility>

#include "longspan/base/error.h"

namespace longspan::train {

using backend::Index;
using backend::Tensor;

State weights_of(const nn::ParameterSet& parameters, backend::Backend& backend) {
  return {"", parameters.weights(), parameters.splits_weights(), &backend};
}

std::vector<State> states_of(const optim::AdamW& optimizer) {
  backend::Backend& home = optimizer.home();
  std::vector<State> states = {{"moment1.", optimizer.moment1(), true, &home},
                               {"moment2.", optimizer.moment2(), true, &home}};
  if (optimizer.saves_master()) states.push_back(master_of(optimizer));
  return states;
}

State master_of(const optim::AdamW& optimizer) {
  return {"master.", optimizer.master(), true, &optimizer.home()};
}

void load_state(const State& state, const nn::ParameterSet& parameters, const ReadNumbers& read) {
  constexpr Index kPiece = Index{1} << 20;
  const std::size_t size = base::size_of(state.storage.dtype());
  std::vector<std::byte> piece;
  const auto load = [&](const nn::Parameter& parameter, Index first, const Tensor& part) {
    for (Index begin = 0; begin < part.elements(); begin += kPiece) {
      const Index count = std::min(kPiece, part.elements() - begin);
      piece.resize(static_cast<std::size_t>(count) * size);
      read(parameter, first + begin, count, piece.data());
      state.backend->copy_from_host(part.rows(begin, begin + count), piece.data(), piece.size());
    }
  };
  if (state.is_split) {
    for (const nn::OwnRange& range : parameters.own_ranges()) {
      load(parameters.at(range.number), range.elements.begin,
           state.storage.rows(range.stored, range.stored + range.elements.size()));
    }
    return;
  }
  for (const nn::Parameter& parameter : parameters.parameters()) {
    load(parameter, 0,
         state.storage.rows(parameter.offset, parameter.offset + parameter.shape.elements()));
  }
}

/// What rank 0 tells the others, byte by byte.
struct StateReader::Request {
  std::int64_t state = kDone;
  std::int64_t number = 0;
  std::int64_t first = 0;
  std::int64_t count = 0;

  static constexpr std::int64_t kDone = -1;

  std::string to_bytes() const { return {reinterpret_cast<const char*>(this), sizeof(*this)}; }
  static Request from_bytes(const std::string& bytes) {
    Request request;
    std::memcpy(&request, bytes.data(), sizeof(request));
    return request;
  }
};

StateReader::StateReader(const nn::ParameterSet& parameters, const optim::AdamW& optimizer,
                         backend::Backend& backend, comm::Communicator& world)
    : parameters_(&parameters), world_(&world), states_{weights_of(parameters, backend)} {
  for (State& state : states_of(optimizer)) states_.push_back(std::move(state));
}

void StateReader::read(std::size_t state, int number, Index first, Index count, void* out) {
  const State& source = states_[state];
  const std::size_t bytes = static_cast<std::size_t>(count) * base::size_of(source.storage.dtype());
  if (!source.is_split || parameters_->partition().ranks() == 1) {
    const Index begin = parameters_->at(number).offset + first;
    source.backend->copy_to_host(out, source.storage.rows(begin, begin + count), bytes);
    return;
  }
  // Made before the others are asked: memory that is not there must not leave them waiting.
  const Tensor received =
      source.backend->allocate({count}, source.storage.dtype(), backend::MemoryTag::kCommunication);
  const Request request{static_cast<std::int64_t>(state), number, first, count};
  std::string message = request.to_bytes();
  world_->broadcast(message, 0);
  exchange(request, received);
  source.backend->copy_to_host(out, received, bytes);
}

void StateReader::run(const std::function<void()>& action) {
  std::optional<base::Error> failure;
  if (world_->rank() == 0) {
    try {
      action();
    } catch (const base::Error& error) {
      if (error.code() == base::ExitCode::kPeerFailed) throw;  // there is nobody left to tell
      failure = error;
    }
    finish();
  } else {
    serve();
  }
  comm::run_agreed(*world_, [&] {
    if (failure) throw base::Error(*failure);
  });
}

void StateReader::finish() {
  std::string message = Request().to_bytes();
  world_->broadcast(message, 0);
}

void StateReader::serve() {
  while (true) {
    std::string message;
    world_->broadcast(message, 0);
    const Request request = Request::from_bytes(message);
    if (request.state == Request::kDone) return;
    exchange(request, states_[static_cast<std::size_t>(request.state)].storage.rows(0, 0));
  }
}

/// Every rank sends what it holds of the range to rank 0; pieces lie in rank order.
void StateReader::exchange(const Request& request, const Tensor& received) {
  const State& state = states_[static_cast<std::size_t>(request.state)];
  const shard::Partition& partition = parameters_->partition();
  const nn::Parameter& parameter = parameters_->at(static_cast<int>(request.number));
  const Index begin = parameter.offset + request.first;
  const auto part_of = [&](int rank) -> shard::Range {
    const shard::Range piece = partition.piece(parameter.unit, rank);
    const Index from = std::clamp(begin, piece.begin, piece.end);
    return {from, std::clamp(begin + request.count, from, piece.end)};
  };
  const shard::Range mine = part_of(world_->rank());
  comm::Offsets send{0};
  comm::Offsets receive{0};
  for (int rank = 0; rank < world_->size(); ++rank) {
    send.push_back(mine.size());
    receive.push_back(receive.back() + (world_->rank() == 0 ? part_of(rank).size() : 0));
  }
  const Index stored =
      partition.stored(parameter.unit).begin - partition.own(parameter.unit).begin + mine.begin;
  world_->all_to_all(received, receive, state.storage.rows(stored, stored + mine.size()), send,
                     *state.backend);
}

}  // namespace longspan::train
