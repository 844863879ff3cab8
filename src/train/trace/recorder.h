#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "longspan/backend/backend.h"
#include "train/trace/timeline.h"

namespace longspan::train {

/// The rows of a rank: its queues, what the host does itself while a device works on its own, and
/// the places of a step, which lie within each other.
enum class Row : std::uint8_t { kCompute, kCommunication, kCopies, kHost, kPlaces };
inline constexpr std::array kRows = {Row::kCompute, Row::kCommunication, Row::kCopies, Row::kHost,
                                     Row::kPlaces};

/// What is told of an operation, besides when it was.
struct Details {
  const char* name = "";
  backend::Index number = -1;  ///< belongs to the name; negative: none
  bool has_tensor = false;
  base::DType dtype = base::DType::kFloat32;  ///< of the tensor, as its shape
  backend::Shape shape;
  std::uint64_t bytes = 0;  ///< moved; 0: not told
  std::string group;        ///< of ranks; empty: none
  int ranks = 0;

  /// An operation that writes `out`, which may be undefined.
  static Details of(const char* name, const backend::Tensor& out);
};

/// One operation, collective or place. Seconds since tracing began.
struct TraceEvent {
  Row row = Row::kCompute;
  double begin = 0;
  double end = 0;
  Details details;
};

/// What one rank does in the steps that are traced. Between `begin_step` and `end_step` each thing
/// is a span of a row: from the moment when its queue could begin with it, which is after all that
/// its queue and the compute queue were given before, to the moment when its queue had done it.
/// Otherwise nothing is kept, and `begin` must not be called.
class Recorder {
 public:
  using Span = std::size_t;

  /// By whose clock times are: the rank's device, which outlives the recording, or the host's where
  /// that is done when operations return, and before this.
  void follow(backend::Backend& device) {
    device_ = &device;
    streams_ = device.streams();
  }
  /// Where the host's own work goes: its row, or `row` where the device works with the host.
  Row row_of_host(Row row) const { return streams_ == nullptr ? row : Row::kHost; }

  bool is_recording() const { return is_recording_; }
  /// Both wait for the device. All times count from the first.
  void begin_step(std::int64_t step);
  void end_step();

  Span begin(Row row, Details details);
  /// Once; a span of a step that is over, or that was not ended there, is dropped.
  void end(Span span);
  /// A place within the one that was entered before.
  void enter(const char* name, backend::Index number);
  void leave();

  /// In the order in which they began, row by row.
  const std::vector<TraceEvent>& events() const { return events_; }

 private:
  struct OpenSpan {
    TraceEvent event;
    std::size_t begin = 0;             ///< marks of the row's queue
    std::optional<std::size_t> given;  ///< of the compute queue, where that is another one
    std::optional<std::size_t> end;
  };

  /// Places are those of the compute queue.
  Timeline& timeline(Row row) {
    return timelines_[row == Row::kPlaces ? 0 : static_cast<std::size_t>(row)];
  }
  void synchronize() const {
    if (device_ != nullptr) device_->synchronize();
  }
  void follow_queues();
  void keep(OpenSpan& span);

  backend::Backend* device_ = nullptr;
  const backend::DeviceStreams* streams_ = nullptr;
  bool is_recording_ = false;
  std::optional<Timeline::Clock::time_point> origin_;
  std::array<Timeline, 4> timelines_;
  std::vector<OpenSpan> spans_;  // of this step
  Span first_ = 0;               // of them
  std::vector<Span> places_;     // entered, outermost first
  std::vector<TraceEvent> events_;
};

}  // namespace longspan::train
