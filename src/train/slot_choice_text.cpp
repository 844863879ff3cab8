#include <fmt/format.h>

#include "longspan/base/file.h"
#include "longspan/nn/saved_input.h"
#include "longspan/train/slot_choice.h"

namespace longspan::train {
namespace {

using base::format_bytes;

double fraction(std::int64_t millionths) {
  return static_cast<double>(millionths) / static_cast<double>(nn::SaveParts::kWhole);
}

std::string bound_line(const char* name, const SlotChoice& choice, const SlotChoice::Bound& bound,
                       const std::string& why) {
  return fmt::format("  {}: {} a layer ({}), alpha {:.6g}{}\n", name,
                     format_bytes(static_cast<std::uint64_t>(bound.layer_bytes)), why,
                     fraction(bound.split), choice.binds == name ? " <- binds" : "");
}

}  // namespace

std::string slot_choice_text(const SlotChoice& choice) {
  if (!choice.why_none.empty()) {
    return fmt::format("memory.saved_inputs.policy \"auto\": everything is kept in full: {}.\n",
                       choice.why_none);
  }
  std::string text = fmt::format(
      "memory.saved_inputs.policy \"auto\": on the host wait, of blocks 0-{}, {:.6g} of what is "
      "not made again ({} a layer) and alpha = {:.6g} of what is ({}); blocks {} and {} keep all "
      "here.\n",
      choice.layers - 1, fraction(choice.always), format_bytes(choice.always_bytes),
      fraction(choice.split), format_bytes(choice.split_bytes), choice.layers, choice.layers + 1);
  text += bound_line("link", choice, choice.link,
                     fmt::format("in the {:.3g} s of its forward", choice.layer_seconds));
  text += bound_line(
      "host", choice, choice.host,
      fmt::format("of {} for {} layers", format_bytes(choice.host_limit), choice.layers));
  if (choice.binds == "neither") text += "  neither binds: all of it goes\n";
  for (const model::SlotWords& slot : model::saved_slots()) {
    text += fmt::format("  {:<17} {}\n", slot.name, choice.texts[slot.slot]);
  }
  return text;
}

}  // namespace longspan::train
