#include "longspan/train/job.h"
#include "longspan/train/clip_job.h"

#include <fmt/format.h>

#include <catch2/catch.hpp>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <random>
#include <string>
#include <vector>

#include "longspan/backend/device_profile.h"
#include "longspan/base/declarations.h"
#include "longspan/base/error.h"
#include "longspan/base/file.h"
#include "longspan/base/json.h"
#include "tests/support/temporary_directory.h"
#include "tests/support/test_data.h"
#include "tests/train/job_text.h"

namespace longspan::train {
namespace {

using Catch::Matchers::Contains;
using Catch::Matchers::EndsWith;
using nlohmann::json;
using test::read;
using test::refusal;
using test::refusal_of;
using test::refusal_with;
using test::smallest;

std::string documentation() {
  return base::read_text(test::data_folder().parent_path() / "docs" / "job-file.md");
}

}  // namespace

TEST_CASE("the smallest job has the defaults of the struct") {
  const Job job = read(smallest().dump());
  CHECK(job.run.output_dir == "out");
  CHECK(job.run.name == "run");
  CHECK(job.run.seed == 1);
  CHECK(job.run.threads == 0);
  CHECK(job.model.model_type == "llama");
  CHECK(job.model.num_key_value_heads == 4);
  CHECK(job.model.head_dim == 16);
  CHECK(job.data.train == std::vector<std::string>{"a.tokens"});
  CHECK(job.data.packing == "packed");
  CHECK(job.optimizer.beta2 == 0.95);
  CHECK(job.schedule.name == "cosine");
  CHECK(job.training.precision == "fp32");
  CHECK(job.memory.limit == 0);
  CHECK(job.parallel.data == 0);
  CHECK(job.parallel.zero_stage == 1);
  CHECK(job.checkpoint.keep_last == 3);
  CHECK(job.logging.tensorboard);
}

TEST_CASE("job files that are not legal are refused with the reason") {
  CHECK_THAT(refusal_with("optimizer", "learning_rat", 1),
             EndsWith("optimizer.learning_rat: unknown key; did you mean "
                      "optimizer.learning_rate?"));
  CHECK_THAT(refusal_with("optimizer", "lr", 1), EndsWith("did you mean optimizer.learning_rate?"));
  CHECK_THAT(refusal_with("optmizer", "beta1", 1),
             EndsWith("optmizer: unknown section; did you mean optimizer?"));
  CHECK_THAT(refusal_with("training", "learning_rate", 1),
             EndsWith("did you mean optimizer.learning_rate?"));
  CHECK_THAT(refusal_with("training", "batch_size", 8),
             EndsWith("did you mean training.tokens_per_step?"));
  CHECK_THAT(refusal_with("training", "warmup", 8),
             EndsWith("did you mean schedule.warmup_steps?"));
  CHECK_THAT(refusal_with("model", "n_layer", 8),
             EndsWith("did you mean model.num_hidden_layers?"));
  CHECK_THAT(refusal_with("model", "bananas", 8),
             Contains("legal in model: from, model_type, vocab"));
  CHECK_THAT(refusal_with("model", "hidden_size", "64"),
             Contains("model.hidden_size is \"64\"; legal: integer in [1, 16777216]"));
  CHECK_THAT(refusal_with("model", "head_dim", nullptr), Contains("model.head_dim is null"));
  CHECK_THAT(refusal_with("data", "train", json::array()), Contains("data.train is []"));
  CHECK_THAT(refusal_with("data", "train", "a.tokens"), Contains("legal: list of paths"));
  CHECK_THAT(refusal_with("training", "steps", 3.5), Contains("training.steps is 3.5"));
  json incomplete = smallest();
  incomplete["optimizer"].erase("learning_rate");
  incomplete.erase("run");
  CHECK_THAT(refusal(incomplete.dump()),
             Contains("required but missing: run.output_dir (path, not empty), "
                      "optimizer.learning_rate (number > 0)"));
  json without_model = smallest();
  without_model["model"] = json::object();
  CHECK_THAT(refusal(without_model.dump()),
             Contains("required but missing: model.vocab_size (integer in [1, 2147483647]), "
                      "model.hidden_size"));
  CHECK_THAT(refusal("{\"run\": {},}"), Contains("job.json:1:12: not valid JSON"));
  CHECK_THAT(refusal("{\"run\": {}, \"run\": {}}"), Contains("\"run\" is there twice"));
  CHECK_THAT(refusal(""), Contains("job.json: empty"));
  CHECK_THAT(refusal(fmt::format("[{:2000000}]", "")), Contains("at most 1.00 MiB"));
  CHECK_THROWS_WITH(read_job("no/such/job.json", {}), Contains("no/such/job.json"));
}

TEST_CASE("values of a job out of range are refused") {
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"run.device=tpu", "run.device is \"tpu\"; legal: \"cpu\" or \"cuda\""},
      {"run.threads=0", "run.threads is 0"},
      {"run.seed=-1", "run.seed is -1"},
      {"run.output_dir=", "run.output_dir is \"\""},
      {"model.model_type=gpt3",
       "model.model_type is \"gpt3\"; legal: \"llama\", \"gpt2\", \"qwen2\", "},
      {"model.vocab_size=4294967296", "model.vocab_size is 4294967296"},
      {"model.num_key_value_heads=0", "model.num_key_value_heads is 0"},
      {"model.rms_norm_eps=0", "model.rms_norm_eps is 0"},
      {"data.packing=padded", "legal: \"packed\" or \"streamed\""},
      {"data.validation_fraction=1", "legal: number in [0, 1)"},
      {"optimizer.name=sgd",
       "legal: \"adamw\", \"adamw_8bit\", \"galore\", \"blockllm\", "
       "\"mezo\" or \"lozo\""},
      {"optimizer.moments=fp16", "optimizer.moments is \"fp16\"; legal: \"full\" or \"bf16\""},
      {"optimizer.galore.rank=0", "optimizer.galore.rank is 0"},
      {"optimizer.galore.interval=0", "optimizer.galore.interval is 0"},
      {"optimizer.galore.scale=0", "optimizer.galore.scale is 0"},
      {"optimizer.zeroth_order.perturbation=0", "optimizer.zeroth_order.perturbation is 0"},
      {"optimizer.zeroth_order.rank=0", "optimizer.zeroth_order.rank is 0"},
      {"optimizer.zeroth_order.interval=0", "optimizer.zeroth_order.interval is 0"},
      {"optimizer.learning_rate=0", "legal: number > 0"},
      {"optimizer.beta1=1", "optimizer.beta1 is 1"},
      {"optimizer.beta2=-0.1", "optimizer.beta2 is -0.1"},
      {"optimizer.offload=nvme", "optimizer.offload is \"nvme\"; legal: \"none\" or \"host\""},
      {"optimizer.max_grad_norm=1e999", "optimizer.max_grad_norm is \"1e999\""},
      {"schedule.name=cosin", "legal: \"constant\", \"linear\", \"cosine\" or \"wsd\""},
      {"schedule.min_ratio=1.5", "legal: number in [0, 1]"},
      {"training.precision=fp16", "legal: \"fp32\", \"bf16\" or \"fp64\""},
      {"training.steps=0", "training.steps is 0"},
      {"training.steps=4294967296", "training.steps is 4294967296"},
      {"memory.limit=1Gb", "memory.limit is \"1Gb\"; legal: size"},
      {"parallel.data=0", "legal: integer in [1, 2147483647], or \"auto\""},
      {"parallel.zero_stage=4", "parallel.zero_stage is 4; legal: integer in [0, 3]"},
      {"checkpoint.keep_last=-1", "checkpoint.keep_last is -1"},
      {"checkpoint.resume=", "legal: \"auto\", \"never\" or a path"},
      {"logging.every=0", "logging.every is 0"},
      {"logging.peak_tflops=0", "logging.peak_tflops is 0"},
  };
  for (const auto& [setting, message] : cases) {
    INFO(setting);
    CHECK_THAT(refusal_of({setting}), Contains(message));
  }
}

