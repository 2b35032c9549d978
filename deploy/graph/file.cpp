#include "deploy/graph/file.h"

#include <cmath>
#include <cstring>
#include <set>

#include "core/config.h"
#include "deploy/graph/ranges.h"

namespace sextant::deploy {
namespace {

// 2 has decode nodes that read objectness; a graph without is written as 1, which older programs
// read.
constexpr int kVersion = 2;

int version_of(const Graph& graph) {
  return graph.nodes.back().attributes.objectness ? kVersion : 1;
}

// ---- weights between our layout and PyTorch's

Tensor reinterpret(const Tensor& t, DType as) {
  Tensor copy(t.shape(), as);
  std::memcpy(copy.raw(), t.raw(), static_cast<size_t>(t.bytes()));
  return copy;
}

// The permutations are for f32 and u8; bytes are bytes.
template <class F>
Tensor permuted(const Tensor& t, const F& permute) {
  if (t.dtype() != DType::kI8) return permute(t);
  return reinterpret(permute(reinterpret(t, DType::kU8)), DType::kI8);
}

Tensor to_file(const Node& node, const Tensor& weight) {
  return permuted(weight, node.kind == NodeKind::kDeconv ? ohwi_to_iohw : nhwc_to_nchw);
}
Tensor from_file(const Node& node, const Tensor& weight) {
  return permuted(weight, node.kind == NodeKind::kDeconv ? iohw_to_ohwi : nchw_to_nhwc);
}

// ---- the graph as JSON

Json node_to_json(const Graph& graph, const Node& node) {
  const Attributes& a = node.attributes;
  Json j = {{"name", node.name}, {"kind", name_of(node.kind)}};
  j["inputs"] = Json::array();
  for (const int t : node.inputs) j["inputs"].push_back(graph.tensors[static_cast<size_t>(t)].name);
  switch (node.kind) {
    case NodeKind::kConv:
      j["stride"] = a.stride;
      j["padding"] = a.padding;
      j["groups"] = a.groups;
      j["residual"] = !a.residual                    ? "none"
                      : a.residual_before_activation ? "before_activation"
                                                     : "after_activation";
      if (a.residual_scale != 1.0f) j["residual_scale"] = a.residual_scale;
      [[fallthrough]];
    case NodeKind::kDeconv:
      j["bias"] = node.bias.defined();
      j["precision"] = name_of(node.precision);
      [[fallthrough]];
    case NodeKind::kActivation:
      j["activation"] = name_of(a.activation);
      break;
    case NodeKind::kMaxPool:
      j["kernel"] = a.kernel;
      j["stride"] = a.stride;
      j["padding"] = a.padding;
      break;
    case NodeKind::kUpsample:
      j["scale"] = a.scale;
      break;
    case NodeKind::kAdd:
      if (a.residual_scale != 1.0f) j["residual_scale"] = a.residual_scale;
      break;
    case NodeKind::kSlice:
      j["begin"] = a.begin;
      j["end"] = a.end;
      break;
    case NodeKind::kDecode:
      j["strides"] = a.strides;
      j["num_classes"] = a.num_classes;
      j["reg_max"] = a.reg_max;
      j["grid_cell_offset"] = a.grid_cell_offset;
      if (a.objectness) j["objectness"] = true;
      break;
    default:
      break;
  }
  return j;
}

Json graph_to_json(const Graph& graph) {
  Json j = {{"format", "sextant-deploy"},
            {"version", version_of(graph)},
            {"image_size", graph.image_size},
            {"gray_border", graph.gray_border}};
  j["class_names"] = graph.class_names;
  j["input"] = graph.tensors[static_cast<size_t>(graph.input)].name;
  j["output"] = graph.tensors[static_cast<size_t>(graph.output)].name;
  j["nodes"] = Json::array();
  for (const Node& node : graph.nodes) j["nodes"].push_back(node_to_json(graph, node));
  j["tensors"] = Json::array();
  for (const TensorInfo& t : graph.tensors)
    j["tensors"].push_back(
        {{"name", t.name},
         {"shape", std::vector<int64_t>(t.shape.dims().begin(), t.shape.dims().end())},
         {"group", t.group},
         {"unsigned", t.is_unsigned},
         {"amax", t.amax}});
  return j;
}

class Loader {
 public:
  explicit Loader(const SafeTensors& file) : file_(file) { graph_.source = file.path; }

