#include "apps/command_line.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <new>

#include "core/config.h"
#include "core/error.h"

namespace sextant::apps {

int run_app(CLI::App& app, int argc, char** argv) {
  const auto complain = [&](const std::string& what) {
    fmt::print(stderr, "{}: {}\n", app.get_name(), what);
    return 2;
  };
  const auto commands = app.get_subcommands([](const CLI::App*) { return true; });
  if (argc > 1 && argv[1][0] != '-' && !commands.empty()) {
    std::vector<std::string> names;
    for (const CLI::App* c : commands) names.push_back(c->get_name());
    if (std::ranges::find(names, argv[1]) == names.end())
      return complain(fmt::format("no command '{}'; nearest is '{}' (see --help)", argv[1],
                                  nearest_name(argv[1], names)));
  }
  try {
    app.parse(argc, argv);
    return 0;
  } catch (const CLI::CallForHelp& e) {
    return app.exit(e);
  } catch (const CLI::CallForAllHelp& e) {
    return app.exit(e);
  } catch (const CLI::CallForVersion& e) {
    return app.exit(e);
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

deploy::Precision choose_precision(const std::string& option, const deploy::Graph& graph) {
  if (!option.empty()) return deploy::precision_from_name(option);
  return graph.quantized() ? deploy::Precision::kInt8 : deploy::Precision::kFloat32;
}

int choose_image_size(int option, const deploy::Graph& graph) {
  const int64_t size = option > 0 ? option : (graph.image_size > 0 ? graph.image_size : 640);
  const int64_t multiple = deploy::size_multiple(graph);
  check(size >= multiple && size % multiple == 0 && size <= 8192,
        "--img {}: must be a multiple of {} and at most 8192", size, multiple);
  return static_cast<int>(size);
}

}  // namespace sextant::apps