TEST_CASE("keys of a job that do not go together are refused, both named") {
  const auto refuses = [](const std::vector<std::string>& settings, const std::string& first,
                          const std::string& second) {
    const std::string message = refusal_of(settings);
    CHECK_THAT(message, Contains("job.json: ") && Contains(first) && Contains(second));
  };
  refuses({"training.tokens_per_step=500"}, "training.tokens_per_step is 500",
          "training.micro_batch_tokens, which is 128");
  refuses({"model.max_position_embeddings=127"}, "training.micro_batch_tokens is 128",
          "model.max_position_embeddings, which is 127");
  refuses({"schedule.name=wsd"}, "schedule.decay_steps", "\"wsd\" needs");
  refuses({"schedule.decay_steps=5"}, "schedule.decay_steps is 5", "\"cosine\"");
  refuses({"schedule.name=constant", "schedule.min_ratio=0.2"}, "schedule.min_ratio is 0.2",
          "\"constant\"");
  refuses({"schedule.warmup_steps=101"}, "schedule.warmup_steps (101)", "which is 100");
  refuses({"schedule.name=wsd", "schedule.warmup_steps=60", "schedule.decay_steps=41"},
          "schedule.decay_steps (41)", "training.steps, which is 100");
  refuses({"optimizer.name=adamw_8bit", "optimizer.moments=bf16"}, "optimizer.moments is \"bf16\"",
          "optimizer.name is \"adamw_8bit\"");
  refuses({"optimizer.moments=bf16", "training.precision=fp64"}, "optimizer.moments is \"bf16\"",
          "training.precision is \"fp64\"");
  refuses({"optimizer.name=adamw_8bit", "training.precision=fp64"},
          "optimizer.name is \"adamw_8bit\"", "training.precision \"fp64\"");
  refuses({"optimizer.name=galore", "optimizer.galore.rank=8", "optimizer.offload=host"},
          "optimizer.offload is \"host\"", "optimizer.name is \"galore\"");
  refuses({"optimizer.name=galore", "optimizer.galore.rank=60000"},
          "optimizer.galore.rank is 60000", "model.hidden_size");
  refuses({"optimizer.galore.rank=7"}, "optimizer.galore.rank", "optimizer.name is \"adamw\"");
  refuses({"optimizer.galore.scale=7"}, "optimizer.galore.scale", "optimizer.name is \"adamw\"");
  refuses({"data.validation=[\"v\"]", "data.validation_fraction=0.1"}, "data.validation and",
          "data.validation_fraction (0.1)");
  refuses({"data.weights=[1, 2]"}, "data.weights has 2", "the 1 files of data.train");
  refuses({"training.validation_every=5"}, "training.validation_every is 5", "data.validation");
  refuses({"training.validation_tokens=5"}, "training.validation_tokens is 5", "data.validation");
  refuses({"model.num_attention_heads=3"}, "model.hidden_size", "num_attention_heads");
  refuses({"model.num_key_value_heads=3"}, "model.num_attention_heads", "num_key_value_heads");

  CHECK(refusal_of({"schedule.name=wsd", "schedule.warmup_steps=60", "schedule.decay_steps=40"}) ==
        "accepted");
  CHECK(refusal_of({"model.max_position_embeddings=128"}) == "accepted");
  CHECK(refusal_of({"data.validation_fraction=0.1", "training.validation_every=5"}) == "accepted");
  CHECK(refusal_of({"schedule.name=constant"}) == "accepted");
  CHECK(refusal_of({"optimizer.name=galore", "optimizer.galore.rank=8"}) == "accepted");
}

