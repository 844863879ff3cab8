#pragma once

#include <chrono>
#include <cstdint>
#include <string>

// How a process stops waiting for others: what it tells, and that nothing can hold it up.
namespace longspan::comm {

/// What was given to `set_timeout` and `set_step`.
double timeout();
std::int64_t current_step();

/// Seconds that this process has spent waiting.
class Patience {
 public:
  double seconds();

 private:
  using Clock = std::chrono::steady_clock;
  Clock::time_point last_ = Clock::now();
  double seconds_ = 0;
};

/// An operation as messages name it.
struct Subject {
  std::string operation;  ///< "the all-reduce"
  std::string group;      ///< "the world", "the sequence group of rank(s) 4, 5, 6, 7"
  int world_rank = 0;
  std::int64_t step = current_step();
};

/// "rank 1 waited 600 seconds in step 7 for the all-reduce of the world, and gives up".
std::string waited(const Subject& subject, double seconds);

/// "communication of rank 1 failed in step 7 in the all-reduce of the world: NCCL: remote error".
std::string failed(const Subject& subject, const std::string& why);

/// What to do when a rank was only slow.
extern const char* const kAdvice;

/// Whether an operation has failed. MPI is not to be called any more but to abort: it would go on
/// with messages whose buffers may be freed.
bool is_broken();
/// Makes it so, when nothing can be thrown.
void break_off();

/// Of the thread that may call MPI: calls the roll while the operation's buffers live, lets go of
/// what would hold up the unwinding (`set_release`), and throws PeerError: `what`, who gives no
/// sign of life, and `advice`, if there is any.
[[noreturn]] void give_up(const std::string& what, const std::string& advice);
/// Whether that has begun.
bool is_giving_up();
/// What `give_up` calls before it throws; nothing at the start. Once there is something, ranks may
/// be waiting for their devices, and messages say that those give no sign of life.
void set_release(void (*release)());

/// A watching thread's finding, for the thread that may call MPI: the first one counts.
void tell_failure(const std::string& what);
/// That, or what `give_up` has thrown since; "" when all is well.
std::string told_failure();
/// Gives up when a failure was told. Operations begin with this.
void check_for_failure();

/// A wait of the thread that may call MPI: `look` between two polls of what is waited for. It gives
/// up when the timeout is over, when another rank has given up, and when a failure was told.
class Wait {
 public:
  explicit Wait(const Subject& subject) : subject_(&subject) {}
  void look();

 private:
  const Subject* subject_;
  Patience patience_;
  double last_roll_ = 0;
};

/// Of a thread that may not call MPI: prints the message (none: nothing), and ends the process. A
/// launcher ends the job when one rank leaves so.
[[noreturn]] void leave_process(const std::string& message);

}  // namespace longspan::comm
