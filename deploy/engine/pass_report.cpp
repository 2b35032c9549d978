// SPDX-License-Identifier: Apache-2.0
#include "deploy/engine/pass_report.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <functional>

#include "core/median.h"
#include "core/rng.h"
#include "deploy/engine/engine.h"
#include "deploy/graph/passes.h"
#include "deploy/graph/ranges.h"

namespace sextant::deploy {
namespace {

using Pass = std::function<Graph(const Graph&)>;

Tensor noise(int64_t height, int64_t width) {
  Tensor image(Shape{1, height, width, 3}, DType::kU8);
  Rng rng(1);
  for (uint8_t& v : image.span<uint8_t>()) v = static_cast<uint8_t>(rng.uniform(0, 256));
  return image;
}

// Ranges for a fused graph, whose groups are set.
void assign_from_run(Graph& g, const Tensor& image) {
  std::vector<float> amax(g.tensors.size(), 0.0f);
  Engine engine(g, {.batch = 1, .height = image.dim(1), .width = image.dim(2)});
  engine.run(image, [&](const TensorView& v) {
    float& m = amax[static_cast<size_t>(v.info->group)];
    const Tensor values = v.values();
    for (const float x : values.span<float>())
      if (std::isfinite(x)) m = std::max(m, std::abs(x));
  });
  for (Node& node : g.nodes) node.precision = Precision::kInt8;
  assign_ranges(g, amax);
  set_weight_scales(g);
}

// Inputs of nodes that have to be in their output's range.
int64_t joints(const Graph& g) {
  Graph distinct = g;
  for (size_t t = 0; t < distinct.tensors.size(); ++t)
    distinct.tensors[t].amax = static_cast<float>(t + 1);
  return count_requantizations(distinct);
}

PassRow describe(const std::string& pass, const Graph& g, const PassReportOptions& options) {
  PassRow row;
  row.pass = pass;
  row.nodes = static_cast<int64_t>(g.nodes.size());
  const std::vector<Shape> shapes = infer_shapes(g, 1, options.height, options.width);
  double bytes = 0;
  for (const Node& node : g.nodes) {
    row.convolutions += node.has_weight();
    row.requantizations += node.is<ActivationAttributes>() || node.is<BatchNormAttributes>();
    if (node.is<InputAttributes>()) continue;
    for (const int t : node.inputs)
      bytes += static_cast<double>(shapes[static_cast<size_t>(t)].numel());
    bytes += static_cast<double>(shapes[static_cast<size_t>(node.output)].numel());
  }
  row.requantizations += joints(g);
  row.moved_mb = bytes / 1e6;
  return row;
}

struct NamedPass {
  std::string name;
  Pass run;
};

// The passes of fuse(); a second fold_activation is part of the first.
std::vector<NamedPass> fusing_passes() {
  return {{"fold_linear", fold_linear},
          {"fold_activation", fold_activation},
          {"fold_residual", [](const Graph& g) { return fold_activation(fold_residual(g)); }},
          {"remove_dead", remove_dead}};
}

// All passes but one.
Graph without(const Graph& traced, const std::string& left_out) {
  const bool activations = left_out != "fold_activation";
  Graph g = left_out == "fold_linear" ? traced : fold_linear(traced);
  if (activations) g = fold_activation(g);
  if (left_out != "fold_residual") g = fold_residual(g);
  if (activations) g = fold_activation(g);
  g = remove_dead(g);
  left_out == "unify_ranges" ? separate_ranges(g) : unify_ranges(g);
  return g;
}

}  // namespace

PassReport report_passes(const Graph& graph, const PassReportOptions& options) {
  const bool traced = !is_fused(graph);
  PassReport report;
  report.remaining_joints = graph.quantized() ? count_requantizations(graph) : 0;
  Graph g = graph;
  report.rows.push_back(describe(traced ? "traced" : "fused", g, options));
  if (traced)
    for (const NamedPass& pass : fusing_passes()) {
      g = pass.run(g);
      report.rows.push_back(describe(pass.name, g, options));
    }
  // the joints of tensors that share a range cost nothing
  PassRow unified = describe("unify_ranges", g, options);
  unified.requantizations -= joints(g);
  report.rows.push_back(unified);

  const Tensor image = noise(options.height, options.width);
  const EngineConfig config{1, options.height, options.width, Precision::kInt8};
  struct Variant {
    int row;  // -1: all passes
    Engine engine;
    std::vector<double> ms;
  };
  std::vector<Variant> variants;
  const auto add = [&](int row, const std::string& left_out) {
    Graph v = without(traced ? graph : g, left_out);
    // nothing to time where the pass finds nothing to do
    if (!is_fused(v) ||
        (v.nodes.size() == g.nodes.size() && row >= 0 && left_out != "unify_ranges"))
      return;
    assign_from_run(v, image);
    variants.push_back({row, Engine(v, config), {}});
  };
  add(-1, "");
  report.requantizations = variants[0].engine.stats().requantizations;
  if (options.runs == 0) return report;
  for (size_t r = 1; r < report.rows.size(); ++r)
    if (report.rows[r].pass != "remove_dead") add(static_cast<int>(r), report.rows[r].pass);
  for (int r = -2; r < options.runs; ++r)
    for (Variant& v : variants) {
      const auto start = std::chrono::steady_clock::now();
      v.engine.run(image);
      const auto end = std::chrono::steady_clock::now();
      if (r >= 0) v.ms.push_back(std::chrono::duration<double, std::milli>(end - start).count());
    }
  report.runs = options.runs;
  for (Variant& v : variants)
    (v.row < 0 ? report.ms : report.rows[static_cast<size_t>(v.row)].ms_without) = median(v.ms);
  return report;
}

std::string format_passes(const PassReport& report) {
  std::string text =
      fmt::format("{:<16} {:>6} {:>6} {:>12} {:>9} {:>14} {:>8}\n", "after pass", "nodes", "convs",
                  "requantize", "MB moved", "ms without it", "gain ms");
  for (const PassRow& r : report.rows) {
    text += fmt::format("{:<16} {:>6} {:>6} {:>12} {:>9.1f}", r.pass, r.nodes, r.convolutions,
                        r.requantizations, r.moved_mb);
    if (r.ms_without)
      text += fmt::format(" {:>14.2f} {:>8.2f}", *r.ms_without, *r.ms_without - *report.ms);
    else
      text += fmt::format(" {:>14} {:>8}", "-", "-");
    text += "\n";
  }
  text += fmt::format("the int8 engine has {} requantizing steps", report.requantizations);
  if (report.ms)
    text +=
        fmt::format("; all passes: {:.2f} ms, median of {} runs in turns", *report.ms, report.runs);
  text += "\n";
  if (report.remaining_joints > 0)
    text += fmt::format("the ranges stored in the model need {} requantizations\n",
                        report.remaining_joints);
  return text;
}

Json passes_to_json(const PassReport& report) {
  Json rows = Json::array();
  for (const PassRow& r : report.rows) {
    Json row = {{"pass", r.pass},
                {"nodes", r.nodes},
                {"convolutions", r.convolutions},
                {"requantizations", r.requantizations},
                {"moved_mb", r.moved_mb}};
    if (r.ms_without) row["ms_without"] = *r.ms_without;
    rows.push_back(std::move(row));
  }
  Json j = {{"passes", std::move(rows)},
            {"requantizations", report.requantizations},
            {"requantizations_of_stored_ranges", report.remaining_joints}};
  if (report.ms) j["ms"] = *report.ms;
  if (report.ms) j["runs"] = report.runs;
  return j;
}

}  // namespace sextant::deploy
