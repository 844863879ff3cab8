#pragma once

#include <vector>

namespace longspan::comm {

/// Where `rank` stands in the list of a group's members. Throws InternalError when it is not there
/// once, or when a member is not a rank of a communicator of `size`.
int position_in(const std::vector<int>& members, int rank, int size);

}  // namespace longspan::comm
