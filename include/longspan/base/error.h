#pragma once

#include <stdexcept>
#include <string>

namespace longspan::base {

/// What the process returns; the table users see is in docs/architecture.md.
enum class ExitCode : int {
  kDone = 0,
  kInternal = 1,           ///< a fault of the program, or training that cannot go on
  kBadInput = 2,           ///< job file, command line, or a file that was named there
  kOutOfMemory = 3,        ///< the device's memory; the message carries the ledger
  kPeerFailed = 4,         ///< another rank failed or did not answer in time
  kDamagedCheckpoint = 5,  ///< hashes or sizes differ from the manifest
  kStoppedBySignal = 75,   ///< saved, and asks to be started again
};

/// Base of every exception the library throws on purpose. Library code throws; only `main` exits.
/// A message says what happened, where, what was expected and found, and what to do, in one or
/// two lines, without a trailing newline.
class Error : public std::runtime_error {
 public:
  Error(ExitCode code, const std::string& message, bool agreed = false)
      : std::runtime_error(message), code_(code), agreed_(agreed) {}
  ExitCode code() const { return code_; }
  /// Every rank of the job has thrown this same error: rank 0 alone reports it.
  bool agreed() const { return agreed_; }

 private:
  ExitCode code_;
  bool agreed_;
};

/// Something a user gave is not legal: exit 2.
class InputError : public Error {
 public:
  explicit InputError(const std::string& message) : Error(ExitCode::kBadInput, message) {}
};

/// The device has no room: exit 3.
class OutOfMemoryError : public Error {
 public:
  explicit OutOfMemoryError(const std::string& message) : Error(ExitCode::kOutOfMemory, message) {}
};

/// A peer failed, or a collective did: exit 4.
class PeerError : public Error {
 public:
  explicit PeerError(const std::string& message) : Error(ExitCode::kPeerFailed, message) {}
};

/// A committed checkpoint does not hold what its manifest says: exit 5.
class DamagedCheckpointError : public Error {
 public:
  explicit DamagedCheckpointError(const std::string& message)
      : Error(ExitCode::kDamagedCheckpoint, message) {}
};

/// A broken promise inside the program (wrong shape, wrong dtype): exit 1.
class InternalError : public Error {
 public:
  explicit InternalError(const std::string& message) : Error(ExitCode::kInternal, message) {}
};

}  // namespace longspan::base
