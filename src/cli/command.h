#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "longspan/base/error.h"

namespace CLI {
class App;
class Option;
}  // namespace CLI

namespace longspan::cli {

// CLI11 is a header that takes seconds to compile: command.cpp alone includes it, and the
// subcommands declare themselves by these handles, which the command line owns what is behind.

/// An option, a flag or, with a name without dashes, a positional argument.
class Option {
 public:
  explicit Option(CLI::Option& option) : option_(&option) {}

  const Option& required() const;
  /// Help shows the variable's value at this moment.
  const Option& show_default() const;
  const Option& positive() const;
  const Option& within(int low, int high) const;
  const Option& within(double low, double high) const;
  const Option& one_of(const std::vector<std::string>& words) const;
  /// "64MiB" means bytes.
  const Option& size() const;
  /// An empty text is refused with this message.
  const Option& not_empty(const std::string& message) const;
  /// Of a list: each use of the option takes one value.
  const Option& one_at_a_time() const;
  /// What help calls the value.
  const Option& value_name(const std::string& name) const;
  const Option& excludes(const Option& other) const;
  const Option& needs(const Option& other) const;

 private:
  CLI::Option* option_;
};

/// The program or one of its subcommands. Variables must outlive CommandLine::run.
class Command {
 public:
  explicit Command(CLI::App& app) : app_(&app) {}

  Command subcommand(const std::string& name, const std::string& help) const;
  void require_subcommand() const;
  Option option(const std::string& name, std::string& value, const std::string& help) const;
  Option option(const std::string& name, std::vector<std::string>& value,
                const std::string& help) const;
  Option option(const std::string& name, std::int32_t& value, const std::string& help) const;
  Option option(const std::string& name, std::int64_t& value, const std::string& help) const;
  Option option(const std::string& name, std::uint64_t& value, const std::string& help) const;
  Option option(const std::string& name, double& value, const std::string& help) const;
  Option flag(const std::string& name, bool& value, const std::string& help) const;
  void footer(const std::string& text) const;
  /// What the command does, once its options are read.
  void callback(std::function<void()> run) const;

 private:
  CLI::App* app_;
};

/// Lets `declare` add the subcommands to the program, reads the command line and runs what it asks
/// for. kBadInput, with help on stderr, when it is not understood; else kDone, which --help and
/// --version are, too. Passes on what a command throws.
base::ExitCode run_command_line(int argc, char** argv,
                                const std::function<void(const Command& program)>& declare);

}  // namespace longspan::cli
