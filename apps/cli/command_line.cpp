#include "apps/cli/command_line.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cmath>
#include <concepts>
#include <cstdio>
#include <filesystem>
#include <iostream>
#include <map>
#include <new>
#include <vector>

#include "core/config.h"
#include "core/error.h"
#include "core/interrupt.h"
#include "core/outputs.h"
#include "core/text.h"

namespace sextant::apps {
namespace {

// Of options that name files; filled while the commands are declared.
enum class Role { kReads, kReadsData, kWrites };
std::map<const CLI::Option*, Role>& roles() {
  static std::map<const CLI::Option*, Role> map;
  return map;
}

Files files_of(const CLI::App& app) {
  Files files;
  for (const CLI::Option* option : app.get_options()) {
    const auto role = roles().find(option);
    if (role == roles().end()) continue;
    for (std::string value : option->results()) {
      if (option->get_name().find('=') != std::string::npos) value.erase(0, value.find('=') + 1);
      auto& list = role->second == Role::kReads       ? files.inputs
                   : role->second == Role::kReadsData ? files.datasets
                                                      : files.outputs;
      list.push_back(value);
    }
  }
  return files;
}

const CLI::Validator kNotEmpty(
    [](std::string& text) { return std::string(text.empty() ? "must not be empty" : ""); }, "");
const CLI::Validator kFinite(
    [](std::string& text) {
      double value = 0;
      const bool ok = CLI::detail::lexical_cast(text, value) && std::isfinite(value);
      return ok ? std::string() : text + " is not a finite number";
    },
    "");

}  // namespace

Option Option::reads() {
  roles()[option_] = Role::kReads;
  return *this;
}
Option Option::reads_data() {
  roles()[option_] = Role::kReadsData;
  return *this;
}
Option Option::writes() {
  roles()[option_] = Role::kWrites;
  return *this;
}

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
  CLI::Option* option = app_->add_option(name, target, help);
  if constexpr (std::floating_point<T>)
    option->check(kFinite);
  else if constexpr (!std::integral<T>)
    option->check(kNotEmpty);
  return Option(option);
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

void Command::callback(std::function<void()> f) {
  app_->callback([app = app_, f = std::move(f)] {
    check_outputs(files_of(*app));
    f();
  });
}

Program::Program(const std::string& help, const std::string& name)
    : Command(nullptr), own_(std::make_unique<CLI::App>(help, name)) {
  app_ = own_.get();
}
Program::~Program() = default;

void Program::require_command() { app_->require_subcommand(1); }

void Program::add_help_all() { app_->set_help_all_flag("--help-all", "Help of all subcommands"); }

int Program::run(int argc, char** argv) {
  catch_interrupts(app_->get_name());
  int code = parse_and_run(argc, argv);
  // What is printed may wait in a buffer until now.
  std::cout.flush();
  if ((!std::cout || std::fflush(stdout) != 0 || std::ferror(stdout) != 0) && code == 0)
    code = complain("standard output: cannot be written");
  return code;
}

int Program::complain(const std::string& what, int code) const {
  fmt::print(stderr, "{}: {}\n", app_->get_name(), printable(what));
  return code;
}

int Program::parse_and_run(int argc, char** argv) {
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
  } catch (const Interrupted& e) {
    return complain(e.what(), e.exit_code());
  } catch (const std::bad_alloc&) {
    return complain("out of memory");
  } catch (const std::filesystem::filesystem_error& e) {
    return complain(fmt::format("{}: {}", e.path1().string(), e.code().message()));
  } catch (const std::exception& e) {
    // A failing print throws, too.
    return complain(std::ferror(stdout) != 0 ? "standard output: cannot be written" : e.what());
  }
}

void add_device_option(Command command, std::string& device) {
  command.add_option("--device", device, "Where it runs; auto: on a GPU where there is one")
      .one_of({"auto", "cpu", "cuda"})
      .show_default();
}

}  // namespace sextant::apps
