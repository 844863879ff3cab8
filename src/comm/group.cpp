#include "comm/group.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "longspan/base/error.h"

namespace longspan::comm {

int position_in(const std::vector<int>& members, int rank, int size) {
  const bool are_ranks = std::all_of(members.begin(), members.end(),
                                     [&](int member) { return member >= 0 && member < size; });
  if (!are_ranks || std::count(members.begin(), members.end(), rank) != 1) {
    throw base::InternalError(
        fmt::format("a group of ranks {} was asked for by rank {} of {}", members, rank, size));
  }
  return static_cast<int>(std::find(members.begin(), members.end(), rank) - members.begin());
}

std::string describe_group(const std::string& name, const std::vector<int>& members) {
  return fmt::format("the {} group of rank(s) {}", name,
                     fmt::join(members.begin(), members.end(), ", "));
}

}  // namespace longspan::comm
