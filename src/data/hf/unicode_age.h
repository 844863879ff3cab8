#pragma once

#include <string>
#include <string_view>

namespace longspan::data::hf {

/// A text as a regular expression is to see it. PCRE2 10.42 knows Unicode 14, the reference 16: a
/// character that is younger, or that PCRE2 takes for white space and Unicode does not (U+180E),
/// is shown as another one of its category and its length in UTF-8, so that places stay the same.
class AgedText {
 public:
  /// `text` must be valid UTF-8 and outlive this.
  explicit AgedText(std::string_view text);
  AgedText(const AgedText&) = delete;
  AgedText& operator=(const AgedText&) = delete;

  std::string_view original() const { return original_; }
  std::string_view shown() const { return replaced_.empty() ? original_ : replaced_; }

 private:
  std::string_view original_;
  std::string replaced_;  ///< empty when nothing is to be replaced
};

/// Whether a normalisation form leaves this character and its order alone, though Unicode says
/// otherwise: the reference normalises by Unicode 9, and characters that came later are nothing to
/// it.
bool is_inert(char32_t code);

}  // namespace longspan::data::hf
