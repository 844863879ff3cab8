#include "train/signals.h"

#include <array>
#include <csignal>

namespace longspan::train {
namespace {

constexpr std::array<int, 3> kSignals = {SIGUSR1, SIGTERM, SIGINT};

volatile std::sig_atomic_t stop_requested = 0;

void request_stop(int signal) {
  stop_requested = 1;
  if (signal == SIGINT) std::signal(SIGINT, SIG_DFL);
}

}  // namespace

StopSignals::StopSignals() {
  stop_requested = 0;
  for (const int signal : kSignals) std::signal(signal, request_stop);
}

StopSignals::~StopSignals() {
  for (const int signal : kSignals) std::signal(signal, SIG_DFL);
}

bool StopSignals::requested() { return stop_requested != 0; }

}  // namespace longspan::train
