// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <map>
#include <memory>

#include "apps/cli/command_line.h"
#include "apps/commands/commands.h"
#include "apps/model_files/checkpoint.h"
#include "core/file.h"
#include "deploy/engine/selftest.h"
#include "quant/ranges/range_file.h"

namespace sextant::apps {
namespace {

// Prints one line per group: its type, range and step, and its tensors.
void print_ranges(const deploy::Graph& graph) {
  std::map<int, std::vector<const deploy::TensorInfo*>> groups;
  std::vector<int> order;
  for (const auto& info : graph.tensors) {
    if (!info.has_range()) continue;
    auto& members = groups[info.group];
    if (members.empty()) order.push_back(info.group);
    members.push_back(&info);
  }
  fmt::print("group  type        amax        step  tensors\n");
  for (const int g : order) {
    const deploy::TensorInfo& first = *groups[g].front();
    fmt::print("{:>5}  {:>4}  {:>10.6g}  {:>10.4g}  ", g, first.is_unsigned ? "u8" : "s8",
               first.amax, first.scale());
    for (size_t i = 0; i < groups[g].size(); ++i)
      fmt::print("{}{}", i ? ", " : "", groups[g][i]->name);
    fmt::print("\n");
  }
}

}  // namespace

void add_ranges_command(Command app) {
  struct Options {
    std::string model, json, set, out;
  };
  auto o = std::make_shared<Options>();
  Command c = app.add_command("ranges", "Show or edit the activation ranges of a model");
  c.add_option("MODEL", o->model, "quantized deploy file").reads().required();
  c.add_option("--json FILE", o->json, "write the ranges to this file").writes();
  Option set =
      c.add_option("--set FILE", o->set, "take the ranges from this file, as --json writes it")
          .reads();
  Option out =
      c.add_option("--out FILE", o->out, "deploy file to write, with the ranges of --set").writes();
  set.needs(out);
  out.needs(set);
  c.examples({"sextant ranges int8.safetensors --json ranges.json",
              "sextant ranges int8.safetensors --set ranges.json --out edited.safetensors"});
  c.callback([o] {
    deploy::Graph graph = load_model_graph(o->model);
    check(graph.quantized(), "{}: has no activation ranges; run sextant quantize", o->model);
    int64_t changed = 0;
    if (!o->set.empty()) {
      changed = quant::apply_ranges(graph, load_json(o->set), o->set);
      deploy::save_with_proof(o->out, graph);
    }
    if (!o->json.empty())
      write_atomically(o->json, json_text(quant::ranges_to_json(graph), 2) + "\n");
    if (o->set.empty())
      print_ranges(graph);
    else
      fmt::print("{}: ranges of {} tensors changed\n", o->out, changed);
  });
}

}  // namespace sextant::apps
