#pragma once

#include "longspan/comm/communicator.h"
#include "longspan/train/job.h"
#include "longspan/train/plan.h"
#include "longspan/train/slot_choice.h"

namespace longspan::train {

/// Bytes of a layer: that are not made again, that can be, and that each bound lets it send.
struct OffloadTask {
  double always_bytes = 0;
  double split_bytes = 0;
  double link_bytes = 0;
  double host_bytes = 0;
};
/// In millionths.
struct OffloadFractions {
  std::int64_t always = 0;
  std::int64_t split = 0;
};
/// The largest fractions within both bounds: of the second nothing before all of the first.
OffloadFractions solve_offload(const OffloadTask& task);

/// What the job's "auto" chooses: of job and setting alone.
SlotChoice choose_slots(const Job& job, const PlanSetting& setting);
/// The job with that choice made; itself, where there is nothing to choose.
Job with_chosen_slots(const Job& job, const PlanSetting& setting);
/// The same for all ranks that train: rank 0 chooses. Returns the choice in words, on rank 0; empty
/// where there was nothing to choose.
std::string choose_for_all(Job& job, comm::Communicator& world);

}  // namespace longspan::train
