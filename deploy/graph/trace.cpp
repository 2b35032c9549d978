#include "deploy/graph/trace.h"

#include <map>
#include <set>
#include <unordered_map>

#include "deploy/graph/passes.h"

namespace sextant::deploy {
namespace {

using Id = const autograd::Meta*;

// "a.b.weight" -> "a.b".
std::string module_of(const std::string& parameter) {
  const size_t dot = parameter.rfind('.');
  return dot == std::string::npos ? parameter : parameter.substr(0, dot);
}

class Builder {
 public:
  Builder(const Variable& input, const NamedVariables& parameters) {
    for (const auto& [name, variable] : parameters) names_[variable.id()] = name;
    Node node;
    node.name = "images";
    node.kind = NodeKind::kInput;
    add(std::move(node), input);
    graph_.input = 0;
  }

  void operation(const trace::Op& op) {
    Node node;
    const Json& a = op.attributes;
    try {
      if (op.kind == "conv2d") {
        node.kind = NodeKind::kConv;
        node.attributes.stride = a.at("stride");
        node.attributes.padding = a.at("padding");
        node.attributes.groups = a.value("groups", int64_t{1});
        weighted(node, op);
      } else if (op.kind == "conv_transpose2d") {
        node.kind = NodeKind::kDeconv;
        check(a.value("stride", 2) == 2, "trace: conv_transpose2d with stride {}, only 2 is known",
              a.value("stride", 2));
        weighted(node, op);
      } else if (op.kind == "rep_bn_act") {
        batch_norm(node, op);
      } else if (op.kind == "activation") {
        node.kind = NodeKind::kActivation;
        node.attributes.activation = from_name<Activation>(a.at("act").get<std::string>());
        read(node, op, 0, 1);
      } else if (op.kind == "max_pool2d") {
        node.kind = NodeKind::kMaxPool;
        node.attributes.kernel = a.at("kernel");
        node.attributes.stride = a.at("stride");
        node.attributes.padding = a.at("padding");
        read(node, op, 0, 1);
      } else if (op.kind == "upsample_nearest") {
        node.kind = NodeKind::kUpsample;
        node.attributes.scale = a.at("scale");
        read(node, op, 0, 1);
      } else if (op.kind == "concat" || op.kind == "add") {
        node.kind = op.kind == "add" ? NodeKind::kAdd : NodeKind::kConcat;
        if (a.contains("alpha")) node.attributes.residual_scale = a.at("alpha");
        read(node, op, 0, op.inputs.size());
      } else if (op.kind == "slice_channels") {
        node.kind = NodeKind::kSlice;
        node.attributes.begin = a.at("begin");
        node.attributes.end = a.at("end");
        read(node, op, 0, 1);
      } else if (op.kind == "detect_decode") {
        node.kind = NodeKind::kDecode;
        node.attributes.strides = a.at("strides").get<std::vector<int64_t>>();
        node.attributes.num_classes = a.at("num_classes");
        node.attributes.reg_max = a.at("reg_max");
        node.attributes.grid_cell_offset = a.value("grid_cell_offset", 0.5f);
        node.attributes.objectness = a.value("objectness", false);
        read(node, op, 0, op.inputs.size());
      } else {
        fail("trace: operation '{}' has no place in a deploy graph", op.kind);
      }
    } catch (const nlohmann::json::exception& e) {
      fail("trace: operation '{}': attributes {}: {}", op.kind, a.dump(), e.what());
    }
    add(std::move(node), op.output);
  }

  Graph finish(const Variable& output) {
    const auto found = tensors_.find(output.id());
    check(found != tensors_.end(), "trace: no recorded operation made the result");
    graph_.output = found->second;
    Graph graph = remove_dead(graph_);
    validate(graph);
    return graph;
  }

 private:
  std::string name_of_parameter(const Variable& v) const {
    const auto found = v.defined() ? names_.find(v.id()) : names_.end();
    return found == names_.end() ? "" : module_of(found->second);
  }
  void read(Node& node, const trace::Op& op, size_t begin, size_t count) const {
    check(op.inputs.size() >= begin + count, "trace: operation '{}' has {} inputs", op.kind,
          op.inputs.size());
    for (size_t i = begin; i < begin + count; ++i) {
      const auto found = tensors_.find(op.inputs[i].id());
      check(found != tensors_.end(),
            "trace: operation '{}' reads a tensor {} that no recorded operation made", op.kind,
            op.inputs[i].defined() ? op.inputs[i].shape().str() : "(empty)");
      node.inputs.push_back(found->second);
    }
  }
  void weighted(Node& node, const trace::Op& op) const {
    read(node, op, 0, 1);
    check(op.inputs.size() >= 2 && op.inputs[1].defined(), "trace: operation '{}' has no weight",
          op.kind);
    node.name = name_of_parameter(op.inputs[1]);
    node.weight = op.inputs[1].data();
    if (op.inputs.size() > 2 && op.inputs[2].defined()) node.bias = op.inputs[2].data();
  }
  void batch_norm(Node& node, const trace::Op& op) const {
    node.kind = NodeKind::kBatchNorm;
    const size_t k = op.attributes.at("branches").get<size_t>();
    node.attributes.eps = op.attributes.at("eps");
    node.attributes.activation = from_name<Activation>(op.attributes.at("act").get<std::string>());
    check(k >= 1 && op.inputs.size() == 5 * k, "trace: rep_bn_act with {} branches has {} inputs",
          k, op.inputs.size());
    read(node, op, 0, k);
    for (size_t i = k; i < op.inputs.size(); ++i) node.norm.push_back(op.inputs[i].data());
    node.name = name_of_parameter(op.inputs[k]);
    for (size_t b = 1; b < k; ++b)
      node.name = common_path(node.name, name_of_parameter(op.inputs[k + 4 * b]));
  }

  void add(Node node, const Variable& output) {
    if (node.name.empty())
      node.name = fmt::format("{}_{}", name_of(node.kind), count_[node.kind]++);
    const std::string base = node.name;
    for (int n = 2; !taken_.insert(node.name).second; ++n)
      node.name = fmt::format("{}_{}", base, n);
    node.output = static_cast<int>(graph_.tensors.size());
    TensorInfo info;
    info.name = node.name;
    info.shape = output.shape();
    graph_.tensors.push_back(std::move(info));
    tensors_[output.id()] = node.output;
    graph_.nodes.push_back(std::move(node));
  }

  Graph graph_;
  std::unordered_map<Id, std::string> names_;
  std::unordered_map<Id, int> tensors_;
  std::set<std::string> taken_;
  std::map<NodeKind, int> count_;
};

}  // namespace

Graph graph_from_ops(const std::vector<trace::Op>& ops, const Variable& input,
                     const Variable& output, const NamedVariables& parameters) {
  check(input.defined() && output.defined(), "trace: input and result must be defined");
  Builder builder(input, parameters);
  for (const trace::Op& op : ops) builder.operation(op);
  return builder.finish(output);
}

Graph trace_model(const std::function<Variable(const Variable&)>& forward,
                  const NamedVariables& parameters, const Shape& input_shape) {
  check(input_shape.rank() == 4 && input_shape[3] == 3, "trace: input {} must be [N,H,W,3]",
        input_shape.str());
  const NoGrad no_grad;
  const Variable input(Tensor::zeros(input_shape));
  const trace::Recorder recorder;
  const Variable output = forward(input);
  return graph_from_ops(recorder.ops(), input, output, parameters);
}

}  // namespace sextant::deploy
