// What the commands share: options, and all that the rest sees of CLI11, which takes ten seconds in
// each file that includes it.
#pragma once

#include <functional>
#include <initializer_list>
#include <memory>
#include <string>

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
  // The help names the value that the target has now.
  Option show_default();
  // Both included.
  Option range(int low, int high);
  Option range(double low, double high);
  Option one_of(std::initializer_list<const char*> choices);
  // Under a title of its own in the help.
  Option group(const std::string& title);
  // Of a list, between values in one word.
  Option delimiter(char c);
  // Of a list: one value each time it is given.
  Option one_value_each();
  Option needs(Option other);
  Option excludes(Option other);

  // What the value names, so that no command overwrites what it reads (core/outputs.h): a file that
  // is read ("NAME=FILE" counts as FILE), a data set, or a file that is written.
  Option reads();
  Option reads_data();
  Option writes();

  // On the command line.
  bool given() const;

 private:
  CLI::Option* option_;
};

class Command {
 public:
  explicit Command(CLI::App* app) : app_(app) {}

  Command add_command(const std::string& name, const std::string& help);
  // "--name", or "NAME" for an argument. The target outlives the command. T: std::string, int,
  // int64_t, uint64_t, float, double, std::vector<std::string>. An empty text and a number that is
  // not finite are refused.
  template <class T>
  Option add_option(const std::string& name, T& target, const std::string& help = "");
  Option add_flag(const std::string& name, bool& target, const std::string& help);
  // "--name{value}": the value without `=`.
  Option add_flag(const std::string& name, std::string& target, const std::string& help);
  // What the command does, after its options have been read.
  void callback(std::function<void()> f);

 protected:
  CLI::App* app_;
};

class Program : public Command {
 public:
  Program(const std::string& help, const std::string& name);
  ~Program();

  void require_command();
  // A flag for the help of all commands.
  void add_help_all();
  // Parses, runs the chosen command, and turns every mistake of the user, and a standard output that
  // cannot be written, into one line on stderr and exit code 2. SIGINT and SIGTERM end the command
  // with one line and exit code 130 or 143 (core/interrupt.h).
  int run(int argc, char** argv);

 private:
  int parse_and_run(int argc, char** argv);
  int complain(const std::string& what, int code = 2) const;

  std::unique_ptr<CLI::App> own_;
};

// --device auto|cpu|cuda
void add_device_option(Command command, std::string& device);

}  // namespace sextant::apps
