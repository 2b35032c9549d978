// SPDX-License-Identifier: Apache-2.0
#include "deploy/graph/file.h"

#include <cstring>
#include <set>

#include "core/class_names.h"
#include "core/hash.h"
#include "core/values.h"
#include "deploy/graph/attribute_json.h"
#include "deploy/graph/ranges.h"

namespace sextant::deploy {
namespace {

// Version 2 allows decode nodes that read objectness, version 3 those with a size_multiple, and gains
// behind activations. A graph is written as the oldest version that has what it needs, which older
// programs read.
constexpr int kVersion = 3;

constexpr char kProof[] = "sextant_proof";

int version_of(const Graph& graph) {
  for (const Node& node : graph.nodes)
    if (node.gain.defined()) return 3;
  const Node* decode = graph.decode();
  if (!decode) return 1;
  const auto& a = decode->as<DecodeAttributes>();
  return a.size_multiple > 0 ? 3 : (a.objectness ? 2 : 1);
}

// ---- weights between our layout and PyTorch's

Tensor reinterpret(const Tensor& t, DType as) {
  Tensor copy(t.shape(), as);
  std::memcpy(copy.raw(), t.raw(), static_cast<size_t>(t.bytes()));
  return copy;
}

Layout layout_of(const Node& node) { return rules_of(node).weight.value(); }

// The permutation kernels take f32 and u8; int8 is permuted as u8.
template <class F>
Tensor permuted(const Tensor& t, const F& permute) {
  if (t.dtype() != DType::kI8) return permute(t);
  return reinterpret(permute(reinterpret(t, DType::kU8)), DType::kI8);
}

Tensor to_file(const Node& node, const Tensor& weight) {
  return permuted(weight, [&](const Tensor& t) { return to_file_layout(t, layout_of(node)); });
}
Tensor from_file(const Node& node, const Tensor& weight) {
  return permuted(weight, [&](const Tensor& t) { return from_file_layout(t, layout_of(node)); });
}

// ---- the graph as JSON

class NodeWriter : public AttributeWriter {
 public:
  NodeWriter(Json& to, const Node& node) : AttributeWriter(to, node.kind()), node_(node) {}
  void weight() override {
    to_["bias"] = node_.bias.defined();
    if (node_.gain.defined()) to_["gain"] = true;
    to_["precision"] = name_of(node_.precision);
  }

 private:
  const Node& node_;
};

Json node_to_json(const Graph& graph, const Node& node) {
  Json j = {{"name", node.name}, {"kind", name_of(node.kind())}};
  j["inputs"] = Json::array();
  for (const int t : node.inputs) j["inputs"].push_back(graph.tensors[static_cast<size_t>(t)].name);
  NodeWriter writer(j, node);
  visit_attributes(node.attributes, writer);
  return j;
}

Json graph_to_json(const Graph& graph) {
  Json j = {{"format", "sextant-deploy"},
            {"version", version_of(graph)},
            {"image_size", graph.image_size},
            {"gray_border", graph.gray_border}};
  if (graph.image_width > 0) j["image_width"] = graph.image_width;
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
    check(format == "sextant-deploy", "{}: is not a deploy file: its format is '{}'", file_.path,
          format);
    const int64_t version = integer(r, "version", 1, 1 << 20);
    check(version <= kVersion, "{}: version {} is not supported, only versions up to {}",
          file_.path, version, kVersion);
    graph_.image_size = integer(r, "image_size", 0, 1 << 16);
    if (r.has("image_width")) graph_.image_width = integer(r, "image_width", 0, 1 << 16);
    if (r.has("gray_border")) graph_.gray_border = integer(r, "gray_border", 0, 1 << 10);
    r.require("class_names", graph_.class_names);
    check_class_names(graph_.class_names, file_.path);
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
      check(used_.contains(name), "{}: tensor '{}' does not belong to any node", file_.path, name);
    validate(graph_);
    if (const Node* decode = graph_.decode()) {
      const int64_t classes = decode->as<DecodeAttributes>().num_classes;
      check(graph_.class_names.empty() || std::ssize(graph_.class_names) == classes,
            "{}: {} class names for {} classes", file_.path, graph_.class_names.size(), classes);
    }
    return std::move(graph_);
  }

 private:
  Json parse() const {
    Json j = parse_json(file_.meta("sextant"), file_.path + ": 'sextant' in __metadata__");
    check(j.is_object(), "{}: 'sextant' in __metadata__ must be a JSON object", file_.path);
    return j;
  }

