#pragma once

#include <vector>

namespace longspan::comm {

/// Whether another rank calls the roll: its operation failed, and it is about to tell the cause and
/// end the job. Ranks that wait ask now and then, which also answers the call.
bool roll_is_called();

/// Called by a rank whose operation failed, before anything is unwound: MPI is used, and may still
/// read and write the operation's buffers. All ranks of the job are asked for a sign of life, and
/// only one of those whose operation failed goes on to report it: here the others are ended by
/// that one's abort. Returns the world ranks that gave no sign of life.
std::vector<int> call_the_roll();

}  // namespace longspan::comm
