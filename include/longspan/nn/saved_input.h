#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "longspan/backend/backend.h"

namespace longspan::nn {

/// How a tensor waits for its backward: as it is or in 8-bit codes (see Backend::quantize), on the
/// device or on the host.
struct SavePolicy {
  enum class Codes : std::uint8_t {
    kNone,    ///< the tensor itself, exact
    kBlocks,  ///< codes of up to kCodeBlock neighbours share a range
    kRows,    ///< all of a row do
  };
  /// At most so many, and the most that divide the width that a slot has by its nature (of
  /// attention's a head's, so that the codes do not depend on which ranks hold which heads); all of
  /// that width where these would be very few.
  static constexpr backend::Index kCodeBlock = 128;

  Codes codes = Codes::kNone;
  bool on_host = false;

  bool operator==(const SavePolicy&) const = default;
};

/// A tensor between its forward and its backward. Copies to and from the host go beside the
/// device's work: `come` starts the way back, `leave` and `take` make the device wait for a copy.
class SavedInput {
 public:
  /// x dense, [rows, ...]. `unit` divides the elements of a row: codes' blocks do not cross a
  /// multiple of it. `host`, a backend of the processor that outlives this; null: nothing leaves
  /// the device.
  SavedInput(backend::Tensor x, const SavePolicy& policy, backend::Index unit,
             backend::Backend& device, backend::Backend* host);
  /// A copy that an exception left under way does not outlive its memory.
  ~SavedInput();
  SavedInput(SavedInput&&) noexcept;
  SavedInput& operator=(SavedInput&&) = delete;

  bool is_on_host() const { return host_ != nullptr; }
  /// Drops what the device has of it, once that is on the host. Called again: does nothing.
  void leave();
  /// Starts the way back. Called again, or with nothing on the host: does nothing.
  void come();
  /// The tensor, as its policy left it. Called once.
  backend::Tensor take();

 private:
  struct Part;
  void encode(const backend::Tensor& x, backend::Index block);
  void send();

  backend::Backend* device_;
  backend::Backend* host_;  // null: on the device
  bool is_coded_ = false;
  base::DType dtype_;
  backend::Shape shape_;
  std::vector<Part> parts_;  // the tensor, or codes and ranges
};

}  // namespace longspan::nn
