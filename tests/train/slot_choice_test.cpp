// What waits on the host where "auto" chooses: the solver against all fractions of a grid, and what
// it is told of jobs against plans of them.
#include "train/slot_choice.h"

#include <algorithm>
#include <catch2/catch.hpp>

#include "longspan/base/random.h"
#include "tests/model/fixture.h"
#include "tests/train/job_text.h"

namespace longspan::train {
namespace {

using Catch::Matchers::Contains;
using nn::SaveParts;
using test::refusal_of;

constexpr double kWhole = SaveParts::kWhole;

/// The most of a grid of thousandths that is within the bounds: first of what is always sent.
OffloadFractions best_of_grid(const OffloadTask& task) {
  const double room = std::min(task.link_bytes, task.host_bytes);
  OffloadFractions best;
  for (std::int64_t always = 0; always <= 1000; ++always) {
    if (static_cast<double>(always) / 1000 * task.always_bytes <= room) best.always = always;
  }
  if (best.always < 1000) return best;
  for (std::int64_t split = 0; split <= 1000; ++split) {
    const double bytes = task.always_bytes + static_cast<double>(split) / 1000 * task.split_bytes;
    if (bytes <= room) best.split = split;
  }
  return best;
}

TEST_CASE("slot choice: the largest fractions within both bounds, against a grid of all") {
  const base::RandomStream random(7, base::Purpose::kTest, 0, 0);
  int partly = 0;
  for (std::uint64_t at = 0; at < 4000; at += 4) {
    const OffloadTask task{1e9 * random.uniform(at), 4e9 * random.uniform(at + 1),
                           6e9 * random.uniform(at + 2), 6e9 * random.uniform(at + 3)};
    const OffloadFractions found = solve_offload(task);
    const OffloadFractions grid = best_of_grid(task);
    CHECK(found.always / 1000 == grid.always);
    CHECK(found.split / 1000 == grid.split);
    // Within the bounds to the byte, and a millionth more is not.
    const auto bytes = [&](std::int64_t always, std::int64_t split) {
      return static_cast<double>(always) / kWhole * task.always_bytes +
             static_cast<double>(split) / kWhole * task.split_bytes;
    };
    const double room = std::min(task.link_bytes, task.host_bytes);
    CHECK(bytes(found.always, found.split) <= room * (1 + 1e-12));
    if (found.always < SaveParts::kWhole) CHECK(bytes(found.always + 1, 0) > room);
    if (found.always == SaveParts::kWhole && found.split < SaveParts::kWhole) {
      CHECK(bytes(found.always, found.split + 1) > room * (1 - 1e-12));
      ++partly;
    }
  }
  CHECK(partly > 300);
}

TEST_CASE("slot choice: where there is nothing to send, or no room") {
  const auto solve = [](double always, double split, double link, double host) {
    const OffloadFractions found = solve_offload({always, split, link, host});
    return std::pair(found.always, found.split);
  };
  using Pair = std::pair<std::int64_t, std::int64_t>;
  CHECK(solve(0, 0, 0, 0) == Pair(1'000'000, 1'000'000));
  CHECK(solve(10, 10, 0, 100) == Pair(0, 0));
  CHECK(solve(10, 10, 100, 5) == Pair(500'000, 0));
  CHECK(solve(10, 10, 10, 10) == Pair(1'000'000, 0));
  CHECK(solve(10, 10, 100, 20) == Pair(1'000'000, 1'000'000));
  CHECK(solve(10, 0, 10, 20) == Pair(1'000'000, 1'000'000));
}

/// A job of a family, of rows that divide, on a GPU; with five layers, of which three send.
struct Choosing {
  explicit Choosing(const model::ModelConfig& config) : setting(of(1)) {
    job.model = config;
    job.model.num_hidden_layers = 5;
    job.model.layer_types.clear();
    job.model.resolve("model");
    job.run.device = "cuda";
    job.training.steps = 10;
    job.training.micro_batch_tokens = 512;
    job.training.tokens_per_step = 2048;
    job.memory.saved_policy = "auto";
  }

  static PlanSetting of(int ranks) {
    return PlanSetting::of(ranks, backend::DeviceProfile::load("h200"));
  }

  Job job;
  PlanSetting setting;
};

TEST_CASE("slot choice: it knows the bytes of every slot, whatever is exchanged") {
  for (const model::ModelConfig& config : model::test::small_configs()) {
    for (const auto& [ranks, sequence] :
         {std::pair(1, "1"), {2, "2"}, {2, "1x2"}, {4, "2x2"}, {4, "1x2"}}) {
      INFO(config.model_type << ", " << sequence << " of " << ranks);
      Choosing choosing(config);
      choosing.job.parallel.sequence = sequence;
      choosing.job.parallel.zero_stage = 0;
      choosing.setting = Choosing::of(ranks);
      choosing.setting.device.host_bandwidth = 1e15;
      const Plan plan = make_plan(choosing.job, choosing.setting);
      REQUIRE(plan.slots);
      CHECK(plan.slots->binds == "neither");
      CHECK(plan.host_bytes == 3 * (plan.slots->always_bytes + plan.slots->split_bytes));
    }
  }
}

TEST_CASE("slot choice: neither the link nor the host gets more than it has, and which one binds") {
  Choosing choosing(model::test::small_config(false));
  const SlotChoice all = choose_slots(choosing.job, choosing.setting);
  const auto always = static_cast<double>(all.always_bytes);
  const auto split = static_cast<double>(all.split_bytes);
  // So that half of what can be made again goes over the link.
  choosing.setting.device.host_bandwidth = (always + split / 2) / all.layer_seconds;
  const SlotChoice link = choose_slots(choosing.job, choosing.setting);
  CHECK(link.binds == "link");
  CHECK(link.always == SaveParts::kWhole);
  CHECK(std::abs(link.split - 500'000) <= 1);
  CHECK(link.link.split == link.split);
  CHECK(link.host.split == SaveParts::kWhole);
  CHECK(link.texts[model::Slot::kBlockInput] == "0-2: host");
  CHECK_THAT(link.texts[model::Slot::kMlpUp], Contains("0-2: 0.") && Contains(" host | recompute"));
  CHECK(choose_slots(choosing.job, choosing.setting).texts == link.texts);

  choosing.job.memory.saved_host_limit = static_cast<std::uint64_t>(3 * (always + split / 4));
  const SlotChoice host = choose_slots(choosing.job, choosing.setting);
  CHECK(host.binds == "host");
  CHECK(std::abs(host.split - 250'000) <= 1);
  CHECK(host.link.split == link.split);
  const Plan plan = make_plan(choosing.job, choosing.setting);
  CHECK(plan.host_bytes <= choosing.job.memory.saved_host_limit);
  CHECK(plan.host_bytes > choosing.job.memory.saved_host_limit * 99 / 100);
  CHECK(plan.recomputed_flops > 0);

  choosing.job.memory.saved_host_limit = static_cast<std::uint64_t>(3 * always / 2);
  const SlotChoice little = choose_slots(choosing.job, choosing.setting);
  CHECK(std::abs(little.always - 500'000) <= 1);
  CHECK(little.split == 0);
  CHECK(little.texts[model::Slot::kAttentionQkv] == "0-2: recompute");
  CHECK_THAT(little.texts[model::Slot::kBlockMiddle], Contains("host | full"));
  CHECK(make_plan(choosing.job, choosing.setting).host_bytes <=
        choosing.job.memory.saved_host_limit);
}

TEST_CASE("slot choice: what each layer keeps, and what ranks exchange, decides what it says") {
  Choosing choosing(model::test::small_config(false));
  choosing.job.memory.saved_host_limit = 1000;  // next to nothing
  const auto texts = [&] { return choose_slots(choosing.job, choosing.setting).texts; };
  choosing.job.memory.activation_checkpointing = "block";
  CHECK(texts()[model::Slot::kMlpUp] == "full");
  CHECK(texts()[model::Slot::kAttentionQkv] == "full");
  CHECK_THAT(texts()[model::Slot::kBlockInput], Contains("0-2: "));
  choosing.job.memory.activation_checkpointing = "1: block_keep_attention";
  CHECK(texts()[model::Slot::kMlpUp] == "0-0: recompute, 2-2: recompute");
  CHECK_THAT(texts()[model::Slot::kAttentionOutput], Contains("0-2: "));
  choosing.job.memory.activation_checkpointing = "none";
  choosing.setting = Choosing::of(2);
  choosing.job.parallel.sequence = "2";
  CHECK_THAT(texts()[model::Slot::kAttentionQkv], Contains("host | full"));
  CHECK(texts()[model::Slot::kMlpUp] == "0-2: recompute");
}

TEST_CASE("slot choice: on a processor, and with two layers, everything is kept in full") {
  Choosing choosing(model::test::small_config(false));
  const PlanSetting cpu = PlanSetting::of(1, backend::DeviceProfile::load("cpu"));
  const SlotChoice nothing = choose_slots(choosing.job, cpu);
  CHECK(nothing.texts == model::SlotTexts::all("full"));
  CHECK_THAT(slot_choice_text(nothing), Contains("memory is the host's"));
  CHECK(make_plan(choosing.job, cpu).host_bytes == 0);
  choosing.job.model.num_hidden_layers = 2;
  choosing.job.model.layer_types.clear();
  choosing.job.model.resolve("model");
  const SlotChoice two = choose_slots(choosing.job, choosing.setting);
  CHECK(two.texts == model::SlotTexts::all("full"));
  CHECK_THAT(slot_choice_text(two), Contains("the last two layers"));
}

TEST_CASE("slot choice: keys that do not go with it") {
  const std::string automatic = "memory.saved_inputs.policy=auto";
  const Job job =
      test::read(test::smallest().dump(), {automatic, "memory.saved_inputs.host_limit=1GiB"});
  CHECK(job.memory.chooses_saved_inputs());
  CHECK(job.memory.saved_host_limit == std::uint64_t{1} << 30U);
  CHECK(to_json(test::read(to_json(job))) == to_json(job));
  CHECK_THAT(
      refusal_of({"memory.saved_inputs.policy=alpha"}),
      Contains("memory.saved_inputs.policy") && Contains("\"by_slot\"") && Contains("\"auto\""));
  CHECK_THAT(refusal_of({automatic, "memory.saved_inputs.mlp_up=host"}),
             Contains("chooses for every slot, but memory.saved_inputs.mlp_up is \"host\""));
  CHECK_THAT(refusal_of({automatic, "memory.saved_inputs.rounding=stochastic"}),
             Contains("nothing waits in 8-bit codes"));
  CHECK_THAT(refusal_of({automatic, "parallel.planner=flexible"}),
             Contains("rows of one length, but parallel.planner is \"flexible\""));
  CHECK_THAT(refusal_of({automatic, "optimizer.name=mezo"}), Contains("no backward"));
  CHECK_THAT(refusal_of({"memory.saved_inputs.host_limit=1GiB"}),
             Contains("only \"auto\" has a limit"));
  CHECK_THAT(refusal_of({automatic, "memory.saved_inputs.host_limit=0"}), Contains("host_limit"));
}

TEST_CASE("slot choice: a job keeps its word, whatever was chosen") {
  Choosing choosing(model::test::small_config(false));
  const std::string before = to_json(choosing.job);
  const Job chosen = with_chosen_slots(choosing.job, choosing.setting);
  CHECK(chosen.memory.saved_inputs[model::Slot::kBlockInput] == "0-2: host");
  CHECK_FALSE(chosen.memory.chooses_saved_inputs());
  CHECK(to_json(chosen) == before);
}

TEST_CASE(
    "parts: what is made again of heads that ranks exchange is refused, with another layout") {
  Choosing choosing(model::test::small_config(false));
  choosing.job.memory.saved_policy = "by_slot";
  choosing.job.memory.saved_inputs[model::Slot::kAttentionQkv] = "1: 0.5 full | recompute";
  choosing.setting = Choosing::of(2);
  choosing.job.parallel.sequence = "1x2";
  CHECK(make_plan(choosing.job, choosing.setting).recomputed_flops > 0);
  choosing.job.parallel.sequence = "2";
  CHECK_THROWS_WITH(make_plan(choosing.job, choosing.setting),
                    Contains("memory.saved_inputs.attention_qkv is \"1: 0.5 full | recompute\"") &&
                        Contains("2 Ulysses ranks exchange heads") && Contains("\"1x2\""));
  choosing.job.memory.saved_inputs[model::Slot::kAttentionQkv] = "0 recompute | full";
  CHECK(make_plan(choosing.job, choosing.setting).recomputed_flops == 0);
}

}  // namespace
}  // namespace longspan::train
