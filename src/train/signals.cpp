#include "longspan/train/signals.h"

#include <csignal>
#include <ctime>
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
  // What has arrived was answered by the save; it must not end the process now.
  const sigset_t signals = stop_signals();
  const timespec now{};
  while (sigtimedwait(&signals, nullptr, &now) > 0) {
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
