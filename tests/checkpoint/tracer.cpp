#include "tests/checkpoint/tracer.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <stdexcept>

#if defined(__x86_64__)
#include <sys/user.h>
#endif

namespace longspan::checkpoint::test {

#if defined(__x86_64__)

namespace {

class Tracee {
 public:
  explicit Tracee(pid_t process) : process_(process) {}

  /// Runs to the next entry of or return from a system call; false when the child is gone.
  bool step() {
    if (::ptrace(PTRACE_SYSCALL, process_, nullptr, nullptr) != 0) return false;
    return ::waitpid(process_, &status_, 0) == process_ && WIFSTOPPED(status_);
  }
  user_regs_struct registers() const {
    user_regs_struct values{};
    ::ptrace(PTRACE_GETREGS, process_, nullptr, &values);
    return values;
  }
  /// At the entry of a call: skips it, and makes it return -error (0: success).
  void answer_call(int error) {
    user_regs_struct values = registers();
    values.orig_rax = ~0ULL;
    ::ptrace(PTRACE_SETREGS, process_, nullptr, &values);
    step();
    values = registers();
    values.rax = static_cast<unsigned long long>(-static_cast<long long>(error));
    ::ptrace(PTRACE_SETREGS, process_, nullptr, &values);
  }
  void kill() {
    ::kill(process_, SIGKILL);
    ::waitpid(process_, &status_, 0);
  }
  bool is_system_call() const { return WSTOPSIG(status_) == (SIGTRAP | 0x80); }
  int status() const { return status_; }

 private:
  pid_t process_;
  int status_ = 0;
};

bool is_removal(unsigned long long call) {
  return call == SYS_unlink || call == SYS_unlinkat || call == SYS_rmdir;
}

bool changes_files(const user_regs_struct& registers) {
  switch (registers.orig_rax) {
    case SYS_openat:
      return (registers.rdx & O_CREAT) != 0;
    case SYS_open:
      return (registers.rsi & O_CREAT) != 0;
    case SYS_write:
    case SYS_fsync:
    case SYS_mkdir:
    case SYS_rename:
    case SYS_renameat2:
      return true;
    default:
      return is_removal(registers.orig_rax);
  }
}

pid_t start(const std::function<int()>& body) {
  const pid_t process = ::fork();
  if (process < 0) throw std::runtime_error("fork failed");
  if (process == 0) {
    if (::ptrace(PTRACE_TRACEME, 0, nullptr, nullptr) != 0) ::_exit(125);
    ::raise(SIGSTOP);
    try {
      ::_exit(body());
    } catch (...) {
      ::_exit(99);
    }
  }
  return process;
}

}  // namespace

bool tracing_works() {
  const pid_t process = start([] { return 0; });
  int status = 0;
  ::waitpid(process, &status, 0);
  if (!WIFSTOPPED(status)) return false;
  Tracee child(process);
  child.kill();
  return true;
}

Outcome run_traced(const Fate& fate, const std::function<int()>& body) {
  const pid_t process = start(body);
  int status = 0;
  ::waitpid(process, &status, 0);
  ::ptrace(PTRACE_SETOPTIONS, process, nullptr, PTRACE_O_TRACESYSGOOD | PTRACE_O_EXITKILL);
  Tracee child(process);
  Outcome outcome;
  int count = 0;
  while (child.step()) {
    if (!child.is_system_call()) continue;
    const user_regs_struct registers = child.registers();
    if (changes_files(registers)) {
      ++count;
      if (count == fate.kill_at) {
        child.kill();
        outcome.killed = true;
        return outcome;
      }
      if (count == fate.fail_at) {
        outcome.failed_removal = is_removal(registers.orig_rax);
        child.answer_call(fate.error);
        continue;
      }
      if (registers.orig_rax == SYS_fsync) {
        child.answer_call(0);
        continue;
      }
      if (fate.no_exchange && registers.orig_rax == SYS_renameat2) {
        child.answer_call(EINVAL);
        continue;
      }
    }
    child.step();  // the call's return
  }
  outcome.exit_code = WIFEXITED(child.status()) ? WEXITSTATUS(child.status()) : -1;
  return outcome;
}

#else

bool tracing_works() { return false; }

Outcome run_traced(const Fate&, const std::function<int()>&) {
  throw std::runtime_error("tracing is not known on this processor");
}

#endif

}  // namespace longspan::checkpoint::test
