#include <numeric>

#include "longspan/base/error.h"
#include "longspan/comm/communicator.h"

namespace longspan::comm {

const char* name_of(Collective kind) {
  switch (kind) {
    case Collective::kAllReduce:
      return "all_reduce";
    case Collective::kReduceScatter:
      return "reduce_scatter";
    case Collective::kAllGather:
      return "all_gather";
    case Collective::kAllToAll:
      return "all_to_all";
    case Collective::kSendReceive:
      return "send_receive";
    case Collective::kBroadcast:
      return "broadcast";
  }
  throw base::InternalError("name_of: unknown collective");
}

std::uint64_t Traffic::total() const {
  return std::accumulate(bytes_.begin(), bytes_.end(), std::uint64_t{0});
}

}  // namespace longspan::comm
