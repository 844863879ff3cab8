#pragma once

#include <cstdint>

#include "longspan/base/philox.h"

namespace longspan::base {

/// What a random number is for. Values are part of the file-independent contract: never renumber.
enum class Purpose : std::uint32_t {
  kInitialWeight = 1,
  kDocumentOrder = 2,
  kValidationSplit = 3,
  kSampling = 4,
  kTest = 5,
  kMomentRounding = 6,
  kSubspaceStart = 7,
  kDropout = 8,
  kCodeRounding = 9,
  kPerturbation = 10,
  kPerturbationBasis = 11,
  kRowSampling = 12,
  kSprites = 13,
  kDiffusionTime = 14,
  kDiffusionNoise = 15,
};

/// A stream of random numbers addressed by element: the value at an element depends on
/// (seed, purpose, step, layer, element) alone, never on ranks, threads or order of evaluation.
/// `layer` numbers the parameter or layer within its purpose. `step` < 2^32, `layer` < 2^32.
class RandomStream {
 public:
  RandomStream(std::uint64_t seed, Purpose purpose, std::uint64_t step, std::uint64_t layer);

  /// 64 random bits of `element`.
  std::uint64_t bits(std::uint64_t element) const;
  /// Uniform in [0, 1), 53 bits.
  double uniform(std::uint64_t element) const;
  /// Standard normal (Box-Muller on the element's own 128 bits).
  double normal(std::uint64_t element) const;

  /// The element's own 128 bits, on every device: `normal` is to_normal of them.
  LONGSPAN_HOST_DEVICE PhiloxBlock block(std::uint64_t element) const {
    return philox4x32({{static_cast<std::uint32_t>(element),
                        static_cast<std::uint32_t>(element >> 32U), step_, layer_}},
                      key_);
  }

 private:
  PhiloxKey key_;
  std::uint32_t step_;
  std::uint32_t layer_;
};

}  // namespace longspan::base