  Graph load() {
    ConfigReader r(parse(), file_.path);
    std::string format;
    r.require("format", format);
    check(format == "sextant-deploy", "{}: format '{}' is no deploy file", file_.path, format);
    const int64_t version = integer(r, "version", 1, 1 << 20);
    check(version <= kVersion, "{}: version {} is not known, only up to {}", file_.path, version,
          kVersion);
    graph_.image_size = integer(r, "image_size", 0, 1 << 16);
    if (r.has("gray_border")) graph_.gray_border = integer(r, "gray_border", 0, 1 << 10);
    r.require("class_names", graph_.class_names);
    Json tensors;
    Json nodes;
    std::string input;
    std::string output;
    r.require("input", input);
    r.require("output", output);
    r.require("nodes", nodes);
    r.require("tensors", tensors);
    r.finish();
    check(nodes.is_array() && tensors.is_array() && nodes.size() <= 65536 &&
              tensors.size() == nodes.size(),
          "{}: 'nodes' and 'tensors' must be arrays of equal length", file_.path);
    for (const Json& t : tensors) tensor(t);
    for (const Json& n : nodes) node(n);
    graph_.input = id(input, "input");
    graph_.output = id(output, "output");
    for (const auto& [name, tensor] : file_.tensors)
      check(used_.contains(name), "{}: tensor '{}' belongs to no node", file_.path, name);
    validate(graph_);
    for (const Node& n : graph_.nodes)
      if (n.kind == NodeKind::kDecode)
        check(graph_.class_names.empty() ||
                  static_cast<int64_t>(graph_.class_names.size()) == n.attributes.num_classes,
              "{}: {} class names for {} classes", file_.path, graph_.class_names.size(),
              n.attributes.num_classes);
    return std::move(graph_);
  }

 private:
  Json parse() const {
    try {
      Json j = Json::parse(file_.meta("sextant"));
      check(j.is_object(), "{}: 'sextant' in __metadata__ is no JSON object", file_.path);
      return j;
    } catch (const nlohmann::json::exception& e) {
      fail("{}: 'sextant' in __metadata__ is no JSON: {}", file_.path, e.what());
    }
  }

  // An integer within bounds; a fraction or 1e300 is neither.
  int64_t integer(ConfigReader& r, const std::string& key, int64_t low, int64_t high) const {
    int64_t value = 0;
    if (r.has(key))
      check(r.json().at(key).is_number_integer(), "{}: '{}' of {} is no integer: {}", file_.path,
            key, now_, r.json().at(key).dump());
    r.require(key, value);
    check(value >= low && value <= high, "{}: '{}' of {} is {}, must be in [{}, {}]", file_.path,
          key, now_, value, low, high);
    return value;
  }

  void tensor(const Json& json) {
    now_ = fmt::format("tensor {}", graph_.tensors.size());
    check(json.is_object(), "{}: {} is no object", file_.path, now_);
    ConfigReader r(json, file_.path, now_ + ".");
    TensorInfo info;
    r.require("name", info.name);
    now_ = fmt::format("tensor '{}'", info.name);
    Json shape;
    r.require("shape", shape);
    check(shape.is_array() && shape.size() <= 4, "{}: {}: shape {} is no list of 1 to 4",
          file_.path, now_, shape.dump());
    std::vector<int64_t> dims;
    for (const Json& d : shape) {
      check(d.is_number_unsigned() && d.get<uint64_t>() < (uint64_t{1} << 40),
            "{}: {}: absurd shape {}", file_.path, now_, shape.dump());
      dims.push_back(d.get<int64_t>());
    }
    info.shape = Shape(std::span<const int64_t>(dims));
    info.group = static_cast<int>(integer(r, "group", -1, 1 << 20));
    r.require("unsigned", info.is_unsigned);
    r.require("amax", info.amax);
    r.finish();
    check(ids_.emplace(info.name, static_cast<int>(graph_.tensors.size())).second,
          "{}: {} is there twice", file_.path, now_);
    graph_.tensors.push_back(std::move(info));
  }

