// SPDX-License-Identifier: Apache-2.0
#include "deploy/graph/info.h"

#include <algorithm>

#include "deploy/graph/attribute_json.h"
#include "deploy/graph/ranges.h"

namespace sextant::deploy {
namespace {

// The attributes as text behind the kind's name.
class Description : public AttributeValues {
 public:
  using AttributeValues::AttributeValues;
  void note(const char* text) override { text_ += text; }
  const std::string& text() const { return text_; }

 private:
  void value(const Key& key, const Json& v, bool is_default) override {
    if (is_default && !key.shown_always) return;
    text_ += fmt::format(fmt::runtime(key.shown), v.is_string() ? v.get<std::string>() : v.dump());
  }
  std::string text_;
};

std::string describe(const Node& node) {
  std::string text(name_of(node.kind()));
  if (node.has_weight()) text += fmt::format(" {}x{}", node.weight.dim(1), node.weight.dim(2));
  Description attributes(node.kind());
  visit_attributes(node.attributes, attributes);
  return text + attributes.text();
}

}  // namespace

GraphSummary summarize(const Graph& graph, int64_t height, int64_t width) {
  const std::vector<Shape> shapes = infer_shapes(graph, 1, height, width);
  GraphSummary summary;
  summary.quantized = graph.quantized();
  for (const Node& node : graph.nodes) {
    NodeSummary s;
    s.name = node.name;
    s.kind = describe(node);
    s.output = shapes[static_cast<size_t>(node.output)];
    s.input = node.inputs.empty() ? s.output : shapes[static_cast<size_t>(node.inputs[0])];
    const TensorInfo& out = graph.tensors[static_cast<size_t>(node.output)];
    if (out.has_range()) s.output_scale = out.scale();
    s.output_unsigned = out.is_unsigned;
    if (node.has_weight()) {
      s.parameters = node.weight.numel() + (node.bias.defined() ? node.bias.numel() : 0);
      // each weight is used once per pixel: of the output for a convolution, of the input for a
      // transposed one
      const bool deconv = node.is<DeconvAttributes>();
      const Shape& pixels = deconv ? s.input : s.output;
      s.flops = 2.0 * static_cast<double>(node.weight.numel()) *
                static_cast<double>(pixels[1] * pixels[2]);
      summary.readme_flops += deconv ? 4 * s.flops : s.flops;
      s.precision = name_of(runs_in_int8(graph, node) ? Precision::kInt8 : Precision::kFloat32);
    }
    if (const auto* decode = std::get_if<DecodeAttributes>(&node.attributes);
        decode && decode->reg_max > 0)
      summary.readme_flops += 8.0 * static_cast<double>(s.output[1] * (decode->reg_max + 1));
    summary.parameters += s.parameters;
    summary.flops += s.flops;
    summary.nodes.push_back(std::move(s));
  }
  return summary;
}

std::string format_summary(const GraphSummary& summary) {
  size_t name = 4;
  size_t kind = 4;
  for (const NodeSummary& s : summary.nodes) {
    name = std::max(name, s.name.size());
    kind = std::max(kind, s.kind.size());
  }
  std::string text =
      fmt::format("{:<{}}  {:<{}}  {:<18} {:<18} {:>10} {:>9}  {:<5} {}\n", "node", name, "kind",
                  kind, "in", "out", "params", "MFLOPs", "prec.", "output scale");
  for (const NodeSummary& s : summary.nodes) {
    const std::string scale = s.output_scale > 0 ? fmt::format("{:.6g} {}", s.output_scale,
                                                               s.output_unsigned ? "u8" : "s8")
                                                 : "f32";
    text += fmt::format("{:<{}}  {:<{}}  {:<18} {:<18} {:>10} {:>9.1f}  {:<5} {}\n", s.name, name,
                        s.kind, kind, s.input.str(), s.output.str(), s.parameters, s.flops / 1e6,
                        s.precision, scale);
  }
  text += fmt::format(
      "{} nodes, {:.3f} M parameters, {:.3f} GFLOPs ({:.3f} as the official README counts), "
      "{}\n",
      summary.nodes.size(), static_cast<double>(summary.parameters) / 1e6, summary.flops / 1e9,
      summary.readme_flops / 1e9, summary.quantized ? "int8" : "fp32");
  return text;
}

Json summary_to_json(const GraphSummary& summary) {
  Json nodes = Json::array();
  const auto dims = [](const Shape& s) {
    return std::vector<int64_t>(s.dims().begin(), s.dims().end());
  };
  for (const NodeSummary& s : summary.nodes) {
    Json node = {{"name", s.name},           {"kind", s.kind},         {"input", dims(s.input)},
                 {"output", dims(s.output)}, {"params", s.parameters}, {"flops", s.flops}};
    if (!s.precision.empty()) node["precision"] = s.precision;
    if (s.output_scale > 0) {
      node["output_scale"] = s.output_scale;
      node["output_unsigned"] = s.output_unsigned;
    }
    nodes.push_back(std::move(node));
  }
  return {{"params", summary.parameters},
          {"flops", summary.flops},
          {"readme_flops", summary.readme_flops},
          {"quantized", summary.quantized},
          {"nodes", std::move(nodes)}};
}

}  // namespace sextant::deploy
