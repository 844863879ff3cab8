#pragma once

#include <memory>

#include "longspan/comm/communicator.h"
#include "train/trace/recorder.h"

namespace longspan::train {

/// `world`, which must outlive it, and its groups: their collectives become spans of the recorder
/// while that records, but for those of one rank alone, where nothing travels.
std::unique_ptr<comm::Communicator> make_traced_communicator(comm::Communicator& world,
                                                             Recorder& recorder);

}  // namespace longspan::train
