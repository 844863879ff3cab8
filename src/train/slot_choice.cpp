#include "train/slot_choice.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <sstream>
#include <string_view>

#include "longspan/model/slot_sizes.h"
#include "train/dry_step.h"
#include "train/parallel_layout.h"
#include "train/precision.h"
#include "train/resources.h"

namespace longspan::train {
namespace {

using model::Slot;
using nn::SaveParts;
using nn::SavePolicy;

/// They run backward first: what they keep would have to come back at once.
constexpr std::int64_t kLayersThatStay = 2;
/// The rest is for the system, the program and the data's pages.
constexpr double kHostPart = 0.9;

/// The most millionths of so many bytes that are no more than `room`.
std::int64_t most_of(double bytes, double room) {
  if (bytes <= room) return SaveParts::kWhole;
  const double part = std::max(0.0, room / bytes);
  auto millionths = static_cast<std::int64_t>(part * SaveParts::kWhole);
  while (millionths > 0 && bytes * static_cast<double>(millionths) / SaveParts::kWhole > room) {
    --millionths;
  }
  return millionths;
}

/// What a place of a sequence group holds of a full row.
model::HeldTokens held_by(const Job& job, const shard::SequenceDegrees& degrees, int place) {
  const shard::TokenLayout tokens(job.training.micro_batch_tokens, degrees);
  const auto heads = shard::Cover::even(job.model.num_attention_heads, degrees.ulysses);
  const auto kv_heads = shard::Cover::of_kv_heads(heads, job.model.num_key_value_heads);
  const int share = place % degrees.ulysses;
  const bool is_exchanged = degrees.ulysses > 1;
  return {.tokens = tokens.size(place),
          .is_exchanged = is_exchanged,
          .attention_tokens =
              is_exchanged ? tokens.parts().size(place / degrees.ulysses) : tokens.size(place),
          .heads = heads.size(share),
          .kv_heads = kv_heads.size(share)};
}

/// How a job's layers keep what they keep, and what of it can be made again.
class Slots {
 public:
  Slots(const Job& job, const shard::SequenceDegrees& degrees)
      : policy_(memory_policy(job)), layers_(job.model.num_hidden_layers), degrees_(degrees) {
    const auto size = base::size_of(dtype_of_precision(job.training.precision));
    for (int place = 0; place < degrees.ranks(); ++place) {
      const auto elements = model::slot_elements(job.model, held_by(job, degrees, place));
      for (std::int64_t layer = 0; layer < layers_; ++layer) {
        always_bytes_ = std::max(always_bytes_, size * sum_of(elements, layer, false));
        split_bytes_ = std::max(split_bytes_, size * sum_of(elements, layer, true));
      }
    }
  }

  std::uint64_t always_bytes() const { return always_bytes_; }
  std::uint64_t split_bytes() const { return split_bytes_; }

  /// Of the first `count` layers.
  model::SlotTexts texts(std::int64_t count, const OffloadFractions& fractions) const {
    const SavePolicy host{SavePolicy::Codes::kNone, true};
    const SaveParts always({{host, fractions.always}, {SavePolicy{}}});
    const SaveParts split({{host, fractions.split}, {nn::kRecompute}});
    model::SlotTexts texts;
    for (const model::SlotWords& slot : model::saved_slots()) {
      const SaveParts& parts = is_split(slot) ? split : always;
      texts[slot.slot] =
          parts.is_full() ? "full" : by_layers(slot.slot, model::text_of(parts), count);
    }
    return texts;
  }

 private:
  /// After an exchange q, k and v are not made again: see parallel_layout.
  bool is_split(const model::SlotWords& slot) const {
    return slot.why_kept == nullptr && (slot.slot != Slot::kAttentionQkv || degrees_.ulysses == 1);
  }

  std::uint64_t sum_of(const model::BySlot<backend::Index>& elements, std::int64_t layer,
                       bool split) const {
    std::uint64_t sum = 0;
    for (const model::SlotWords& slot : model::saved_slots()) {
      if (is_split(slot) != split || !policy_.keeps(slot.slot, layer)) continue;
      sum += static_cast<std::uint64_t>(elements[slot.slot]);
    }
    return sum;
  }

  std::string by_layers(Slot slot, const std::string& word, std::int64_t count) const {
    std::string text;
    for (std::int64_t first = 0; first < count;) {
      std::int64_t end = first;
      while (end < count && policy_.keeps(slot, end)) ++end;
      if (end > first) {
        text += fmt::format("{}{}-{}: {}", text.empty() ? "" : ", ", first, end - 1, word);
      }
      first = end + 1;
    }
    return text.empty() ? "full" : text;
  }

