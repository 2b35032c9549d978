#include "apps/cli/command_line.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <new>
#include <vector>

#include "core/config.h"
#include "core/error.h"

namespace sextant::apps {

Option Option::required() {
  option_->required();
  return *this;
}
Option Option::show_default() {
  option_->capture_default_str();
  return *this;
}
Option Option::range(int low, int high) {
  option_->check(CLI::Range(low, high));
  return *this;
}
Option Option::range(double low, double high) {
  option_->check(CLI::Range(low, high));
  return *this;
}
Option Option::one_of(std::initializer_list<const char*> choices) {
  option_->check(CLI::IsMember(choices));
  return *this;
}
Option Option::group(const std::string& title) {
  option_->group(title);
  return *this;
}
Option Option::delimiter(char c) {
  option_->delimiter(c);
  return *this;
}
Option Option::one_value_each() {
  option_->allow_extra_args(false);
  return *this;
}
Option Option::needs(Option other) {
  option_->needs(other.option_);
  return *this;
}
Option Option::excludes(Option other) {
  option_->excludes(other.option_);
  return *this;
}
bool Option::given() const { return option_->count() > 0; }

Command Command::add_command(const std::string& name, const std::string& help) {
  return Command(app_->add_subcommand(name, help));
}

template <class T>
Option Command::add_option(const std::string& name, T& target, const std::string& help) {
  return Option(app_->add_option(name, target, help));
}
template Option Command::add_option(const std::string&, std::string&, const std::string&);
template Option Command::add_option(const std::string&, int&, const std::string&);
template Option Command::add_option(const std::string&, int64_t&, const std::string&);
template Option Command::add_option(const std::string&, uint64_t&, const std::string&);
template Option Command::add_option(const std::string&, float&, const std::string&);
template Option Command::add_option(const std::string&, double&, const std::string&);
template Option Command::add_option(const std::string&, std::vector<std::string>&,
                                    const std::string&);

Option Command::add_flag(const std::string& name, bool& target, const std::string& help) {
  return Option(app_->add_flag(name, target, help));
}
Option Command::add_flag(const std::string& name, std::string& target, const std::string& help) {
  return Option(app_->add_flag(name, target, help));
}

void Command::callback(std::function<void()> f) { app_->callback(std::move(f)); }

Program::Program(const std::string& help, const std::string& name)
    : Command(nullptr), own_(std::make_unique<CLI::App>(help, name)) {
  app_ = own_.get();
}
Program::~Program() = default;

void Program::require_command() { app_->require_subcommand(1); }

void Program::add_help_all() { app_->set_help_all_flag("--help-all", "Help of all subcommands"); }

int Program::run(int argc, char** argv) {
  const auto complain = [&](const std::string& what) {
    fmt::print(stderr, "{}: {}\n", app_->get_name(), what);
    return 2;
  };
  const auto commands = app_->get_subcommands([](const CLI::App*) { return true; });
  if (argc > 1 && argv[1][0] != '-' && !commands.empty()) {
    std::vector<std::string> names;
    for (const CLI::App* c : commands) names.push_back(c->get_name());
    if (std::ranges::find(names, argv[1]) == names.end())
      return complain(fmt::format("no command '{}'; nearest is '{}' (see --help)", argv[1],
                                  nearest_name(argv[1], names)));
  }
  try {
    app_->parse(argc, argv);
    return 0;
  } catch (const CLI::CallForHelp& e) {
    return app_->exit(e);
  } catch (const CLI::CallForAllHelp& e) {
    return app_->exit(e);
  } catch (const CLI::CallForVersion& e) {
    return app_->exit(e);
  } catch (const CLI::ParseError& e) {
    return complain(std::string(e.what()) + " (see --help)");
  } catch (const Error& e) {
    return complain(e.what());
  } catch (const std::bad_alloc&) {
    return complain("out of memory");
  } catch (const std::exception& e) {
    return complain(std::string("unexpected: ") + e.what());
  }
}

void add_device_option(Command command, std::string& device) {
  command.add_option("--device", device, "Where it runs; auto: on a GPU where there is one")
      .one_of({"auto", "cpu", "cuda"})
      .show_default();
}

}  // namespace sextant::apps
