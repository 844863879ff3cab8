#include "train/plan_message.h"

#include <nlohmann/json.hpp>

namespace longspan::train {
namespace {

using Json = nlohmann::json;

Json json_of(const plan::MicroBatch& micro_batch) {
  Json groups = Json::array();
  for (const plan::Group& group : micro_batch.groups) {
    groups.push_back({group.first_rank, group.degree, group.kind, group.sequences});
  }
  return {micro_batch.seconds, std::move(groups)};
}

plan::MicroBatch micro_batch_of(const Json& json) {
  plan::MicroBatch micro_batch;
  micro_batch.seconds = json.at(0).get<double>();
  for (const Json& one : json.at(1)) {
    plan::Group group;
    one.at(0).get_to(group.first_rank);
    one.at(1).get_to(group.degree);
    one.at(2).get_to(group.kind);
    one.at(3).get_to(group.sequences);
    micro_batch.groups.push_back(std::move(group));
  }
  return micro_batch;
}

}  // namespace

std::string message_of(const plan::StepPlan& plan) {
  Json micro_batches = Json::array();
  for (const plan::MicroBatch& micro_batch : plan.micro_batches) {
    micro_batches.push_back(json_of(micro_batch));
  }
  const Json json = {plan.seconds, plan.bound_seconds, std::move(micro_batches)};
  const std::vector<std::uint8_t> bytes = Json::to_cbor(json);
  return std::string(1, '\0') + std::string(bytes.begin(), bytes.end());
}

std::string message_of(base::ExitCode code, const std::string& what) {
  return std::string(1, static_cast<char>(code)) + what;
}

plan::StepPlan plan_in(const std::string& message) {
  if (message.empty()) throw base::InternalError("a step's plan came without contents");
  if (message.front() != '\0') {
    throw base::Error(static_cast<base::ExitCode>(message.front()), message.substr(1), true);
  }
  const Json json = Json::from_cbor(message.begin() + 1, message.end());
  plan::StepPlan plan;
  plan.seconds = json.at(0).get<double>();
  plan.bound_seconds = json.at(1).get<double>();
  for (const Json& one : json.at(2)) plan.micro_batches.push_back(micro_batch_of(one));
  return plan;
}

}  // namespace longspan::train
