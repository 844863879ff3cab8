#pragma once

namespace longspan::cli {

class Command;

// Each adds one subcommand to the program; its callback runs it and returns by storing the exit
// code or by throwing base::Error.
void add_train_command(const Command& program, int& exit_code);
void add_plan_command(const Command& program);
void add_verify_command(const Command& program);
void add_generate_command(const Command& program);
void add_evaluate_command(const Command& program);
void add_import_command(const Command& program);
void add_export_command(const Command& program);
void add_inspect_command(const Command& program);
void add_schema_command(const Command& program);
void add_bench_command(const Command& program);

}  // namespace longspan::cli
