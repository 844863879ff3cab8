#include "data/sentencepiece_model.h"

#include <array>
#include <cstdint>

#include "longspan/base/error.h"

namespace longspan::data {
namespace {

// Field numbers of sentencepiece's messages.
constexpr std::uint64_t kTrainerSpec = 2;
constexpr std::uint64_t kNormalizerSpec = 3;
constexpr std::uint64_t kModelType = 3;
constexpr std::uint64_t kWhitespaceSuffix = 24;
constexpr std::uint64_t kCharsmap = 2;
constexpr std::uint64_t kAddDummyPrefix = 3;
constexpr std::uint64_t kRemoveExtraWhitespaces = 4;
constexpr std::uint64_t kEscapeWhitespaces = 5;

/// The fields of a protocol-buffer message, one after another.
class FieldReader {
 public:
  explicit FieldReader(std::string_view message) : rest_(message) {}

  bool next() {
    if (rest_.empty()) return false;
    const std::uint64_t key = varint();
    number_ = key >> 3U;
    switch (key & 7U) {
      case 0:
        value_ = varint();
        return true;
      case 1:
        take(8);
        return true;
      case 2:
        bytes_ = take(varint());
        return true;
      case 5:
        take(4);
        return true;
      default:
        throw base::InputError("not a sentencepiece model, or damaged");
    }
  }
  std::uint64_t number() const { return number_; }
  bool flag() const { return value_ != 0; }
  std::uint64_t value() const { return value_; }
  std::string_view bytes() const { return bytes_; }

 private:
  std::uint64_t varint() {
    std::uint64_t result = 0;
    for (unsigned shift = 0; shift < 64; shift += 7) {
      const auto byte = static_cast<unsigned char>(take(1)[0]);
      result |= std::uint64_t{byte & 0x7fU} << shift;
      if ((byte & 0x80U) == 0) return result;
    }
    throw base::InputError("not a sentencepiece model, or damaged");
  }
  std::string_view take(std::uint64_t count) {
    if (count > rest_.size()) throw base::InputError("not a sentencepiece model, or cut off");
    const std::string_view taken = rest_.substr(0, count);
    rest_.remove_prefix(count);
    return taken;
  }

  std::string_view rest_;
  std::uint64_t number_ = 0;
  std::uint64_t value_ = 0;
  std::string_view bytes_;
};

void read_trainer_spec(std::string_view message, SentencePieceSettings& settings) {
  for (FieldReader field(message); field.next();) {
    if (field.number() == kModelType) {
      settings.algorithm = static_cast<SentencePieceSettings::Algorithm>(field.value());
    } else if (field.number() == kWhitespaceSuffix) {
      settings.whitespace_suffix = field.flag();
    }
  }
}

void read_normalizer_spec(std::string_view message, SentencePieceSettings& settings) {
  for (FieldReader field(message); field.next();) {
    switch (field.number()) {
      case kCharsmap:
        settings.has_charsmap = !field.bytes().empty();
        break;
      case kAddDummyPrefix:
        settings.add_dummy_prefix = field.flag();
        break;
      case kRemoveExtraWhitespaces:
        settings.remove_extra_whitespaces = field.flag();
        break;
      case kEscapeWhitespaces:
        settings.escape_whitespaces = field.flag();
        break;
      default:
        break;
    }
  }
}

}  // namespace

SentencePieceSettings read_sentencepiece_settings(std::string_view model) {
  SentencePieceSettings settings;
  for (FieldReader field(model); field.next();) {
    if (field.number() == kTrainerSpec) read_trainer_spec(field.bytes(), settings);
    if (field.number() == kNormalizerSpec) read_normalizer_spec(field.bytes(), settings);
  }
  return settings;
}

std::string with_dummy_prefix(std::string_view model, bool add) {
  // A message field that appears twice is merged, and of a number the last one counts: appending
  // normalizer_spec { add_dummy_prefix } changes that one setting.
  std::string changed(model);
  const std::array<char, 4> field = {(kNormalizerSpec << 3U) | 2U, 2, kAddDummyPrefix << 3U,
                                     static_cast<char>(add)};
  changed.append(field.data(), field.size());
  return changed;
}

}  // namespace longspan::data