TEST_CASE("a job without a backward refuses what only one with it has") {
  const auto refuses = [](const std::string& setting, const std::string& why) {
    for (const char* const name : {"mezo", "lozo"}) {
      const std::string message = refusal_of({std::string("optimizer.name=") + name, setting});
      const std::string key = setting.substr(0, setting.find('='));
      INFO(message);
      CHECK_THAT(message, Contains(key + " is") && Contains(why) &&
                              Contains(std::string("optimizer.name is \"") + name + "\""));
    }
  };
  refuses("optimizer.beta1=0.8", "no means of gradients; leave it out");
  refuses("optimizer.beta2=0.8", "no means of gradients; leave it out");
  refuses("optimizer.epsilon=1e-7", "no means of gradients; leave it out");
  refuses("optimizer.moments=bf16", "no means of gradients; leave it out");
  refuses("optimizer.offload=host", "legal: \"none\"");
  refuses("memory.activation_checkpointing=block", "no backward");
  refuses("memory.saved_inputs.attention_qkv=int8", "no backward");

  const auto refuses_other = [](const std::string& name, const std::string& key,
                                const std::string& legal) {
    CHECK_THAT(refusal_of({"optimizer.name=" + name, "optimizer.zeroth_order." + key + "=3"}),
               Contains("optimizer.zeroth_order." + key + " is given") &&
                   Contains("optimizer.name is \"" + name + "\"") &&
                   Contains("set optimizer.name to " + legal));
  };
  refuses_other("adamw", "perturbation", "\"mezo\" or \"lozo\"");
  refuses_other("adamw_8bit", "rank", "\"lozo\"");
  refuses_other("mezo", "rank", "\"lozo\"");
  refuses_other("mezo", "interval", "\"lozo\"");
  CHECK_THAT(
      refusal_of({"optimizer.name=lozo", "optimizer.zeroth_order.rank=65"}),
      Contains("optimizer.zeroth_order.rank is 65") && Contains("model.hidden_size, which is 64"));

  CHECK(refusal_of({"optimizer.name=mezo", "optimizer.max_grad_norm=3"}) == "accepted");
  CHECK(refusal_of({"optimizer.name=lozo", "optimizer.zeroth_order.rank=64"}) == "accepted");
  Job job = read(smallest().dump(), {"optimizer.name=mezo"});
  CHECK_FALSE(job.has_backward());
  job.adapter.type = "lora";
  job.adapter.lora.rank = 4;
  job.model_from = "base";
  CHECK_NOTHROW(check(job));
  job.adapter.lora.dropout = 0.1;
  CHECK_THROWS_WITH(check(job), Contains("adapter.dropout is 0.1") && Contains("\"mezo\""));
  job.adapter.lora.dropout = 0;
  job.optimizer.name = "lozo";
  job.optimizer.lozo_rank = 5;
  CHECK_THROWS_WITH(check(job), Contains("at most adapter.rank, which is 4"));
}