  model::MemoryPolicy policy_;
  std::int64_t layers_;
  shard::SequenceDegrees degrees_;
  std::uint64_t always_bytes_ = 0;
  std::uint64_t split_bytes_ = 0;
};

/// The job with everything on the device, and a row a group in a step.
Job with_full_slots(const Job& job, const ParallelLayout& layout) {
  Job full = job;
  full.memory.choose_saved_inputs(model::SlotTexts::all("full"));
  full.parallel.sequence = fmt::format("{}x{}", layout.sequence.ulysses, layout.sequence.ring);
  full.training.tokens_per_step = job.training.micro_batch_tokens * layout.data;
  return full;
}

double forward_seconds(const DryStep& dry) {
  double seconds = 0;
  for (const backend::DryPhase& phase : dry.backend.phases()) {
    if (std::string_view(phase.name) == "forward") seconds += phase.counts.seconds();
  }
  return seconds;
}

std::uint64_t host_limit_of(const Job& job, const PlanSetting& setting, const DryStep& dry) {
  if (job.memory.saved_host_limit > 0) return job.memory.saved_host_limit;
  const std::uint64_t machine =
      setting.device.host_memory == 0 ? physical_memory() : setting.device.host_memory;
  const auto share =
      static_cast<std::uint64_t>(kHostPart * static_cast<double>(machine) / setting.local_ranks);
  const std::uint64_t taken = dry.host ? dry.host->footprint() : 0;
  return share - std::min(share, taken);
}

}  // namespace

OffloadFractions solve_offload(const OffloadTask& task) {
  const double room = std::min(task.link_bytes, task.host_bytes);
  OffloadFractions fractions;
  fractions.always = most_of(task.always_bytes, room);
  if (fractions.always < SaveParts::kWhole) return fractions;
  fractions.split = most_of(task.split_bytes, room - task.always_bytes);
  return fractions;
}

SlotChoice choose_slots(const Job& job, const PlanSetting& setting) {
  SlotChoice choice;
  choice.layers = std::max<std::int64_t>(job.model.num_hidden_layers - kLayersThatStay, 0);
  if (setting.device.kind == "cpu") {
    choice.why_none =
        "a \"cpu\" device's memory is the host's, where nothing would be gained by a copy";
  } else if (choice.layers == 0) {
    choice.why_none = "the last two layers keep all on the device, and there are no others";
  }
  if (!choice.why_none.empty()) return choice;

  const ParallelLayout layout = parallel_layout(job, setting.ranks);
  const Job full = with_full_slots(job, layout);
  const DryStep dry(full, setting, 0);
  const Slots slots(full, layout.sequence);
  choice.always_bytes = slots.always_bytes();
  choice.split_bytes = slots.split_bytes();
  choice.layer_seconds = forward_seconds(dry) / static_cast<double>(job.model.num_hidden_layers);
  choice.host_limit = host_limit_of(job, setting, dry);
  choice.link.layer_bytes = choice.layer_seconds * setting.device.host_bandwidth;
  choice.host.layer_bytes =
      static_cast<double>(choice.host_limit) / static_cast<double>(choice.layers);

  const OffloadTask task{static_cast<double>(choice.always_bytes),
                         static_cast<double>(choice.split_bytes), choice.link.layer_bytes,
                         choice.host.layer_bytes};
  OffloadTask alone = task;
  alone.host_bytes = std::numeric_limits<double>::infinity();
  choice.link.split = solve_offload(alone).split;
  alone = task;
  alone.link_bytes = std::numeric_limits<double>::infinity();
  choice.host.split = solve_offload(alone).split;
  const OffloadFractions fractions = solve_offload(task);
  choice.always = fractions.always;
  choice.split = fractions.split;
  const bool is_all =
      task.always_bytes + task.split_bytes <= std::min(task.link_bytes, task.host_bytes);
  choice.binds = is_all ? "neither" : task.link_bytes <= task.host_bytes ? "link" : "host";
  choice.texts = slots.texts(choice.layers, fractions);
  return choice;
}

Job with_chosen_slots(const Job& job, const PlanSetting& setting) {
  Job chosen = job;
  if (!job.memory.chooses_saved_inputs()) return chosen;
  chosen.memory.choose_saved_inputs(choose_slots(job, setting).texts);
  return chosen;
}

std::string choose_for_all(Job& job, comm::Communicator& world) {
  if (!job.memory.chooses_saved_inputs()) return "";
  SlotChoice choice;
  comm::run_agreed(world, [&] {
    if (world.rank() == 0) choice = choose_slots(job, PlanSetting::of(job, world));
  });
  std::string lines;
  for (const std::string& text : choice.texts.values) lines += text + "\n";
  world.broadcast(lines, 0);
  std::istringstream reading(lines);
  for (std::string& text : choice.texts.values) std::getline(reading, text);
  job.memory.choose_saved_inputs(choice.texts);
  std::string told = world.rank() == 0 ? slot_choice_text(choice) : "";
  if (!told.empty()) told.pop_back();  // the end of its last line
  return told;
}

}  // namespace longspan::train
