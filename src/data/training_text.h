#pragma once

#include <cstdint>
#include <string_view>

#include "longspan/data/text_source.h"

namespace longspan::data {

/// The text that a tokenizer is trained on: all of a source, or evenly spaced stretches of it.
class TrainingText {
 public:
  /// Stretches of about `max_bytes` in all. Throws InputError as TextSource does.
  TrainingText(const std::vector<std::string>& inputs, const TextOptions& options,
               std::uint64_t max_bytes);

  /// The next stretch, of about 4 KiB and at most 8, which ends at newlines, else before a space,
  /// where there are any; valid until the next call. False at the end.
  bool next(std::string_view& stretch);
  std::uint64_t total_bytes() const { return source_.total_bytes(); }  ///< of the whole source

 private:
  bool is_chosen();

  TextSource source_;
  double fraction_;
  std::int64_t count_ = 0;
  TextDocument document_;
  std::size_t position_ = 0;
};

}  // namespace longspan::data