TEST_CASE("a step without a backward counts two forwards") {
  Job job = read(smallest().dump());
  const double whole = job.training_flops({0, 128});
  job.optimizer.name = "mezo";
  CHECK(job.training_flops({0, 128}) == Approx(whole * 2 / 3));
  job.adapter.type = "lora";
  CHECK(job.training_flops({0, 128}) ==
        Approx(whole * 2 / 3 + 4.0 * 128 * static_cast<double>(job.trained_parameters())));
}

TEST_CASE("a damaged job file is read or refused, never worse") {
  std::mt19937 random(5);
  const std::string intact = smallest().dump();
  const std::string letters = "{}[]\":,.0e-+\\/ ntf\xC3\xFF";
  int refused = 0;
  for (int i = 0; i < 3000; ++i) {
    std::string text = intact;
    for (int changes = 1 + i % 3; changes > 0; --changes) {
      const std::size_t at = random() % text.size();
      if (random() % 2 == 0) {
        text[at] = letters[random() % letters.size()];
      } else {
        text.erase(at, 1 + random() % 4);
      }
    }
    Job job;
    base::Declarations declarations("Job", "");
    declare(job, declarations);
    try {
      declarations.read(base::parse_json(text, "job.json"), "job.json");
      check(job);
    } catch (const base::InputError&) {
      ++refused;
    }
  }
  CHECK(refused > 2000);
  CHECK(refused < 3000);
}

TEST_CASE("the documented example is a legal job") {
  const std::string text = documentation();
  const std::string fence = "```json\n";
  const std::size_t begin = text.find(fence) + fence.size();
  const Job job = read(text.substr(begin, text.find("```", begin) - begin));
  CHECK(job.run.name == "first");
  CHECK(job.memory.limit == 4294967296U);
}

