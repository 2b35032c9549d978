// SPDX-License-Identifier: Apache-2.0
// examples/embed, built as programs of their own against an installed Sextant.
#include <cstdlib>

#include "api/small_detector.h"
#include "core/file.h"
#include "data/image/image.h"
#include "deploy/graph/file.h"

// Not in a build with sanitizers, whose libraries other programs cannot load.
#ifndef SEXTANT_SANITIZED
namespace sextant::test {
namespace {

namespace fs = std::filesystem;

// What a shell command prints on stdout; its exit code must be 0.
std::string output_of(const std::string& command, const fs::path& log) {
  const int status = std::system((command + " >" + log.string() + " 2>&1").c_str());
  const std::string text = read_text(log);
  INFO(command << "\n" << text);
  REQUIRE(status == 0);
  return text;
}

bool has(const std::string& program) {
  return std::system(("command -v " + program + " >/dev/null 2>&1").c_str()) == 0;
}

}  // namespace

TEST_CASE("library: the examples build and run against an installed prefix") {
  const TemporaryFolder folder;
  const std::string model = (folder / "model.st").string();
  const std::string prefix = (folder / "prefix").string();
  const fs::path log = folder / "log";
  deploy::Graph graph = small_detector();
  // Scores above the default limit.
  for (deploy::Node& node : graph.nodes)
    if (node.name.find("cls_pred") != std::string::npos)
      for (float& b : node.bias.span<float>()) b += 3;
  deploy::save_deploy(model, graph);
  const Tensor pixels = random_images({1, 48, 64, 3}, 7);
  write_atomically(folder / "picture.ppm",
                   "P6\n64 48\n255\n" + std::string(reinterpret_cast<const char*>(pixels.raw()),
                                                    static_cast<size_t>(pixels.numel())));

  output_of("cmake --install " SEXTANT_BINARY_DIR " --prefix " + prefix, log);
  const std::string source = std::string(SEXTANT_SOURCE_DIR) + "/examples/embed";
  const std::string build = (folder / "build").string();
  output_of("cmake -G Ninja -S " + source + " -B " + build + " -DCMAKE_PREFIX_PATH=" + prefix, log);
  output_of("cmake --build " + build, log);
  const std::string arguments = " " + model + " " + (folder / "picture.ppm").string();
  const std::string found = output_of(build + "/detect_cpp" + arguments, log);
  CHECK(std::ranges::count(found, '\n') > 0);
  // Both print the shortest form of six digits.
  CHECK(output_of(build + "/detect_c" + arguments, log) == found);

  if (has("pkg-config")) {
    const std::string environment =
        "PKG_CONFIG_PATH=$(dirname $(find " + prefix + " -name sextant.pc)) ";
    const std::string program = (folder / "by_pkg_config").string();
    output_of("flags=$(" + environment + "pkg-config --cflags --libs sextant) && " + "${CC:-cc} " +
                  source + "/detect.c -o " + program + " $flags",
              log);
    CHECK(output_of("LD_LIBRARY_PATH=$(dirname $(find " + prefix + " -name libsextant.so)) " +
                        program + arguments,
                    log) == found);
  }
  if (has("python3")) {
    // The lines of the docs, with this test's names.
    const std::string docs = read_text(fs::path(SEXTANT_SOURCE_DIR) / "docs/library.md");
    const size_t begin = docs.find("```python\n") + 10;
    REQUIRE(begin > 10);
    std::string script = "width, height = 64, 48\npixels = open('" +
                         (folder / "picture.ppm").string() +
                         "', 'rb').read()[-3 * width * height:]\n" +
                         docs.substr(begin, docs.find("```", begin) - begin);
    const auto replace = [&](const std::string& from, const std::string& to) {
      REQUIRE(script.find(from) != std::string::npos);
      script.replace(script.find(from), from.size(), to);
    };
    replace("model.st", model);
    write_atomically(folder / "script.py", script);
    const std::string rows =
        output_of("LD_LIBRARY_PATH=$(dirname $(find " + prefix + " -name libsextant.so)) python3 " +
                      (folder / "script.py").string(),
                  log);
    CHECK(std::ranges::count(rows, '\n') == std::ranges::count(found, '\n'));
  }
}

}  // namespace sextant::test
#endif
