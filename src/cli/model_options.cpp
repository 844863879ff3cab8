#include "cli/model_options.h"

namespace longspan::cli {

void add_model_option(const Command& command, std::string& model) {
  command
      .option("model", model,
              "A model's, adapter's or checkpoint's directory, or a run's output_dir (its newest "
              "checkpoint)")
      .required();
}

void add_base_option(const Command& command, std::string& base) {
  command
      .option("--base", base,
              "Of an adapter: its base model's directory (default: the one that "
              "adapter_config.json names)")
      .not_empty("needs the name of a directory");
}

}  // namespace longspan::cli
