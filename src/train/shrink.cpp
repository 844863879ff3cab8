#include "train/shrink.h"

#include <fmt/format.h>

#include <algorithm>
#include <numeric>

#include "longspan/base/error.h"
#include "longspan/nn/lora.h"
#include "longspan/shard/mesh.h"

namespace longspan::train {
namespace {

constexpr std::int64_t kLayers = 2;
constexpr std::int64_t kHeadDim = 16;
constexpr std::int64_t kVocab = 512;
constexpr std::int64_t kWindow = 100;
constexpr std::int64_t kRowTokens = 384;
constexpr std::int64_t kTokensOfRank = 8;
constexpr int kRanges = 3;

/// The same without codes.
nn::SaveParts exact(const nn::SaveParts& parts) {
  std::vector<nn::SaveParts::Part> all = parts.parts();
  for (nn::SaveParts::Part& part : all) {
    part.policy.codes = nn::SavePolicy::Codes::kNone;
    part.policy.rounding = nn::SavePolicy::Rounding::kNearest;
  }
  return nn::SaveParts(all);
}

/// Slots of the smaller job wait as those of layers spread over the model, but exactly: 8-bit codes
/// are another computation, not another layout of it.
void unround_slots(const Job& job, Shrunk& shrunk) {
  const model::MemoryPolicy policy = memory_policy(job);
  const std::int64_t layers = job.model.num_hidden_layers;
  const std::int64_t fewer = shrunk.job.model.num_hidden_layers;
  for (const model::SlotWords& slot : model::saved_slots()) {
    if (job.memory.saved_inputs[slot.slot] == "full") continue;
    std::string text;
    bool has_codes = false;
    for (std::int64_t layer = 0; layer < fewer; ++layer) {
      const std::int64_t from = layer * (layers - 1) / std::max<std::int64_t>(fewer - 1, 1);
      const nn::SaveParts& found = policy.slots(from)[slot.slot];
      has_codes = has_codes || found.has_codes();
      text += fmt::format("{}{}: {}", layer == 0 ? "" : ", ", layer, model::text_of(exact(found)));
    }
    shrunk.job.memory.saved_inputs[slot.slot] = text;
    if (!has_codes) continue;
    shrunk.changes.push_back(fmt::format("memory.saved_inputs.{} without 8-bit codes", slot.name));
  }
  shrunk.job.memory.saved_rounding = "nearest";
}

class Shrinking {
 public:
  explicit Shrinking(const Job& job) : before_(job) { result_.job = job; }

  Shrunk finish() { return std::move(result_); }

  void shrink_model() {
    model::ModelConfig& model = result_.job.model;
    const std::int64_t layers = model.num_hidden_layers;
    lower("model.num_hidden_layers", model.num_hidden_layers, kLayers);
    shrink_checkpointing(layers);
    shrink_windows();
    lower("model.head_dim", model.head_dim, kHeadDim);
    lower("model.hidden_size", model.hidden_size, model.num_attention_heads * model.head_dim);
    const std::int64_t width = before_.model.hidden_size;
    lower("model.intermediate_size", model.intermediate_size,
          (before_.model.intermediate_size * model.hidden_size + width - 1) / width);
    lower("model.vocab_size", model.vocab_size, kVocab);
  }

  void shrink_adapter() {
    if (result_.job.lora()) shrink_targets("adapter", result_.job.adapter.lora.target_modules);
  }

  void shrink_sampling() {
    model::RowSamplingConfig& sampling = result_.job.column_row_sampling;
    if (sampling.is_on()) shrink_targets("column_row_sampling", sampling.target_modules);
  }

  /// Fewer groups where they do not divide the inputs any more.
  void shrink_velora() {
    model::VeloraConfig& velora = result_.job.velora;
    if (!velora.is_on()) return;
    shrink_targets("velora", velora.target_modules);
    std::int64_t groups = velora.groups;
    for (const auto& module : model::targeted_modules(result_.job.model, velora.target_modules)) {
      groups = std::gcd(groups, module.inputs);
    }
    lower("velora.groups", velora.groups, groups);
  }

  void shrink_batch(const ParallelLayout& layout) {
    Job::Training& training = result_.job.training;
    lower("training.micro_batch_tokens", training.micro_batch_tokens,
          std::max(kRowTokens, kTokensOfRank * layout.sequence.ranks()));
    // One row more than two a group: not all groups have as many. Where steps are planned, groups
    // of all sizes are to have something.
    const std::int64_t groups =
        before_.parallel.plans_steps() ? groups_of_all_sizes(layout) : layout.data;
    const std::int64_t rows = std::min<std::int64_t>(ParallelLayout::rows(before_), 2 * groups + 1);
    lower("training.tokens_per_step", training.tokens_per_step, rows * training.micro_batch_tokens);
  }

