#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "longspan/base/file.h"
#include "longspan/base/json.h"
#include "longspan/train/plan.h"
#include "train/clip_ranks.h"
#include "train/report.h"

namespace longspan::train {
namespace {

using backend::MemoryTag;
using base::format_bytes;
using nlohmann::ordered_json;

std::string tag_name(std::size_t tag) { return name_of(static_cast<MemoryTag>(tag)); }

std::string phase_name(const backend::DryPhase& phase) {
  return *phase.name == '\0' ? "between" : phase.name;
}

std::string memory_table(const Plan& plan) {
  std::string text = fmt::format("{:<14}", "memory");
  for (const auto& phase : plan.phases) text += fmt::format("{:>12}", phase_name(phase));
  text += fmt::format("{:>12}\n", "peak");
  for (std::size_t tag = 0; tag < backend::kMemoryTags; ++tag) {
    text += fmt::format("{:<14}", tag_name(tag));
    for (const auto& phase : plan.phases) {
      text += fmt::format("{:>12}", format_bytes(phase.peak[tag]));
    }
    text += fmt::format("{:>12}\n", format_bytes(plan.peak_bytes[tag]));
  }
  text += fmt::format("{:<14}", "total at once");
  for (const auto& phase : plan.phases) {
    text += fmt::format("{:>12}", format_bytes(phase.peak_total));
  }
  return text + fmt::format("{:>12}\n", format_bytes(plan.peak_total));
}

std::string live_table(const Plan& plan) {
  constexpr std::size_t kMostLines = 16;
  std::string text = "Live at the peak, by where it was made:\n";
  std::size_t line = 0;
  std::uint64_t rest = 0;
  for (const auto& one : plan.live_at_peak) {
    if (line++ >= kMostLines) {
      rest += one.bytes;
      continue;
    }
    text +=
        fmt::format("  {:>10}  {:<13} {:<28} {} x {}\n", format_bytes(one.bytes), name_of(one.tag),
                    one.place.empty() ? "set-up" : one.place, one.count, one.shape);
  }
  if (rest > 0) text += fmt::format("  {:>10}  in smaller ones\n", format_bytes(rest));
  return text;
}

std::string time_table(const Plan& plan) {
  std::string text = fmt::format("{:<14}{:>12}{:>16}{:>14}{:>14}\n", "time", "compute",
                                 "communication", "TFLOP", "moved");
  const auto line = [](const std::string& name, const backend::DryCounts& counts) {
    return fmt::format("{:<14}{:>10.3g} s{:>14.3g} s{:>14.4g}{:>14}\n", name,
                       counts.compute_seconds, counts.communication_seconds,
                       (counts.matmul_flops + counts.attention_flops) / 1e12,
                       format_bytes(static_cast<std::uint64_t>(counts.bytes_moved)));
  };
  for (const auto& phase : plan.phases) text += line(phase_name(phase), phase.counts);
  return text + line("step", plan.counts);
}

/// How ranks share clips.
std::string sharing_text(const Plan& plan) {
  std::string text = clip_sharing_text(plan.sharing, plan.placements);
  if (plan.planned_placement != plan.placement) {
    text +=
        fmt::format("; planned as {}, which mixtures of extents may have", plan.planned_placement);
  }
  return text;
}

/// Who shares a row.
std::string group_text(const Plan& plan) {
  const shard::SequenceDegrees& sequence = plan.sequence;
  if (sequence.ranks() == 1) return "a rank";
  if (!plan.sharing.empty()) {
    return fmt::format("each of {} group(s) of {} ranks ({})", plan.data, sequence.ranks(),
                       sharing_text(plan));
  }
  if (sequence.ring == 1) {
    return fmt::format("each of {} group(s) of {} Ulysses ranks", plan.data, sequence.ulysses);
  }
  return fmt::format("each of {} group(s) of {} ranks ({} Ulysses x ring of {})", plan.data,
                     sequence.ranks(), sequence.ulysses, sequence.ring);
}

std::string sent_text(const Plan& plan) {
  std::string text = fmt::format("Sent by a rank: {} a step", format_bytes(plan.sent.total()));
  const comm::Traffic to_one = plan.sent_per_peer();
  for (const comm::Collective kind : comm::kCollectives) {
    if (plan.sent[kind] == 0) continue;
    text += fmt::format("; {}: {}, {} to a rank", comm::name_of(kind),
                        format_bytes(plan.sent[kind]), format_bytes(to_one[kind]));
  }
  return fmt::format("{}.\n", text);
}

std::string adapter_text(const Plan& plan) {
  if (plan.trained_parameters == plan.parameters) return "";
  return fmt::format(", frozen, and an adapter of {}",
                     format_count(static_cast<double>(plan.trained_parameters)));
}

ordered_json layout_json(const Plan& plan) {
  if (!plan.sharing.empty()) {
    ordered_json json = {
        {"data", plan.data}, {"sequence", plan.sequence.ranks()}, {"sequence_mode", plan.sharing}};
    if (plan.placement.empty()) return json;
    json["sequence_placement"] = plan.placement;
    if (plan.planned_placement != plan.placement) {
      json["planned_placement"] = plan.planned_placement;
    }
    if (plan.placements.size() > 1) json["placements_by_extents"] = plan.placements;
    return json;
  }
  return {{"data", plan.data}, {"ulysses", plan.sequence.ulysses}, {"ring", plan.sequence.ring}};
}

ordered_json slots_json(const SlotChoice& choice) {
  const auto fraction = [](std::int64_t millionths) {
    return static_cast<double>(millionths) / static_cast<double>(nn::SaveParts::kWhole);
  };
  ordered_json json = {{"policy", "auto"}};
  if (!choice.why_none.empty()) {
    json["why_none"] = choice.why_none;
  } else {
    json["layers"] = choice.layers;
    json["always"] = fraction(choice.always);
    json["alpha"] = fraction(choice.split);
    json["always_bytes"] = choice.always_bytes;
    json["split_bytes"] = choice.split_bytes;
    json["layer_seconds"] = choice.layer_seconds;
    json["host_limit_bytes"] = choice.host_limit;
    json["bounds"] = {
        {"link",
         {{"layer_bytes", choice.link.layer_bytes}, {"alpha", fraction(choice.link.split)}}},
        {"host",
         {{"layer_bytes", choice.host.layer_bytes}, {"alpha", fraction(choice.host.split)}}}};
    json["binds"] = choice.binds;
  }
  for (const model::SlotWords& slot : model::saved_slots()) {
    json["slots"][slot.name] = choice.texts[slot.slot];
  }
  return json;
}

}  // namespace

std::string plan_text(const Plan& plan) {
  const double tokens = static_cast<double>(plan.tokens_per_step);
  const std::uint64_t needed = plan.needed();
  const std::uint64_t distance = plan.fits() ? plan.limit - needed : needed - plan.limit;
  std::string text = fmt::format(
      "{}: {} parameters{} on {} x {}{}\n{} tokens a step, {} to {} in {} micro-batch(es) of {}\n"
      "\nOne rank (rank {}):\n{}\n",
      plan.name, format_count(static_cast<double>(plan.parameters)), adapter_text(plan),
      plan.world_size, plan.device.name,
      plan.device.kind == "cpu" ? fmt::format(" ({} thread(s) a rank)", plan.threads) : "",
      plan.tokens_per_step, plan.micro_batches * plan.micro_batch_tokens, group_text(plan),
      plan.micro_batches, plan.micro_batch_tokens, plan.rank, memory_table(plan));
  text += fmt::format("Peak: {} in {}. ", format_bytes(plan.peak_total), plan.peak_place);
  if (plan.gaps > 0) {
    text += fmt::format("Gaps between blocks: {} more. ", format_bytes(plan.gaps));
  }
  if (plan.assumed_states > 0) {
    text += fmt::format(
        "ASSUMED: weights, gradients and optimizer take {}, not {}; the peak is then {}. ",
        format_bytes(plan.assumed_states), format_bytes(plan.state_bytes), format_bytes(needed));
  }
  text += fmt::format("Limit: {}. {} by {}.\n\n", format_bytes(plan.limit),
                      plan.fits() ? "It fits" : "IT DOES NOT FIT", format_bytes(distance));
  text += live_table(plan) + "\n" + time_table(plan);
  const double hardware = plan.counts.matmul_flops + plan.counts.attention_flops;
  text += fmt::format(
      "Estimated: {:.3g} s a step, {:.4g} tokens/s in all, {:.0f}% communication (nothing "
      "hidden).\n",
      plan.seconds(), tokens / plan.seconds(),
      100 * plan.counts.communication_seconds / plan.seconds());
  if (plan.host_bytes > 0) {
    text += fmt::format(
        "Host: {} of what is offloaded for each rank; {:.3g} s of a step go over the link to it "
        "(an "
        "update's own time there is not estimated).\n",
        format_bytes(plan.host_bytes), plan.counts.host_link_seconds);
  }
  if (plan.slots) text += slot_choice_text(*plan.slots);
  text += sent_text(plan);
  text += fmt::format("Computed twice: {:.4g} of {:.4g} TFLOP ({:.1f}%).\n",
                      plan.recomputed_flops / 1e12, hardware / 1e12,
                      100 * plan.recomputed_flops / hardware);
  for (const std::string& line : plan.recomputed) text += "  " + line + "\n";
  return text;
}

std::string remedies_text(const Job& job, const PlanSetting& setting) {
  std::string text = "What would take less:\n";
  for (const Remedy& remedy : find_remedies(job, setting)) {
    text += fmt::format("  {:>10}  {}  {}\n", format_bytes(remedy.peak_total), remedy.change,
                        remedy.fits ? "(fits)" : "(does not fit)");
  }
  return text;
}

namespace {

ordered_json live_json(const Plan& plan) {
  ordered_json live = ordered_json::array();
  for (const auto& one : plan.live_at_peak) {
    live.push_back({{"tag", name_of(one.tag)},
                    {"place", one.place},
                    {"shape", one.shape},
                    {"count", one.count},
                    {"bytes", one.bytes}});
  }
  return live;
}

}  // namespace

std::string plan_json(const Plan& plan) {
  const auto by_tag = [](const auto& bytes, std::uint64_t total) {
    ordered_json json;
    for (std::size_t tag = 0; tag < backend::kMemoryTags; ++tag) json[tag_name(tag)] = bytes[tag];
    json["total"] = total;
    return json;
  };
  const auto by_kind = [](const comm::Traffic& traffic) {
    ordered_json json;
    for (const comm::Collective kind : comm::kCollectives) {
      json[comm::name_of(kind)] = traffic[kind];
    }
    return json;
  };
  ordered_json json;
  json["name"] = plan.name;
  json["device"] = plan.device.name;
  json["world_size"] = plan.world_size;
  json["layout"] = layout_json(plan);
  json["rank"] = plan.rank;
  json["parameters"] = plan.parameters;
  json["trained_parameters"] = plan.trained_parameters;
  json["tokens_per_step"] = plan.tokens_per_step;
  json["micro_batch_tokens"] = plan.micro_batch_tokens;
  json["micro_batches"] = plan.micro_batches;
  json["peak_bytes"] = by_tag(plan.peak_bytes, plan.peak_total);
  json["gap_bytes"] = plan.gaps;
  json["peak_place"] = plan.peak_place;
  json["limit_bytes"] = plan.limit;
  if (plan.assumed_states > 0) json["assumed_state_bytes"] = plan.assumed_states;
  json["fits"] = plan.fits();
  json["host_bytes"] = plan.host_bytes;
  if (plan.slots) json["saved_inputs"] = slots_json(*plan.slots);
  json["comm_bytes"] = by_kind(plan.world_sent);
  json["comm_bytes_of_rank"] = by_kind(plan.sent);
  json["comm_bytes_per_peer"] = by_kind(plan.sent_per_peer());
  json["flops"] = {{"matmul", plan.counts.matmul_flops},
                   {"attention", plan.counts.attention_flops},
                   {"recomputed", plan.recomputed_flops},
                   {"model", plan.model_flops}};
  json["bytes_moved"] = plan.counts.bytes_moved;
  json["seconds"] = {{"compute", plan.counts.compute_seconds},
                     {"communication", plan.counts.communication_seconds},
                     {"host_link", plan.counts.host_link_seconds},
                     {"step", plan.seconds()}};
  json["phases"] = ordered_json::array();
  for (const auto& phase : plan.phases) {
    json["phases"].push_back({{"name", phase_name(phase)},
                              {"peak_bytes", by_tag(phase.peak, phase.peak_total)},
                              {"compute_seconds", phase.counts.compute_seconds},
                              {"communication_seconds", phase.counts.communication_seconds}});
  }
  json["live_at_peak"] = live_json(plan);
  return base::json_text(json);
}

}  // namespace longspan::train