  int id(const std::string& name, const std::string& reader) const {
    const auto found = ids_.find(name);
    check(found != ids_.end(), "{}: {} names tensor '{}', which is not there", file_.path, reader,
          name);
    return found->second;
  }

  void node(const Json& json) {
    now_ = fmt::format("node {}", graph_.nodes.size());
    check(json.is_object(), "{}: {} is no object", file_.path, now_);
    ConfigReader r(json, file_.path, now_ + ".");
    Node n;
    r.require("name", n.name);
    now_ = fmt::format("node '{}'", n.name);
    std::string kind;
    std::vector<std::string> inputs;
    r.require("kind", kind);
    r.require("inputs", inputs);
    try {
      n.kind = from_name<NodeKind>(kind);
      check(n.kind != NodeKind::kBatchNorm, "batch-norm is not folded");
      for (const std::string& name : inputs) n.inputs.push_back(id(name, now_));
      n.output = id(n.name, now_);
      attributes(r, n);
    } catch (const Error& e) {
      const std::string message = e.what();
      fail("{}",
           message.starts_with(file_.path) ? message : file_.path + ": " + now_ + ": " + message);
    }
    r.finish();
    graph_.nodes.push_back(std::move(n));
  }

  void attributes(ConfigReader& r, Node& n) {
    Attributes& a = n.attributes;
    constexpr int64_t kLarge = 1 << 16;
    std::string activation = "identity";
    switch (n.kind) {
      case NodeKind::kConv: {
        a.stride = integer(r, "stride", 1, kLarge);
        a.padding = integer(r, "padding", 0, kLarge);
        a.groups = integer(r, "groups", 1, kLarge);
        std::string residual = "none";
        r.name("residual", residual, "residual", {"none", "before_activation", "after_activation"});
        a.residual = residual != "none";
        a.residual_before_activation = residual == "before_activation";
        r.get("residual_scale", a.residual_scale);
        [[fallthrough]];
      }
      case NodeKind::kDeconv: {
        bool bias = false;
        r.require("bias", bias);
        r.get("precision", n.precision, {Precision::kInt8, Precision::kFloat32});
        weights(n, bias);
        [[fallthrough]];
      }
      case NodeKind::kActivation:
        r.require("activation", activation);
        a.activation = activation_from_name(activation);
        break;
      case NodeKind::kMaxPool:
        a.kernel = integer(r, "kernel", 1, kLarge);
        a.stride = integer(r, "stride", 1, kLarge);
        a.padding = integer(r, "padding", 0, kLarge);
        break;
      case NodeKind::kUpsample:
        a.scale = integer(r, "scale", 1, kLarge);
        break;
      case NodeKind::kAdd:
        r.get("residual_scale", a.residual_scale);
        break;
      case NodeKind::kSlice:
        a.begin = integer(r, "begin", 0, kLarge);
        a.end = integer(r, "end", 0, kLarge);
        break;
      case NodeKind::kDecode: {
        Json strides;
        r.require("strides", strides);
        for (const Json& s : strides) {
          check(s.is_number_unsigned() && s.get<uint64_t>() <= 4096, "absurd strides {}",
                strides.dump());
          a.strides.push_back(s.get<int64_t>());
        }
        a.num_classes = integer(r, "num_classes", 1, kLarge);
        a.reg_max = integer(r, "reg_max", 0, kLarge);
        r.require("grid_cell_offset", a.grid_cell_offset);
        r.get("objectness", a.objectness);
        break;
      }
      default:
        break;
    }
  }

  const Tensor& stored(const std::string& name) {
    used_.insert(name);
    return file_.at(name);
  }
  void finite(const Tensor& t, const std::string& name) const {
    for (const float v : t.span<float>())
      check(std::isfinite(v), "tensor '{}' has values that are not finite", name);
  }

