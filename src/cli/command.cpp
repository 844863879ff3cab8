#include "cli/command.h"

#include <CLI/CLI.hpp>
#include <iostream>
#include <utility>

#include "cli/version.h"

namespace longspan::cli {

const Option& Option::required() const {
  option_->required();
  return *this;
}

const Option& Option::show_default() const {
  option_->capture_default_str();
  return *this;
}

const Option& Option::positive() const {
  option_->check(CLI::PositiveNumber);
  return *this;
}

const Option& Option::within(int low, int high) const {
  option_->check(CLI::Range(low, high));
  return *this;
}

const Option& Option::within(double low, double high) const {
  option_->check(CLI::Range(low, high));
  return *this;
}

const Option& Option::one_of(const std::vector<std::string>& words) const {
  option_->check(CLI::IsMember(words));
  return *this;
}

const Option& Option::size() const {
  option_->transform(CLI::AsSizeValue(false));
  return *this;
}

const Option& Option::not_empty(const std::string& message) const {
  option_->check([message](const std::string& text) { return text.empty() ? message : ""; });
  return *this;
}

const Option& Option::one_at_a_time() const {
  option_->allow_extra_args(false);
  return *this;
}

const Option& Option::value_name(const std::string& name) const {
  option_->type_name(name);
  return *this;
}

const Option& Option::excludes(const Option& other) const {
  option_->excludes(other.option_);
  return *this;
}

const Option& Option::needs(const Option& other) const {
  option_->needs(other.option_);
  return *this;
}

Command Command::subcommand(const std::string& name, const std::string& help) const {
  return Command(*app_->add_subcommand(name, help));
}

void Command::require_subcommand() const { app_->require_subcommand(1); }

Option Command::option(const std::string& name, std::string& value, const std::string& help) const {
  return Option(*app_->add_option(name, value, help));
}

Option Command::option(const std::string& name, std::vector<std::string>& value,
                       const std::string& help) const {
  return Option(*app_->add_option(name, value, help));
}

Option Command::option(const std::string& name, std::int32_t& value,
                       const std::string& help) const {
  return Option(*app_->add_option(name, value, help));
}

Option Command::option(const std::string& name, std::int64_t& value,
                       const std::string& help) const {
  return Option(*app_->add_option(name, value, help));
}

Option Command::option(const std::string& name, std::uint64_t& value,
                       const std::string& help) const {
  return Option(*app_->add_option(name, value, help));
}

Option Command::option(const std::string& name, double& value, const std::string& help) const {
  return Option(*app_->add_option(name, value, help));
}

Option Command::flag(const std::string& name, bool& value, const std::string& help) const {
  return Option(*app_->add_flag(name, value, help));
}

void Command::footer(const std::string& text) const { app_->footer(text); }

void Command::callback(std::function<void()> run) const { app_->callback(std::move(run)); }

base::ExitCode run_command_line(int argc, char** argv,
                                const std::function<void(const Command& program)>& declare) {
  CLI::App app("Longspan: trains transformers on very long sequences", "longspan");
  app.require_subcommand(1);
  app.set_version_flag("--version", [] { return version_text(); });
  app.failure_message(CLI::FailureMessage::help);
  declare(Command(app));
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() == 0) {  // --help, --version
      app.exit(error);
      return base::ExitCode::kDone;
    }
    app.exit(error, std::cerr, std::cerr);
    return base::ExitCode::kBadInput;
  }
  return base::ExitCode::kDone;
}

}  // namespace longspan::cli
