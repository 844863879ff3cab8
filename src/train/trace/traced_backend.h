#pragma once

#include <memory>

#include "longspan/backend/backend.h"
#include "train/trace/recorder.h"

namespace longspan::train {

/// `device`, whose operations, copies and places become spans of the recorder while that records.
/// The recorder takes the time as the device works.
std::unique_ptr<backend::Backend> make_traced_device(std::unique_ptr<backend::Backend> device,
                                                     Recorder& recorder);

/// A backend of the processor beside a device: its operations are the host's.
std::unique_ptr<backend::Backend> make_traced_host(std::unique_ptr<backend::Backend> host,
                                                   Recorder& recorder);

}  // namespace longspan::train
