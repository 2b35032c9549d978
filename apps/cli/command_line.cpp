// SPDX-License-Identifier: Apache-2.0
#include "apps/cli/command_line.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cmath>
#include <concepts>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <iostream>
#include <map>
#include <new>
#include <vector>

#include "apps/cli/version.h"
#include "core/config.h"
#include "core/error.h"
#include "core/interrupt.h"
#include "core/outputs.h"
#include "core/text.h"

namespace sextant::apps {
namespace {

constexpr size_t kColumn = 30, kWidth = 100;

// Formats two columns, wrapping the right one.
std::string help_row(const std::string& left, const std::string& right) {
  std::string out = "  " + left, line;
  const auto flush = [&] {
    const size_t last = out.rfind('\n') == std::string::npos ? 0 : out.rfind('\n') + 1;
    const size_t used = out.size() - last;
    out += used + 2 > kColumn ? "\n" + std::string(kColumn, ' ') : std::string(kColumn - used, ' ');
    out += line;
    line.clear();
  };
  for (const std::string& word : CLI::detail::split(right, ' ')) {
    if (!line.empty() && kColumn + line.size() + 1 + word.size() > kWidth) {
      flush();
      out += '\n';
    }
    line += (line.empty() ? "" : " ") + word;
  }
  flush();
  return out + "\n";
}

// An argument of the form NAME=VALUE.
bool named_values(const CLI::Option* option) {
  return option->get_positional() && option->get_type_name().find('=') != std::string::npos;
}

class HelpFormatter final : public CLI::Formatter {
 public:
  HelpFormatter() {
    label("OPTIONS", "options");
    label("Positionals", "Arguments");
    label("SUBCOMMAND", "COMMAND");
  }

  std::string make_help(const CLI::App* app, std::string name,
                        CLI::AppFormatMode mode) const override {
    return CLI::detail::find_and_replace(Formatter::make_help(app, std::move(name), mode), "\n\n\n",
                                         "\n\n");
  }

 private:
  std::string make_option(const CLI::Option* option, bool positional) const override {
    std::string left = positional ? option->get_name(true, false) : option->get_name(false, true);
    left = CLI::detail::find_and_replace(left.substr(0, left.find('{')), ",", ", ");
    if (named_values(option)) left = option->get_type_name();
    if (positional)
      left += option->get_expected_max() > 1 ? "..." : "";
    else if (const std::string value = option->get_type_name(); !value.empty())
      left += (value.starts_with("[") ? "" : " ") + value;
    std::string right = option->get_description();
    if (!option->get_default_str().empty())
      right += " (default: " + option->get_default_str() + ")";
    if (option->get_required() && !positional) right += " (required)";
    return help_row(left, right);
  }
  std::string make_subcommand(const CLI::App* sub) const override {
    return help_row(sub->get_name(), sub->get_description());
  }
  std::string make_description(const CLI::App* app) const override {
    return app->get_description() + "\n";
  }
};

// "--out FILE": an option and the name of its value; "MODEL": an argument; "NAME=MODEL": an argument
// each of whose values has a name, which CLI11 2.4 does not take for a name.
struct Spec {
  explicit Spec(const std::string& text)
      : name(text.substr(0, text.find_first_of(" ["))),
        value(name.size() == text.size() ? "" : text.substr(name.size())) {
    if (value.starts_with(" ")) value.erase(0, 1);
    if (const size_t equals = name.find('='); equals != std::string::npos) {
      value = name;
      name.erase(0, equals + 1);
    }
  }
  std::string name, value;
};

void check_known(const CLI::Option* option, const std::string& what, const std::string& name,
                 const std::vector<std::string>& names) {
  if (std::ranges::find(names, name) == names.end())
    fail("{}: {}", option->get_name(), unknown_name(what, name, names));
}

// The files that options name; filled while the commands are declared.
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
      if (named_values(option)) value.erase(0, value.find('=') + 1);
      auto& list = role->second == Role::kReads       ? files.inputs
                   : role->second == Role::kReadsData ? files.datasets
                                                      : files.outputs;
      list.push_back(value);
    }
  }
  return files;
}

