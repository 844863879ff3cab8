#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "longspan/backend/backend.h"
#include "longspan/shard/cover.h"

namespace longspan::nn {

/// How a tensor waits for its backward: as it is or in 8-bit codes (see Backend::quantize), on the
/// device or on the host.
struct SavePolicy {
  enum class Codes : std::uint8_t {
    kNone,    ///< the tensor itself, exact
    kBlocks,  ///< codes of up to kCodeBlock neighbours share a range
    kRows,    ///< all of a row do
  };
  /// Which of the two steps around a number its code takes.
  enum class Rounding : std::uint8_t {
    kNearest,     ///< the nearer
    kStochastic,  ///< either, so that it is the number in the mean
  };
  /// At most so many, and the most that divide the width that a slot has by its nature (of
  /// attention's a head's, so that the codes do not depend on which ranks hold which heads); all of
  /// that width where these would be very few.
  static constexpr backend::Index kCodeBlock = 128;

  Codes codes = Codes::kNone;
  bool on_host = false;
  Rounding rounding = Rounding::kNearest;  ///< where there are codes
  /// It does not wait at all: its layer makes it again. The others then say nothing.
  bool recompute = false;

  bool operator==(const SavePolicy&) const = default;
};
inline constexpr SavePolicy kRecompute{.recompute = true};

/// How the rows of a tensor wait: the first part of them by one policy, the next by another, and so
/// on (Zhao et al. 2024, "MEMO": a fraction of the tokens on the host, the rest made again).
class SaveParts {
 public:
  /// Fractions are whole numbers of millionths, so that all ranks and the plan cut alike.
  static constexpr std::int64_t kWhole = 1'000'000;
  struct Part {
    SavePolicy policy;
    std::int64_t end = kWhole;  ///< of the rows, in millionths

    bool operator==(const Part&) const = default;
  };

  SaveParts() : SaveParts(SavePolicy{}) {}
  /// All rows alike.
  SaveParts(const SavePolicy& policy)  // NOLINT(google-explicit-constructor): it is one, of parts
      : parts_{{policy, kWhole}} {}
  /// Parts without rows are dropped and neighbours that are alike joined: what is the same is
  /// equal. Throws InternalError unless the ends rise to kWhole.
  explicit SaveParts(const std::vector<Part>& parts);

  const std::vector<Part>& parts() const { return parts_; }
  /// The row at which a part ends, of so many.
  static backend::Index cut(backend::Index rows, std::int64_t end);

  bool is_full() const { return *this == SaveParts(); }
  bool has_host() const;
  bool has_codes() const;
  bool rounds_at_random() const;
  bool recomputes() const;

  bool operator==(const SaveParts&) const = default;

 private:
  bool any(bool (*is)(const SavePolicy&)) const;

  std::vector<Part> parts_;
};

/// Which of a block's slots one is: each draws for itself when it is rounded at random. The same
/// numbers waiting in two layouts are one. Values are part of what a seed means: never renumber.
enum class SlotKind : std::uint8_t {
  kBlockInput = 0,
  kBlockMiddle = 1,
  kAttentionQkv = 2,
  kAttentionOutput = 3,
  kAttentionHeads = 4,      ///< what norms of heads went over
  kAttentionProjected = 5,  ///< what a norm of the projected output went over
  kMlpUp = 6,
  kMlpProjected = 7,
};

/// What a row of a slot is: its codes are the same however ranks share the tokens and the heads.
struct SlotRow {
  /// Columns [begin, end) of the slot, which are those from `first` on of the whole row.
  struct Columns {
    backend::Index begin = 0;
    backend::Index end = 0;
    backend::Index first = 0;
  };

  SlotKind kind = SlotKind::kBlockInput;
  /// Divides the elements of a row, and all of `columns`: codes' blocks do not cross a multiple.
  backend::Index unit = 1;
  /// Where ranks have exchanged tokens for heads: which of the heads this one has, of all tokens
  /// that they have between them. Empty: rows are this rank's tokens, and whole.
  std::vector<Columns> columns = {};
  backend::Index whole = 0;  ///< elements of a row with all heads; read where there are columns
};

/// A tensor between its forward and its backward. Copies to and from the host go beside the
/// device's work: `come` starts the way back, `leave` and `take` make the device wait for a copy.
class SavedInput {
 public:
  /// x dense, [rows, ...]. `rounding`: what codes draw from that are rounded at random, for the
  /// whole row; absent: they are rounded to nearest. `host`, a backend of the processor that
  /// outlives this; null: nothing leaves the device.
  SavedInput(backend::Tensor x, const SavePolicy& policy, const SlotRow& row,
             const std::optional<backend::CodeRounding>& rounding, backend::Backend& device,
             backend::Backend* host);
  /// A copy that an exception left under way does not outlive its memory.
  ~SavedInput();
  SavedInput(SavedInput&&) noexcept;
  SavedInput& operator=(SavedInput&&) = delete;

  bool is_on_host() const { return host_ != nullptr; }
  /// Drops what the device has of it, once that is on the host. Called again: does nothing.
  void leave();
  /// Starts the way back. Called again, or with nothing on the host: does nothing.
  void come();
  /// The tensor, as its policy left it; or that into `out`, of its shape and dtype. One of both,
  /// once.
  backend::Tensor take();
  void take(const backend::Tensor& out);

 private:
  struct Part;
  void wait();
  void encode(const backend::Tensor& x, backend::Index block, const SlotRow& row,
              const std::optional<backend::CodeRounding>& rounding);
  void send();

  backend::Backend* device_;
  backend::Backend* host_;  // null: on the device
  bool is_coded_ = false;
  base::DType dtype_;
  backend::Shape shape_;
  std::vector<Part> parts_;  // the tensor, or codes and ranges
};

/// The same of a tensor whose rows wait in parts. What waits as it is while other rows do not is a
/// copy, so that the rest is free at once.
class SavedRows {
 public:
  /// `rounding`: for all rows, of those parts that are rounded at random.
  SavedRows(const backend::Tensor& x, const SaveParts& parts, const SlotRow& row,
            const std::optional<backend::CodeRounding>& rounding, backend::Backend& device,
            backend::Backend* host);

  /// See SavedInput.
  void leave();
  void come();
  /// All rows, of which those that are made again hold anything. Called once.
  backend::Tensor take();
  const std::vector<shard::Range>& missing() const { return missing_; }

 private:
  struct Waiting {
    shard::Range rows;
    SavedInput input;
  };

  backend::Backend* device_;
  base::DType dtype_;
  backend::Shape shape_;
  std::vector<Waiting> waiting_;
  std::vector<shard::Range> missing_;
};

}  // namespace longspan::nn