TEST_CASE("a job that begins with a model has its config.json, and may change how far it reaches") {
  const longspan::test::TemporaryDirectory directory;
  model::ModelConfig config;
  config.vocab_size = 300;
  config.hidden_size = 64;
  config.intermediate_size = 96;
  config.num_hidden_layers = 3;
  config.num_attention_heads = 4;
  config.num_key_value_heads = 2;
  config.rope_theta = 5e5;
  config.max_position_embeddings = 4096;
  config.resolve("model");
  directory.write("config.json", config.to_config_json("bfloat16", 1, 2));
  const std::string from = directory.path().string();
  const auto with = [&](const json& keys) {
    json job = smallest();
    job["model"] = keys;
    job["model"]["from"] = from;
    return job.dump();
  };
  const Job job = read(with({}));
  CHECK(job.model_from == from);
  CHECK(job.model.hidden_size == 64);
  CHECK(job.model.rope_theta == 5e5);
  CHECK(to_json(read(to_json(job))) == to_json(job));
  const Job longer = read(with({{"max_position_embeddings", 131072}, {"rope_theta", 8e6}}));
  CHECK(longer.model.max_position_embeddings == 131072);
  CHECK(longer.model.rope_theta == 8e6);
  CHECK(read(with({{"hidden_size", 64}})).model.hidden_size == 64);
  CHECK_THAT(
      refusal(with({{"hidden_size", 128}})),
      Contains("model.hidden_size is 128, but config.json of model.from") && Contains("says 64"));
  CHECK_THAT(refusal(with({{"model_type", "qwen2"}})), Contains("model.model_type is \"qwen2\""));
  CHECK_THAT(refusal(with({{"tie_word_embeddings", true}})),
             Contains("model.tie_word_embeddings is true"));
  json both = json::parse(with({}));
  both["checkpoint"]["resume"] = "runs/other";
  CHECK_THAT(refusal(both.dump()), Contains("both say what the run begins with"));

  config = {};
  config.model_type = "gpt2";
  config.vocab_size = 300;
  config.hidden_size = 64;
  config.intermediate_size = 256;
  config.num_hidden_layers = 3;
  config.num_attention_heads = 4;
  config.resolve("model");
  directory.write("config.json", config.to_config_json("float32", 1, 2));
  CHECK(read(with({})).model.max_position_embeddings == 1024);
  CHECK_THAT(refusal(with({{"max_position_embeddings", 4096}})),
             Contains("model.max_position_embeddings is 4096"));

  directory.write("config.json", "{\"model_type\": \"llama\", \"model_type\": \"gpt2\"}");
  CHECK_THAT(refusal(with({})), Contains("config.json") && Contains("twice"));
  directory.write("config.json", std::string(100000, '['));
  CHECK_THAT(refusal(with({})), Contains("brackets"));
  std::filesystem::remove(directory.path() / "config.json");
  CHECK_THAT(refusal(with({})), Contains("config.json") && Contains("No such file"));
}

TEST_CASE("the documented tables are those of the declarations") {
  const std::string text = documentation();
  const std::string tables = job_markdown();
  REQUIRE_THAT(tables, Contains("### `optimizer`"));
  // To renew the file, replace its parts from "### `run`" on by the output of
  // `longspan schema --markdown`, and with --clips.
  const std::size_t own = text.find("### `run`");
  const std::size_t clips = text.find("## The keys of a job of clips");
  REQUIRE(clips != std::string::npos);
  CHECK(text.substr(own, clips - own) == tables + "\n");
  CHECK(text.substr(text.find("### `run`", clips)) == clip_job_markdown());
}

TEST_CASE("help and schema of a job name every section") {
  const std::string help = job_help();
  const json schema = json::parse(job_schema());
  for (const char* section : {"run", "model", "data", "optimizer", "schedule", "training", "memory",
                              "parallel", "checkpoint", "logging"}) {
    CHECK_THAT(help, Contains(fmt::format("\n{}: ", section)));
    CHECK(schema.at("properties").contains(section));
  }
  CHECK(schema.at("required") == json({"run", "model", "data", "optimizer", "training"}));
  CHECK_THAT(help, Contains("optimizer.learning_rate  number > 0; required"));
}

TEST_CASE("every built-in device profile is told to users") {
  for (const std::string& name : backend::DeviceProfile::names()) {
    CHECK_THAT(job_help(), Contains("\"" + name + "\":"));
  }
}

}  // namespace longspan::train
