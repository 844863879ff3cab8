#include "train/states.h"

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <optional>
#include <string>
#include <utility>

#include "longspan/base/error.h"
#include "longspan/checkpoint/convert.h"

namespace longspan::train {

using backend::Index;
using backend::Tensor;

std::vector<StateTensor> weights_of(const nn::ParameterSet& parameters, backend::Backend& backend) {
  std::vector<StateTensor> weights;
  auto range = parameters.own_ranges().begin();
  for (int number = 0; number < static_cast<int>(parameters.parameters().size()); ++number) {
    const nn::Parameter& parameter = parameters.at(number);
    StateTensor state;
    state.name = parameter.name;
    state.parameter = number;
    state.shape = parameter.shape;
    state.where = &backend;
    state.is_split = parameters.splits_weights();
    const Index end = parameter.offset + parameter.shape.elements();
    const bool is_own = range != parameters.own_ranges().end() && range->number == number;
    if (!state.is_split) {
      state.held = parameters.weights().rows(parameter.offset, end);
    } else if (is_own) {
      state.held = parameters.own_weight(*range);
    } else {
      state.held = parameters.weights().rows(0, 0);
    }
    if (is_own) ++range;
    weights.push_back(std::move(state));
  }
  return weights;
}

void load_state(const StateTensor& state, const nn::ParameterSet& parameters,
                const ReadElements& read) {
  constexpr Index kPiece = Index{1} << 20;
  const Index first = state.part(parameters, parameters.partition().rank()).begin;
  std::vector<std::byte> piece;
  for (Index begin = 0; begin < state.held.elements(); begin += kPiece) {
    const Index end = std::min(begin + kPiece, state.held.elements());
    const Tensor part = state.held.rows(begin, end);
    piece.resize(part.bytes());
    read(first + begin, end - begin, piece.data());
    state.where->copy_from_host(part, piece.data(), piece.size());
  }
}

namespace {

/// Elements [first, first + count) as numbers of `dtype`; `stored` is room for them as they are.
void read_converted(const StoredNumbers& numbers, Index first, Index count, base::DType dtype,
                    void* out, std::vector<std::byte>& stored) {
  const std::size_t size = base::size_of(numbers.dtype);
  stored.resize(static_cast<std::size_t>(count) * size);
  numbers.read(static_cast<std::uint64_t>(first) * size, stored.size(), stored.data());
  checkpoint::convert(out, dtype, stored.data(), numbers.dtype, static_cast<std::size_t>(count));
}

}  // namespace

void load_converted(const std::vector<StateTensor>& states, const nn::ParameterSet& parameters,
                    const std::function<StoredNumbers(const nn::Parameter&)>& find) {
  std::vector<std::byte> stored;
  for (const StateTensor& state : states) {
    const StoredNumbers numbers = find(parameters.at(state.parameter));
    load_state(state, parameters, [&](Index first, Index count, void* out) {
      read_converted(numbers, first, count, state.held.dtype(), out, stored);
    });
  }
}

void load_packed(nn::ParameterSet& parameters, backend::Backend& backend,
                 const std::function<StoredNumbers(const nn::Parameter&)>& find) {
  std::vector<std::byte> stored;
  std::vector<std::byte> numbers;
  parameters.write_packed([&](int number, Index first, const Tensor& out) {
    numbers.resize(out.bytes());
    read_converted(find(parameters.at(number)), first, out.elements(), out.dtype(), numbers.data(),
                   stored);
    backend.copy_from_host(out, numbers.data(), numbers.size());
  });
}

/// What rank 0 tells the others, byte by byte.
struct StateReader::Request {
  std::int64_t state = kDone;
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

StateReader::StateReader(const nn::ParameterSet& parameters, const optim::Optimizer& optimizer,
                         backend::Backend& backend, comm::Communicator& world)
    : parameters_(&parameters), world_(&world), states_(weights_of(parameters, backend)) {
  for (StateTensor& state : optimizer.states()) states_.push_back(std::move(state));
}

void StateReader::read(std::size_t state, Index first, Index count, void* out) {
  const StateTensor& source = states_[state];
  const std::size_t bytes = static_cast<std::size_t>(count) * base::size_of(source.held.dtype());
  if (!source.is_split || parameters_->partition().ranks() == 1) {
    source.where->copy_to_host(out, source.held.rows(first, first + count), bytes);
    return;
  }
  // Made before the others are asked: memory that is not there must not leave them waiting.
  const Tensor received =
      source.where->allocate({count}, source.held.dtype(), backend::MemoryTag::kCommunication);
  const Request request{static_cast<std::int64_t>(state), first, count};
  std::string message = request.to_bytes();
  world_->broadcast(message, 0);
  exchange(request, received);
  source.where->copy_to_host(out, received, bytes);
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
    exchange(request, states_[static_cast<std::size_t>(request.state)].held.rows(0, 0));
  }
}

/// Every rank sends what it holds of the range to rank 0; pieces lie in rank order.
void StateReader::exchange(const Request& request, const Tensor& received) {
  const StateTensor& state = states_[static_cast<std::size_t>(request.state)];
  const auto part_of = [&](int rank) -> shard::Range {
    const shard::Range part = state.part(*parameters_, rank);
    const Index from = std::clamp(request.first, part.begin, part.end);
    return {from, std::clamp(request.first + request.count, from, part.end)};
  };
  const shard::Range mine = part_of(world_->rank());
  comm::Offsets send{0};
  comm::Offsets receive{0};
  for (int rank = 0; rank < world_->size(); ++rank) {
    send.push_back(mine.size());
    receive.push_back(receive.back() + (world_->rank() == 0 ? part_of(rank).size() : 0));
  }
  const Index held = state.part(*parameters_, world_->rank()).begin;
  world_->all_to_all(received, receive, state.held.rows(mine.begin - held, mine.end - held), send,
                     *state.where);
}

}  // namespace longspan::train