  void weights(Node& n, bool bias) {
    const std::string name = n.name + ".weight";
    const Tensor& w = stored(name);
    check(w.shape().rank() == 4 && w.numel() > 0 &&
              (w.dtype() == DType::kF32 || w.dtype() == DType::kI8),
          "tensor '{}' is {} {}, expected F32 or I8 of rank 4", name, name_of(w.dtype()),
          w.shape().str());
    const Tensor ours = from_file(n, w);
    if (w.dtype() == DType::kF32) {
      finite(w, name);
      n.weight = ours;
      if (file_.find(n.name + ".weight_scale")) n.weight_scale = scales(n, ours.dim(0));
    } else {
      n.weight_scale = scales(n, ours.dim(0));
      n.weight = Tensor(ours.shape());
      const int64_t inner = ours.numel() / ours.dim(0);
      for (int64_t i = 0; i < ours.numel(); ++i)
        n.weight.f32()[i] = static_cast<float>(ours.data<int8_t>()[i]) *
                            n.weight_scale[static_cast<size_t>(i / inner)];
    }
    if (!bias) return;
    n.bias = stored(n.name + ".bias");
    check(n.bias.dtype() == DType::kF32 && n.bias.shape() == Shape{ours.dim(0)},
          "tensor '{}.bias' is {} {}, expected F32 [{}]", n.name, name_of(n.bias.dtype()),
          n.bias.shape().str(), ours.dim(0));
    finite(n.bias, n.name + ".bias");
  }

  std::vector<float> scales(const Node& n, int64_t channels) {
    const std::string name = n.name + ".weight_scale";
    const Tensor& s = stored(name);
    check(s.dtype() == DType::kF32 && s.shape() == Shape{channels},
          "tensor '{}' is {} {}, expected F32 [{}]", name, name_of(s.dtype()), s.shape().str(),
          channels);
    finite(s, name);
    return {s.f32(), s.f32() + channels};
  }

  const SafeTensors& file_;
  Graph graph_;
  std::map<std::string, int> ids_;
  std::set<std::string> used_;
  std::string now_ = "the file";
};

}  // namespace

void save_deploy(const std::filesystem::path& path, const Graph& graph,
                 const std::map<std::string, std::string>& extra) {
  validate(graph);
  SafeTensors file;
  file.path = path.string();
  file.metadata = extra;
  file.metadata["sextant"] = graph_to_json(graph).dump();
  for (const Node& node : graph.nodes) {
    check(node.kind != NodeKind::kBatchNorm, "{}: node '{}' is not fused; fuse() first", file.path,
          node.name);
    if (!node.has_weight()) continue;
    const bool int8 = !node.weight_scale.empty() && node.precision == Precision::kInt8;
    if (int8) {
      const std::vector<int8_t> q = quantize_weight(node.weight, node.weight_scale);
      file.add(node.name + ".weight", to_file(node, Tensor::from(node.weight.shape(), q)));
    } else {
      file.add(node.name + ".weight", to_file(node, node.weight));
    }
    if (!node.weight_scale.empty())
      file.add(node.name + ".weight_scale", Tensor::from({node.weight.dim(0)}, node.weight_scale));
    if (node.bias.defined()) file.add(node.name + ".bias", node.bias);
  }
  save_safetensors(path, file);
}

bool is_deploy_file(const SafeTensors& file) {
  const auto found = file.metadata.find("sextant");
  if (found == file.metadata.end()) return false;
  const Json json = Json::parse(found->second, nullptr, /*allow_exceptions=*/false);
  return json.is_object() && json.contains("format") && json["format"] == "sextant-deploy";
}

Graph load_deploy(const SafeTensors& file) {
  check(is_deploy_file(file), "{}: is no deploy file", file.path);
  return Loader(file).load();
}

Graph load_deploy(const std::filesystem::path& path) { return load_deploy(load_safetensors(path)); }

}  // namespace sextant::deploy
