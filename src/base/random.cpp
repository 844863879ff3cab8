#include "longspan/base/random.h"

#include <cmath>
#include <numbers>

namespace longspan::base {
namespace {

constexpr std::uint32_t kMultiplier0 = 0xD2511F53U;
constexpr std::uint32_t kMultiplier1 = 0xCD9E8D57U;
constexpr std::uint32_t kWeyl0 = 0x9E3779B9U;
constexpr std::uint32_t kWeyl1 = 0xBB67AE85U;

std::uint64_t join(std::uint32_t high, std::uint32_t low) {
  return (static_cast<std::uint64_t>(high) << 32U) | low;
}

double to_unit(std::uint64_t bits) { return static_cast<double>(bits >> 11U) * 0x1.0p-53; }

}  // namespace

std::array<std::uint32_t, 4> philox4x32(std::array<std::uint32_t, 4> counter,
                                        std::array<std::uint32_t, 2> key) {
  for (int round = 0; round < 10; ++round) {
    const std::uint64_t product0 = static_cast<std::uint64_t>(kMultiplier0) * counter[0];
    const std::uint64_t product1 = static_cast<std::uint64_t>(kMultiplier1) * counter[2];
    counter = {static_cast<std::uint32_t>(product1 >> 32U) ^ counter[1] ^ key[0],
               static_cast<std::uint32_t>(product1),
               static_cast<std::uint32_t>(product0 >> 32U) ^ counter[3] ^ key[1],
               static_cast<std::uint32_t>(product0)};
    key[0] += kWeyl0;
    key[1] += kWeyl1;
  }
  return counter;
}

RandomStream::RandomStream(std::uint64_t seed, Purpose purpose, std::uint64_t step,
                           std::uint64_t layer)
    : key_{}, step_(static_cast<std::uint32_t>(step)), layer_(static_cast<std::uint32_t>(layer)) {
  // The purpose is folded into the key by one Philox evaluation, so that seeds and purposes that
  // are numerically close still give unrelated keys.
  const auto mixed =
      philox4x32({static_cast<std::uint32_t>(purpose), 0, 0, 0},
                 {static_cast<std::uint32_t>(seed), static_cast<std::uint32_t>(seed >> 32U)});
  key_ = {mixed[0], mixed[1]};
}

std::array<std::uint32_t, 4> RandomStream::block(std::uint64_t element) const {
  return philox4x32({static_cast<std::uint32_t>(element),
                     static_cast<std::uint32_t>(element >> 32U), step_, layer_},
                    key_);
}

std::uint64_t RandomStream::bits(std::uint64_t element) const {
  const auto words = block(element);
  return join(words[1], words[0]);
}

double RandomStream::uniform(std::uint64_t element) const { return to_unit(bits(element)); }

double RandomStream::normal(std::uint64_t element) const {
  const auto words = block(element);
  const double radius_draw = 1.0 - to_unit(join(words[1], words[0]));  // (0, 1]: the log is finite
  const double angle_draw = to_unit(join(words[3], words[2]));
  return std::sqrt(-2.0 * std::log(radius_draw)) * std::cos(2.0 * std::numbers::pi * angle_draw);
}

}  // namespace longspan::base
