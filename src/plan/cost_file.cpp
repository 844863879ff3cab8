#include "longspan/plan/cost_file.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "longspan/base/declarations.h"
#include "longspan/base/error.h"
#include "longspan/base/file.h"
#include "longspan/base/json.h"

namespace longspan::plan {
namespace {

using base::InputError;

constexpr double kMostRanks = 1 << 20;
constexpr double kMostTokens = 1099511627776.0;  // 2^40: their squares are exact enough
constexpr double kMostSeconds = 1e9;
/// Of kinds: degrees and levels are few.
constexpr std::size_t kMostKinds = 1024;

/// The members as JSON has them.
struct Head {
  std::int64_t ranks = 1;
  double micro_batch_seconds = 0;
  std::string source;
};

void declare(Head& head, base::Declarations& keys) {
  keys.text("source", head.source, "Where the figures come from.");
  keys.integer("ranks", head.ranks, "Ranks that the figures are for.")
      .required()
      .at_least(1)
      .at_most(kMostRanks);
  keys.real("micro_batch_seconds", head.micro_batch_seconds,
            "Of every micro-batch, whatever its groups.")
      .required()
      .at_least(0)
      .at_most(kMostSeconds);
}

void declare(GroupKind& kind, std::int64_t& degree, base::Declarations& keys) {
  keys.integer("degree", degree, "Ranks, a power of two.").required().at_least(1);
  keys.text("level", kind.level, "Of activation checkpointing; empty: the job's own.");
  const auto seconds = [&](const char* key, double& target, const char* help) {
    keys.real(key, target, help).required().at_least(0).at_most(kMostSeconds);
  };
  seconds("fixed_seconds", kind.fixed_seconds, "Of a group, whatever it runs.");
  seconds("seconds_per_token", kind.seconds_per_token, "For each token of a sequence.");
  seconds("seconds_per_token_squared", kind.seconds_per_token_squared,
          "For the square of a sequence's tokens.");
  keys.integer("max_tokens", kind.max_tokens, "Of all sequences together, by memory.")
      .required()
      .at_least(1)
      .at_most(kMostTokens);
}

GroupKind read_kind(const nlohmann::json& found, const std::string& where, std::int64_t ranks) {
  GroupKind kind;
  std::int64_t degree = 1;
  base::Declarations keys("Kind", "");
  declare(kind, degree, keys);
  keys.read(found, where);
  if ((degree & (degree - 1)) != 0 || degree > ranks) {
    throw InputError(fmt::format("{}: degree is {}; legal: a power of two, at most the {} ranks",
                                 where, degree, ranks));
  }
  kind.degree = static_cast<int>(degree);
  if (kind.fixed_seconds == 0 && kind.seconds_per_token == 0 &&
      kind.seconds_per_token_squared == 0) {
    throw InputError(fmt::format(
        "{}: fixed_seconds, seconds_per_token and seconds_per_token_squared are all 0, as if a "
        "group took no time; one of them must be above 0",
        where));
  }
  return kind;
}

void check_new(const std::vector<GroupKind>& kinds, const GroupKind& kind,
               const std::string& where) {
  for (std::size_t i = 0; i < kinds.size(); ++i) {
    if (kinds[i].degree == kind.degree && kinds[i].level == kind.level) {
      throw InputError(
          fmt::format("{}: degree and level are those of kinds[{}]; keep one", where, i));
    }
  }
}

CostModel read(nlohmann::json document, const std::string& file) {
  nlohmann::json kinds;
  if (document.is_object() && document.contains("kinds")) {
    kinds = document["kinds"];
    document.erase("kinds");
  }
  Head head;
  base::Declarations keys("Cost file", "");
  declare(head, keys);
  keys.read(document, file);
  if (!kinds.is_array() || kinds.empty() || kinds.size() > kMostKinds) {
    throw InputError(
        fmt::format("{}: \"kinds\" must be a list of 1 to {} objects, one for each kind of group",
                    file, kMostKinds));
  }
  CostModel costs;
  costs.ranks = static_cast<int>(head.ranks);
  costs.micro_batch_seconds = head.micro_batch_seconds;
  costs.source = head.source;
  for (const nlohmann::json& found : kinds) {
    const std::string where = fmt::format("{}: kinds[{}]", file, costs.kinds.size());
    const GroupKind kind = read_kind(found, where, head.ranks);
    check_new(costs.kinds, kind, where);
    costs.kinds.push_back(kind);
  }
  return costs;
}

}  // namespace

CostModel read_cost_file(const std::filesystem::path& file) {
  return read(base::read_json(file), file.string());
}

CostModel parse_cost_file(std::string_view text, const std::string& file) {
  return read(base::parse_json(text, file), file);
}

std::string to_json(const CostModel& costs) {
  nlohmann::ordered_json kinds = nlohmann::ordered_json::array();
  for (const GroupKind& kind : costs.kinds) {
    kinds.push_back({{"degree", kind.degree},
                     {"level", kind.level},
                     {"fixed_seconds", kind.fixed_seconds},
                     {"seconds_per_token", kind.seconds_per_token},
                     {"seconds_per_token_squared", kind.seconds_per_token_squared},
                     {"max_tokens", kind.max_tokens}});
  }
  const nlohmann::ordered_json document = {{"source", costs.source},
                                           {"ranks", costs.ranks},
                                           {"micro_batch_seconds", costs.micro_batch_seconds},
                                           {"kinds", std::move(kinds)}};
  return base::json_text(document, 2) + "\n";
}

}  // namespace longspan::plan
