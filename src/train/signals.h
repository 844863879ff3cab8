#pragma once

namespace longspan::train {

/// While it lives, SIGUSR1, SIGTERM and SIGINT ask for a save and a stop instead of ending the
/// process; a second SIGINT ends it.
class StopSignals {
 public:
  StopSignals();
  ~StopSignals();
  StopSignals(const StopSignals&) = delete;
  StopSignals& operator=(const StopSignals&) = delete;

  /// Whether this process has received one.
  static bool requested();
};

}  // namespace longspan::train