  void shrink_slots() { unround_slots(before_, result_); }

  void shrink_budgets() {
    Job::Memory& memory = result_.job.memory;
    const bool recomputes = memory.activation_checkpointing != "none";
    const bool is_whole =
        memory.mini_sequence_mlp == "none" || (memory.mini_sequence_mlp == "auto" && !recomputes);
    if (!is_whole) {
      take_ranges("memory.mini_sequence.mlp", memory.mini_sequence_mlp);
      memory.saved_inputs[model::Slot::kMlpUp] = "full";
    }
    take_ranges("memory.mini_sequence.lm_head", memory.mini_sequence_lm_head);
  }

 private:
  /// The largest ones, and one of each smaller size.
  static std::int64_t groups_of_all_sizes(const ParallelLayout& layout) {
    const std::vector<int> sizes = shard::aligned_sizes(layout.sequence.ranks());
    return layout.data + static_cast<std::int64_t>(sizes.size()) - 1;
  }

  void lower(const char* key, std::int64_t& value, std::int64_t most) {
    if (value <= most) return;
    result_.changes.push_back(fmt::format("{} {} of {}", key, most, value));
    value = most;
  }

  /// Levels by layers: those of layers spread over the model.
  void shrink_checkpointing(std::int64_t layers) {
    std::string& text = result_.job.memory.activation_checkpointing;
    if (text.find(':') == std::string::npos) return;
    const model::MemoryPolicy policy = memory_policy(before_);
    const std::int64_t fewer = result_.job.model.num_hidden_layers;
    std::string levels;
    for (std::int64_t layer = 0; layer < fewer; ++layer) {
      const std::int64_t from = layer * (layers - 1) / std::max<std::int64_t>(fewer - 1, 1);
      levels += fmt::format("{}{}: {}", layer == 0 ? "" : ", ", layer,
                            model::words_of(policy.checkpointing(from)).name);
    }
    text = levels;
  }

  /// A window that hides something of the shorter rows, and a layer of each kind.
  void shrink_windows() {
    model::ModelConfig& model = result_.job.model;
    if (model.sliding_window.value_or(0) == 0) return;
    lower("model.sliding_window", *model.sliding_window, kWindow);
    const std::vector<std::string> types = before_.model.types_of_layers();
    const auto other = std::find_if(types.begin(), types.end(),
                                    [&](const std::string& type) { return type != types.front(); });
    model.layer_types.assign(static_cast<std::size_t>(model.num_hidden_layers), types.front());
    if (other != types.end()) model.layer_types.back() = *other;
  }

  /// Targets that name single layers may be of those that are gone.
  void shrink_targets(const char* section, std::vector<std::string>& targets) {
    try {
      model::check_targets(targets, result_.job.model, "");
    } catch (const base::InputError&) {
      targets = {nn::ModuleNames::kAllLinear};
      result_.changes.push_back(
          fmt::format("{}.target_modules \"all-linear\" for those of single layers", section));
    }
  }

  void take_ranges(const char* key, std::string& text) {
    // A number of ranges stays.
    if (std::all_of(text.begin(), text.end(), [](char c) { return c >= '0' && c <= '9'; })) return;
    result_.changes.push_back(fmt::format("{} {} ranges for \"{}\"", key, kRanges, text));
    text = std::to_string(kRanges);
  }

  const Job& before_;
  Shrunk result_;
};

}  // namespace

Shrunk shrink(const Job& job, const ParallelLayout& layout) {
  Shrinking shrinking(job);
  shrinking.shrink_model();
  shrinking.shrink_adapter();
  shrinking.shrink_velora();
  shrinking.shrink_sampling();
  shrinking.shrink_batch(layout);
  shrinking.shrink_slots();
  shrinking.shrink_budgets();
  return shrinking.finish();
}

Shrunk whole(const Job& job) {
  Shrunk same{job, {}};
  unround_slots(job, same);
  return same;
}

Job plain(const Job& job) {
  Job oracle = job;
  oracle.memory = {};
  oracle.memory.limit = job.memory.limit;
  oracle.memory.mini_sequence_mlp = "none";
  oracle.memory.mini_sequence_lm_head = std::to_string(1);
  oracle.parallel = {};
  return oracle;
}

}  // namespace longspan::train