  // An integer within bounds; refuses fractions and 1e300.
  int64_t integer(ConfigReader& r, const std::string& key, int64_t low, int64_t high) const {
    int64_t value = 0;
    if (r.has(key))
      check(r.json().at(key).is_number_integer(), "{}: '{}' of {} must be an integer, not {}",
            file_.path, key, now_, short_json(r.json().at(key)));
    r.require(key, value);
    check(value >= low && value <= high, "{}: '{}' of {} is {}, must be in [{}, {}]", file_.path,
          key, now_, value, low, high);
    return value;
  }

  void tensor(const Json& json) {
    now_ = fmt::format("tensor {}", graph_.tensors.size());
    check(json.is_object(), "{}: {} must be an object", file_.path, now_);
    ConfigReader r(json, file_.path, now_ + ".");
    TensorInfo info;
    r.require("name", info.name);
    now_ = fmt::format("tensor '{}'", info.name);
    Json shape;
    r.require("shape", shape);
    check(shape.is_array() && shape.size() <= 4, "{}: {}: shape {} must be a list of 1 to 4",
          file_.path, now_, short_json(shape));
    std::vector<int64_t> dims;
    for (const Json& d : shape) {
      check(d.is_number_unsigned() && d.get<uint64_t>() < (uint64_t{1} << 40),
            "{}: {}: shape {} is out of bounds", file_.path, now_, short_json(shape));
      dims.push_back(d.get<int64_t>());
    }
    info.shape = Shape(std::span<const int64_t>(dims));
    info.group = static_cast<int>(integer(r, "group", -1, 1 << 20));
    r.require("unsigned", info.is_unsigned);
    r.require("amax", info.amax);
    r.finish();
    check(ids_.emplace(info.name, static_cast<int>(graph_.tensors.size())).second,
          "{}: duplicate {}", file_.path, now_);
    graph_.tensors.push_back(std::move(info));
  }

  int id(const std::string& name, const std::string& reader) const {
    const auto found = ids_.find(name);
    check(found != ids_.end(), "{}: {} refers to tensor '{}', which does not exist", file_.path,
          reader, name);
    return found->second;
  }

  void node(const Json& json) {
    now_ = fmt::format("node {}", graph_.nodes.size());
    check(json.is_object(), "{}: {} must be an object", file_.path, now_);
    Node n;
    ConfigReader(json, file_.path, now_ + ".").require("name", n.name);
    now_ = fmt::format("node '{}'", n.name);
    const std::string where = file_.path + ": " + now_;
    ConfigReader r(json, where);
    std::string kind;
    std::vector<std::string> inputs;
    r.require("name", n.name);
    r.require("kind", kind);
    r.require("inputs", inputs);
    try {
      n.attributes = default_attributes(from_name<NodeKind>(kind));
      check(!rules_of(n).only_traced, "kind {} has not been fused", kind);
      for (const std::string& name : inputs) n.inputs.push_back(id(name, now_));
      n.output = id(n.name, now_);
      NodeReader reader(*this, r, n);
      visit_attributes(n.attributes, reader);
      check_attributes(n.attributes);
    } catch (const Error& e) {
      const std::string message = e.what();
      fail("{}", message.starts_with(file_.path) ? message : where + ": " + message);
    }
    r.finish();
    graph_.nodes.push_back(std::move(n));
  }

  class NodeReader : public AttributeReader {
   public:
    NodeReader(Loader& loader, ConfigReader& from, Node& node)
        : AttributeReader(from), loader_(loader), node_(node) {}
    void weight() override {
      bool bias = false;
      from_.require("bias", bias);
      bool gain = false;
      from_.get("gain", gain);
      from_.get("precision", node_.precision, {Precision::kInt8, Precision::kFloat32});
      loader_.weights(node_, bias);
      if (gain) node_.gain = loader_.channels(node_.name + ".gain", node_.weight.dim(0));
    }

   private:
    Loader& loader_;
    Node& node_;
  };

  const Tensor& stored(const std::string& name) {
    used_.insert(name);
    return file_.at(name);
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
      check_values(w, name, file_.path);
      n.weight = ours;
      if (file_.find(n.name + ".weight_scale")) n.weight_scale = scales(n, ours.dim(0));
    } else {
      n.weight_scale = scales(n, ours.dim(0));
      n.weight = Tensor(ours.shape());
      const int64_t inner = ours.numel() / ours.dim(0);
      const auto* from = ours.data<int8_t>();
      float* to = n.weight.f32();
      for (const float scale : n.weight_scale)
        for (int64_t i = 0; i < inner; ++i) *to++ = static_cast<float>(*from++) * scale;
    }
    if (bias) n.bias = channels(n.name + ".bias", ours.dim(0));
  }