// An option that comes later may lie at the same address.
void forget_roles(const CLI::App& app) {
  for (const CLI::Option* option : app.get_options()) roles().erase(option);
  for (const CLI::App* command : app.get_subcommands(nullptr)) forget_roles(*command);
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
Option Option::default_text(const std::string& text) {
  option_->default_str(text);
  return *this;
}
Option Option::range(double low, double high) {
  option_->each([o = option_, low, high](const std::string& text) {
    char* end = nullptr;
    const double value = std::strtod(text.c_str(), &end);
    check(!text.empty() && *end == '\0' && value >= low && value <= high,
          "{} is {}, must be in [{}, {}]", o->get_name(), text, low, high);
  });
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
  return Command(app_->add_subcommand(name, help)->group("Commands"));
}

void Command::alias(const std::string& name) { app_->alias(name); }

template <class T>
requires(!NamedEnum<T>) Option Command::add_option(const std::string& text, T& target,
                                                   const std::string& help) {
  const Spec spec(text);
  CLI::Option* option = app_->add_option(spec.name, target, help);
  option->type_name(spec.value);
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

Option Command::add_names(const std::string& text, const std::string& help, const Names& names,
                          const SetName& set) {
  const Spec spec(text);
  const auto known = std::make_shared<CLI::Option*>();
  CLI::Option* option = app_->add_option(
      spec.name,
      [known, names, set](const CLI::results_t& given) {
        for (const std::string& name : given) {
          check_known(*known, names.what, name, names.names);
          set(name);
        }
        return true;
      },
      help + ": " + one_of_list(names.names));
  *known = option;
  option->type_name(spec.value)->default_str(names.current);
  if (names.several) option->expected(1, CLI::detail::expected_max_vector_size)->delimiter(',');
  return Option(option);
}

Option Command::add_name_flag(const std::string& text, const std::string& help, const Names& names,
                              const std::string& plain, const SetName& set) {
  const Spec spec(text);
  const auto value = std::make_shared<std::string>();
  CLI::Option* option = app_->add_flag(spec.name + "{" + plain + "}", *value, help);
  option->type_name(spec.value);
  option->each([option, value, names, set](const std::string& name) {
    check_known(option, names.what, name, names.names);
    set(name);
  });
  return Option(option);
}

Option Command::add_flag(const std::string& name, bool& target, const std::string& help) {
  return Option(app_->add_flag(name, target, help));
}

void Command::examples(const std::vector<std::string>& lines) {
  std::string text = "Examples:";
  for (const std::string& line : lines) text += "\n  " + line;
  app_->footer(text);
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
  app_->formatter(std::make_shared<HelpFormatter>());
  app_->set_help_flag("-h,--help", "show this help");
  app_->set_version_flag(
      "--version", [name] { return version_text(name); }, "show the version");
}
Program::~Program() { forget_roles(*own_); }

void Program::require_command() {
  app_->require_subcommand(1);
  app_->set_help_all_flag("--help-all", "show the help of all commands");
}

int Program::run(int argc, char** argv) {
  catch_interrupts(app_->get_name());
  int code = parse_and_run(argc, argv);
  // Output may still be buffered.
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
  if (argc == 1 && !commands.empty()) return complain("no command given (see --help)");
  if (argc > 1 && argv[1][0] != '-' && !commands.empty()) {
    const auto known = [&](const CLI::App* c) { return c->check_name(argv[1]); };
    std::vector<std::string> names;
    for (const CLI::App* c : commands) names.push_back(c->get_name());
    if (std::ranges::none_of(commands, known))
      return complain(fmt::format("unknown command '{}'; nearest is '{}' (see --help)", argv[1],
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
    // A failing print also throws.
    return complain(std::ferror(stdout) != 0 ? "standard output: cannot be written" : e.what());
  }
}

}  // namespace sextant::apps
