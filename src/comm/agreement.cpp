#include <fmt/format.h>

#include <functional>
#include <string>

#include "longspan/base/error.h"
#include "longspan/comm/communicator.h"

namespace longspan::comm {

void run_agreed(Communicator& communicator, const std::function<void()>& action) {
  // One byte of exit code, then the message; empty: all went well.
  std::string outcome;
  try {
    action();
  } catch (const base::Error& error) {
    outcome = std::string(1, static_cast<char>(error.code())) + error.what();
  }
  const auto outcomes = communicator.all_gather(outcome);
  for (std::size_t rank = 0; rank < outcomes.size(); ++rank) {
    if (outcomes[rank].empty()) continue;
    const auto code = static_cast<base::ExitCode>(outcomes[rank].front());
    const std::string message = outcomes[rank].substr(1);
    throw base::Error(code, rank == 0 ? message : fmt::format("rank {}: {}", rank, message), true);
  }
}

}  // namespace longspan::comm
