// SPDX-License-Identifier: Apache-2.0
#include "deploy/graph/trace.h"

#include <map>
#include <set>
#include <unordered_map>

#include "deploy/graph/attribute_json.h"
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
    add(std::move(node), input);
    graph_.input = 0;
  }

  void operation(const trace::Op& op) {
    const std::optional<NodeKind> kind = kind_traced_as(op.kind);
    check(kind.has_value(), "trace: operation '{}' is not supported in a deploy graph", op.kind);
    Node node;
    node.attributes = default_attributes(*kind);
    read_attributes(node, op);
    if (node.is<BatchNormAttributes>())
      batch_norm(node, op);
    else if (node.has_weight())
      weighted(node, op);
    else
      read(node, op, op.inputs.size());
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
  void read(Node& node, const trace::Op& op, size_t count) const {
    check(op.inputs.size() >= count, "trace: operation '{}' has {} inputs", op.kind,
          op.inputs.size());
    for (size_t i = 0; i < count; ++i) {
      const auto found = tensors_.find(op.inputs[i].id());
      check(found != tensors_.end(),
            "trace: operation '{}' reads a tensor {} that no recorded operation made", op.kind,
            op.inputs[i].defined() ? op.inputs[i].shape().str() : "(empty)");
      node.inputs.push_back(found->second);
    }
  }
  // Attributes that only fusing sets, such as a convolution's activation, keep their defaults.
  static void read_attributes(Node& node, const trace::Op& op) {
    ConfigReader from(op.attributes.is_null() ? Json::object() : op.attributes,
                      fmt::format("trace: operation '{}'", op.kind));
    AttributeReader reader(from, /*partial=*/true);
    visit_attributes(node.attributes, reader);
    if (node.is<DeconvAttributes>()) {
      int64_t stride = 2;
      from.get("stride", stride);
      check(stride == 2, "trace: {} with stride {}, only 2 is supported", op.kind, stride);
    }
    from.finish();
  }
  void weighted(Node& node, const trace::Op& op) const {
    read(node, op, 1);
    check(op.inputs.size() >= 2 && op.inputs[1].defined(), "trace: operation '{}' has no weight",
          op.kind);
    node.name = name_of_parameter(op.inputs[1]);
    node.weight = op.inputs[1].data();
    if (op.inputs.size() > 2 && op.inputs[2].defined()) node.bias = op.inputs[2].data();
  }
  void batch_norm(Node& node, const trace::Op& op) const {
    const size_t k = op.inputs.size() / 5;  // branches, each with an input and four parameters
    check(k >= 1 && op.inputs.size() == 5 * k, "trace: rep_bn_act with {} branches has {} inputs",
          k, op.inputs.size());
    read(node, op, k);
    for (size_t i = k; i < op.inputs.size(); ++i) node.norm.push_back(op.inputs[i].data());
    node.name = name_of_parameter(op.inputs[k]);
    for (size_t b = 1; b < k; ++b)
      node.name = common_path(node.name, name_of_parameter(op.inputs[k + 4 * b]));
  }

  void add(Node node, const Variable& output) {
    if (node.name.empty())
      node.name = fmt::format("{}_{}", name_of(node.kind()), count_[node.kind()]++);
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
