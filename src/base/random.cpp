#include "longspan/base/random.h"

namespace longspan::base {

RandomStream::RandomStream(std::uint64_t seed, Purpose purpose, std::uint64_t step,
                           std::uint64_t layer)
    : key_{}, step_(static_cast<std::uint32_t>(step)), layer_(static_cast<std::uint32_t>(layer)) {
  // The purpose is folded into the key by one Philox evaluation, so that seeds and purposes that
  // are numerically close still give unrelated keys.
  const PhiloxBlock mixed =
      philox4x32({{static_cast<std::uint32_t>(purpose), 0, 0, 0}},
                 {{static_cast<std::uint32_t>(seed), static_cast<std::uint32_t>(seed >> 32U)}});
  key_ = {{mixed.word[0], mixed.word[1]}};
}

std::uint64_t RandomStream::bits(std::uint64_t element) const { return bits_of(block(element), 0); }

double RandomStream::uniform(std::uint64_t element) const { return to_unit(bits(element)); }

double RandomStream::normal(std::uint64_t element) const { return to_normal(block(element)); }

}  // namespace longspan::base
