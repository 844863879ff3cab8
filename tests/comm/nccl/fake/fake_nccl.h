#pragma once

#include <nccl.h>

#include <vector>

// NCCL without GPUs: ranks are processes of one machine, messages are files, and operations run on
// the streams of tests/comm/fake_streams.h. It is as strict as it is slow: a call is refused while
// the one before goes on, two threads in one communicator end the process, all ranks must finish
// before one has, and sums are taken from the last rank to the first.
namespace longspan::testing {

/// From now on NCCL reports this of every communicator.
void fail_nccl(ncclResult_t error);
/// From now on ncclCommAbort never returns.
void hang_in_abort();
/// Communicators that were aborted.
int aborted_communicators();
/// Ranks of the communicators that were destroyed, in that order.
std::vector<int> destroyed_sizes();

}  // namespace longspan::testing
