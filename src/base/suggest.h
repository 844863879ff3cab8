#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace longspan::base {

/// Least number of typing slips (a letter too many, too few, wrong, or two swapped) between two
/// words; upper and lower case, and - and _, count as equal.
std::size_t typing_slips(std::string_view a, std::string_view b);

/// A word that could have been meant.
struct Suggestion {
  std::string word;     ///< compared with what was found
  std::string answer;   ///< given as the suggestion
  bool is_far = false;  ///< from another section: loses against an equally close one
};

/// The answer of the candidate that is closest to `found`, when one is close enough to be meant:
/// few slips for its length, or one word within the other ("warmup", "warmup_steps"). Of equals,
/// the first.
std::optional<std::string> closest(std::string_view found,
                                   const std::vector<Suggestion>& candidates);

}  // namespace longspan::base