  // A number for each channel.
  Tensor channels(const std::string& name, int64_t count) {
    const Tensor& t = stored(name);
    check(t.dtype() == DType::kF32 && t.shape() == Shape{count},
          "tensor '{}' is {} {}, expected F32 [{}]", name, name_of(t.dtype()), t.shape().str(),
          count);
    check_values(t, name, file_.path);
    return t;
  }

  std::vector<float> scales(const Node& n, int64_t channels) {
    const std::string name = n.name + ".weight_scale";
    const Tensor& s = stored(name);
    check(s.dtype() == DType::kF32 && s.shape() == Shape{channels},
          "tensor '{}' is {} {}, expected F32 [{}]", name, name_of(s.dtype()), s.shape().str(),
          channels);
    check_values(s, name, file_.path);
    return {s.f32(), s.f32() + channels};
  }

  const SafeTensors& file_;
  Graph graph_;
  std::map<std::string, int> ids_;
  std::set<std::string> used_;
  std::string now_ = "the file";
};

// Without its proof.
SafeTensors to_safetensors(const Graph& graph) {
  SafeTensors file;
  file.metadata["sextant"] = json_text(graph_to_json(graph));
  for (const Node& node : graph.nodes) {
    if (!node.has_weight()) continue;
    if (runs_in_int8(graph, node)) {
      const std::vector<int8_t> q = quantize_weight(node.weight, node.weight_scale);
      file.add(node.name + ".weight", to_file(node, Tensor::from(node.weight.shape(), q)));
    } else {
      file.add(node.name + ".weight", to_file(node, node.weight));
    }
    if (!node.weight_scale.empty())
      file.add(node.name + ".weight_scale", Tensor::from({node.weight.dim(0)}, node.weight_scale));
    if (node.bias.defined()) file.add(node.name + ".bias", node.bias);
    if (node.gain.defined()) file.add(node.name + ".gain", node.gain);
  }
  return file;
}

// Of all that the file holds besides its proof.
std::string content_hash(const SafeTensors& file) {
  Hash64 hash;
  hash.add(file.meta("sextant"));
  for (const auto& [name, tensor] : file.tensors) {
    hash.add(name).add(name_of(tensor.dtype()));
    for (const int64_t d : tensor.shape().dims()) hash.add(d);
    hash.add(tensor.raw(), tensor.bytes());
  }
  return hash.text();
}

Proof read_proof(const SafeTensors& file) {
  const auto found = file.metadata.find(kProof);
  if (found == file.metadata.end()) return {};
  Proof proof = parse_proof(found->second, file.path + ": '" + kProof + "' in __metadata__");
  if (proof.empty() || proof.of == content_hash(file)) return proof;
  Proof none;
  none.stale = true;
  return none;
}

}  // namespace

std::string content_hash(const Graph& graph) { return content_hash(to_safetensors(graph)); }

void save_deploy(const std::filesystem::path& path, const Graph& graph,
                 const std::map<std::string, std::string>& extra) {
  check_fused(graph);
  validate(graph);
  SafeTensors file = to_safetensors(graph);
  file.path = path.string();
  file.metadata.insert(extra.begin(), extra.end());
  // A proof of what the graph once was is left out.
  Proof proof = graph.proof;
  const std::string hash = content_hash(file);
  if (!proof.empty() && (proof.of.empty() || proof.of == hash)) {
    proof.of = hash;
    file.metadata[kProof] = proof_text(proof);
  }
  load_deploy(file);  // refuses to write what could not be read back
  save_safetensors(path, file);
}

bool is_deploy_file(const SafeTensors& file) {
  const auto found = file.metadata.find("sextant");
  if (found == file.metadata.end()) return false;
  const Json json = parse_json(found->second, file.path + ": 'sextant' in __metadata__");
  return json.is_object() && json.contains("format") && json["format"] == "sextant-deploy";
}

Graph load_deploy(const SafeTensors& file) {
  check(is_deploy_file(file),
        "{}: is not a deploy file; `sextant export` or `sextant quantize` makes one", file.path);
  Graph graph = Loader(file).load();
  graph.proof = read_proof(file);
  return graph;
}

void replace_proof(const std::filesystem::path& path, Proof proof) {
  SafeTensors file = load_safetensors(path);
  load_deploy(file);
  proof.of = content_hash(file);
  file.metadata[kProof] = proof_text(proof);
  load_deploy(file);
  save_safetensors(path, file);
}

Graph load_deploy(const std::filesystem::path& path) { return load_deploy(load_safetensors(path)); }

}  // namespace sextant::deploy
