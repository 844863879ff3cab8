#pragma once

#include <functional>

namespace longspan::checkpoint::test {

/// What is to befall a child process. Calls are counted from 1, and only those count that change
/// the file system: creating opens, write, fsync, mkdir, rename, unlink, rmdir. An fsync that is
/// not to fail succeeds at once, since no power is cut here and disks are slow.
struct Fate {
  int kill_at = 0;           ///< SIGKILL instead of this call; 0: never
  int fail_at = 0;           ///< this call fails with `error`; 0: never
  int error = 0;             ///< an errno value
  bool no_exchange = false;  ///< renameat2 fails with EINVAL, as on file systems without it
};

struct Outcome {
  bool killed = false;
  int exit_code = 0;            ///< of a child that was not killed
  bool failed_removal = false;  ///< the call that failed was an unlink or rmdir
};

/// Whether child processes can be traced here (ptrace is allowed, the processor is known).
bool tracing_works();

/// Forks, runs `body` in the child, whose result is its exit code (99 when it throws), and lets
/// `fate` befall it.
Outcome run_traced(const Fate& fate, const std::function<int()>& body);

}  // namespace longspan::checkpoint::test
