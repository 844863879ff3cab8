#pragma once

namespace longspan::train {

/// While it lives, SIGUSR1, SIGTERM and SIGINT ask for a save and a stop instead of ending the
/// process. They are blocked and looked for between steps, never handled: oneDNN's generated code
/// uses the stack pointer for data, and a handler's frame that the system writes there in the
/// middle of a product destroys the heap (seen with oneDNN 2.6). Make it before any thread is
/// started (MPI's and OpenMP's inherit what is blocked), and one at a time.
class StopSignals {
 public:
  StopSignals();
  ~StopSignals();
  StopSignals(const StopSignals&) = delete;
  StopSignals& operator=(const StopSignals&) = delete;

  /// Whether this process has received one. From the first that is seen on, a further SIGINT ends
  /// the process.
  static bool requested();
};

}  // namespace longspan::train
