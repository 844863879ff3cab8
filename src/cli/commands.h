#pragma once

namespace CLI {
class App;
}

namespace longspan::cli {

// Each adds one subcommand to the program; its callback runs it and returns by storing the exit
// code or by throwing base::Error.
void add_train_command(CLI::App& app, int& exit_code);
void add_plan_command(CLI::App& app);
void add_verify_command(CLI::App& app);
void add_generate_command(CLI::App& app);
void add_schema_command(CLI::App& app);
void add_bench_command(CLI::App& app);

}  // namespace longspan::cli
