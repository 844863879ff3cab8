#include "longspan/train/signals.h"

#include <csignal>
#include <ctime>
#include <exception>
#include <initializer_list>

namespace longspan::train {
namespace {

bool stop_requested = false;

sigset_t stop_signals() {
  sigset_t signals;
  sigemptyset(&signals);
  for (const int signal : {SIGUSR1, SIGTERM, SIGINT}) sigaddset(&signals, signal);
  return signals;
}

}  // namespace

StopSignals::StopSignals() {
  stop_requested = false;
  const sigset_t signals = stop_signals();
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
}

StopSignals::~StopSignals() {
  // What has arrived was answered by the save; it must not end the process now. But when an error
  // goes by, a launcher sends SIGTERM because another rank has told it and ended the job.
  const sigset_t signals = stop_signals();
  sigset_t answered = signals;
  if (std::uncaught_exceptions() > 0) sigdelset(&answered, SIGTERM);
  const timespec now{};
  while (sigtimedwait(&answered, nullptr, &now) > 0) {
  }
  pthread_sigmask(SIG_UNBLOCK, &signals, nullptr);
}

bool StopSignals::requested() {
  const sigset_t signals = stop_signals();
  const timespec now{};
  if (sigtimedwait(&signals, nullptr, &now) > 0) {
    stop_requested = true;
    sigset_t interrupt;
    sigemptyset(&interrupt);
    sigaddset(&interrupt, SIGINT);
    pthread_sigmask(SIG_UNBLOCK, &interrupt, nullptr);
  }
  return stop_requested;
}

}  // namespace longspan::train
