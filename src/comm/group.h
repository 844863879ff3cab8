#pragma once

#include <string>
#include <vector>

namespace longspan::comm {

/// Where `rank` stands in the list of a group's members. Throws InternalError when it is not there
/// once, or when a member is not a rank of a communicator of `size`.
int position_in(const std::vector<int>& members, int rank, int size);

/// "the sequence group of rank(s) 4, 5, 6, 7", as messages call it.
std::string describe_group(const std::string& name, const std::vector<int>& members);

}  // namespace longspan::comm
