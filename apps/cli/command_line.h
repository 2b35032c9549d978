// SPDX-License-Identifier: Apache-2.0
// Commands and their options. Hides CLI11, which takes ten seconds to compile in each file that
// includes it.
//
//   Program app("Does something", "program");
//   app.add_option("FILE", file, "what to read").required();
//   app.add_option("--method NAME", method, "how it is done");  // an enum: its names and the
//                                                               // default are added to the help
//   app.examples({"program photo.png --method fast"});
//   app.callback([&] { ... });
//   return app.run(argc, argv);
#pragma once

#include <functional>
#include <initializer_list>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/enum_names.h"

namespace CLI {
class App;
class Option;
}  // namespace CLI

namespace sextant::apps {

// An option or argument; a handle, as is Command.
class Option {
 public:
  explicit Option(CLI::Option* option) : option_(option) {}

  Option required();
  // The help shows the target's current value as the default. Enums always do.
  Option show_default();
  // The same for a default that is not a value: "as trained".
  Option default_text(const std::string& text);
  // Both bounds are included.
  Option range(double low, double high);
  // Shown under a separate title in the help.
  Option group(const std::string& title);
  // The separator between the values of a list.
  Option delimiter(char c);
  // For a list: one value each time the option is given.
  Option one_value_each();
  Option needs(Option other);
  Option excludes(Option other);

  // Declares what the value names, so that no command overwrites its inputs (core/outputs.h): a
  // file that is read ("NAME=FILE" counts as FILE), a dataset, or a file that is written.
  Option reads();
  Option reads_data();
  Option writes();

  // Whether it was given on the command line.
  bool given() const;

 private:
  CLI::Option* option_;
};

class Command {
 public:
  explicit Command(CLI::App* app) : app_(app) {}

  Command add_command(const std::string& name, const std::string& help);
  // Another name that is accepted but not shown.
  void alias(const std::string& name);

  // "--out FILE" is an option whose value the help calls FILE; "MODEL" is an argument. The target
  // must outlive the command. T: std::string, int, int64_t, uint64_t, float, double,
  // std::vector<std::string>. An empty text and a number that is not finite are refused.
  template <class T>
  requires(!NamedEnum<T>) Option
      add_option(const std::string& spec, T& target, const std::string& help);
  // An enum by its names (core/enum_names.h); with `allowed`, only some of them. The help lists
  // them and, for a plain enum, the target's current value as the default.
  template <NamedEnum E>
  Option add_option(const std::string& spec, E& target, const std::string& help,
                    std::initializer_list<E> allowed = {}) {
    return add_names(spec, help, names<E>(allowed, std::string(name_of(target))),
                     [&target](const std::string& name) { target = from_name<E>(name); });
  }
  template <NamedEnum E>
  Option add_option(const std::string& spec, std::optional<E>& target, const std::string& help,
                    std::initializer_list<E> allowed = {}) {
    return add_names(spec, help, names<E>(allowed),
                     [&target](const std::string& name) { target = from_name<E>(name); });
  }
  // Several values, in the order given.
  template <NamedEnum E>
  Option add_option(const std::string& spec, std::vector<E>& target, const std::string& help,
                    std::initializer_list<E> allowed = {}) {
    Names n = names<E>(allowed);
    n.several = true;
    return add_names(spec, help, n,
                     [&target](const std::string& name) { target.push_back(from_name<E>(name)); });
  }
  Option add_flag(const std::string& name, bool& target, const std::string& help);
  // A flag with an optional value after `=`: "--equalize[=HOW]". Without a value it means `plain`.
  template <NamedEnum E>
  Option add_flag(const std::string& spec, E& target, E plain, const std::string& help) {
    return add_name_flag(spec, help, names<E>({}), std::string(name_of(plain)),
                         [&target](const std::string& name) { target = from_name<E>(name); });
  }

  // Shown at the end of the help.
  void examples(const std::vector<std::string>& lines);
  // Runs the command, after its options have been parsed.
  void callback(std::function<void()> f);

 protected:
  CLI::App* app_;

 private:
  struct Names {
    std::string what;  // the noun used in messages
    std::vector<std::string> names;
    std::string current;  // "": no default is shown
    bool several = false;
  };
  using SetName = std::function<void(const std::string&)>;
  template <NamedEnum E>
  static Names names(std::initializer_list<E> allowed, std::string current = "") {
    return {std::string(enum_names(E{}).what), names_of<E>(allowed), std::move(current), false};
  }
  Option add_names(const std::string& spec, const std::string& help, const Names& names,
                   const SetName& set);
  Option add_name_flag(const std::string& spec, const std::string& help, const Names& names,
                       const std::string& plain, const SetName& set);
};

class Program : public Command {
 public:
  Program(const std::string& help, const std::string& name);
  ~Program();

  // Requires one of the commands. Call it after adding them: it also adds a flag for the help of
  // all.
  void require_command();
  // Parses, runs the chosen command, and turns every mistake of the user, and a standard output that
  // cannot be written, into one line on stderr and exit code 2. SIGINT and SIGTERM end the command
  // with one line and exit code 130 or 143 (core/interrupt.h).
  int run(int argc, char** argv);

 private:
  int parse_and_run(int argc, char** argv);
  int complain(const std::string& what, int code = 2) const;

  std::unique_ptr<CLI::App> own_;
};

}  // namespace sextant::apps
