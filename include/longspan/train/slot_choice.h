#pragma once

#include <cstdint>
#include <string>

#include "longspan/model/memory_policy.h"

namespace longspan::train {

/// What of its layers' slots a rank sends to the host, as "auto" for memory.saved_inputs.policy
/// chooses (Zhao et al. 2024, "MEMO"): of layers but the last two, what cannot be made again
/// waits there, and of the rest as many tokens as two bounds allow; others are made again. The
/// bounds are of what a layer sends: no more than goes over the link while a layer runs forward,
/// and no more than its share of the host's memory. Where not even what cannot be made again is
/// within them, a part of it waits there, and all else of it on the device.
struct SlotChoice {
  std::string why_none;     ///< why all waits as it is, on the device; empty: it does not
  std::int64_t layers = 0;  ///< that send anything: the first ones
  /// Of what a rank keeps of a layer (the most of all ranks and layers): bytes that are not made
  /// again, and of the others.
  std::uint64_t always_bytes = 0;
  std::uint64_t split_bytes = 0;
  /// Which parts of these two wait on the host, in millionths of the tokens. `split` is alpha.
  std::int64_t always = 0;
  std::int64_t split = 0;

  struct Bound {
    double layer_bytes = 0;  ///< that a layer may send
    std::int64_t split = 0;  ///< alpha, if there were no other bound
  };
  Bound link;
  Bound host;
  double layer_seconds = 0;      ///< of one layer's forward, in the mean
  std::uint64_t host_limit = 0;  ///< bytes of the host that a rank may fill
  std::string binds;             ///< "link", "host" or "neither"
  model::SlotTexts texts = model::SlotTexts::all("full");  ///< in the job file's words
};

/// The same for a terminal, in lines.
std::string slot_choice_text(const SlotChoice& choice);

}  // namespace longspan::train
