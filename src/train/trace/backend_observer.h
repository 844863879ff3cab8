#pragma once

#include "longspan/backend/backend.h"
#include "train/trace/recorder.h"

namespace longspan::train {

/// Makes spans of a recorder, while that records, of what a backend is given to do.
class BackendObserver : public backend::Observer {
 public:
  /// Of the rank's device, its places included.
  static BackendObserver of_device(Recorder& recorder) {
    return {recorder, Row::kCompute, Row::kCopies, true};
  }
  /// Of a backend of the processor beside a device: its operations are the host's.
  static BackendObserver of_host(Recorder& recorder) {
    return {recorder, Row::kHost, Row::kHost, false};
  }

  std::size_t begin(backend::DeviceQueue queue, const char* name, const backend::Tensor& shown,
                    std::size_t moved) override;
  void end(std::size_t operation) override;
  void enter(const char* name, backend::Index number) override;
  void leave() override;

 private:
  BackendObserver(Recorder& recorder, Row work, Row copies, bool has_places)
      : recorder_(&recorder), work_(work), copies_(copies), has_places_(has_places) {}

  Recorder* recorder_;
  Row work_;
  Row copies_;
  bool has_places_;
};

}  // namespace longspan::train
