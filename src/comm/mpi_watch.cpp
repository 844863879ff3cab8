#include "comm/mpi_watch.h"

#include <fmt/format.h>

#include <array>

#include "longspan/base/error.h"

namespace longspan::comm {
void check(int code, const std::string& operation) {
  if (code == MPI_SUCCESS) return;
  std::array<char, MPI_MAX_ERROR_STRING> text{};
  int length = 0;
  MPI_Error_string(code, text.data(), &length);
  give_up(fmt::format("communication failed in {}: {}", operation, text.data()), "");
}

void Requests::wait() {
  if (is_broken()) {
    throw base::PeerError(
        fmt::format("{} cannot be: an earlier operation failed", subject_.operation));
  }
  Wait wait(subject_);
  while (true) {
    int done = 0;
    check(MPI_Testall(static_cast<int>(requests_.size()), requests_.data(), &done,
                      MPI_STATUSES_IGNORE),
          subject_.operation);
    if (done != 0) break;
    wait.look();
  }
  requests_.clear();
}

Requests::~Requests() {
  if (requests_.empty() || is_broken()) return;
  // An exception goes by; its cause is told later. The peers have begun this operation, too.
  try {
    wait();
  } catch (const std::exception&) {
    break_off();
  }
}

}  // namespace longspan::comm
