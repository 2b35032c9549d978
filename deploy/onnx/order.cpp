// SPDX-License-Identifier: Apache-2.0
#include "deploy/onnx/order.h"

#include <map>
#include <vector>

#include "core/error.h"
#include "core/text.h"

namespace sextant::deploy {
namespace {

class Order {
 public:
  Order(const onnx::GraphProto& graph, const std::string& source)
      : graph_(graph),
        source_(source),
        state_(static_cast<size_t>(graph.node_size()), State::kUnneeded) {
    for (int i = 0; i < graph.node_size(); ++i)
      for (const std::string& output : graph.node(i).output())
        if (!output.empty()) maker_.emplace(output, i);
  }

  std::vector<int> find() {
    mark_needed();
    for (int i = 0; i < graph_.node_size(); ++i)
      if (state(i) == State::kNeeded) place_with_sources(i);
    return placed_;
  }

 private:
  enum class State { kUnneeded, kNeeded, kOpen, kPlaced };
  State& state(int node) { return state_[static_cast<size_t>(node)]; }

  // Calls f with each node that makes an input of `node`.
  template <class F>
  void each_source(int node, const F& f) const {
    for (const std::string& input : graph_.node(node).input())
      if (const auto made = maker_.find(input); made != maker_.end()) f(made->second);
  }

  void mark_needed() {
    std::vector<int> open;
    const auto need = [&](int node) {
      if (state(node) != State::kUnneeded) return;
      state(node) = State::kNeeded;
      open.push_back(node);
    };
    for (const auto& output : graph_.output())
      if (const auto made = maker_.find(output.name()); made != maker_.end()) need(made->second);
    while (!open.empty()) {
      const int node = open.back();
      open.pop_back();
      each_source(node, need);
    }
  }

  // Depth first, with a stack instead of recursion: an open node waits for what lies above it.
  void place_with_sources(int first) {
    std::vector<int> stack{first};
    while (!stack.empty()) {
      const int node = stack.back();
      if (state(node) == State::kNeeded) {
        state(node) = State::kOpen;
        each_source(node, [&](int source) {
          check(state(source) != State::kOpen, "{}: node '{}' depends on itself", source_,
                label_of(graph_.node(source)));
          if (state(source) == State::kNeeded) stack.push_back(source);
        });
        continue;
      }
      stack.pop_back();
      if (state(node) == State::kOpen) {
        state(node) = State::kPlaced;
        placed_.push_back(node);
      }
    }
  }

  const onnx::GraphProto& graph_;
  const std::string& source_;
  std::map<std::string, int> maker_;
  std::vector<State> state_;
  std::vector<int> placed_;
};

}  // namespace

void order_nodes(onnx::GraphProto& graph, const std::string& source) {
  const std::vector<int> order = Order(graph, source).find();
  google::protobuf::RepeatedPtrField<onnx::NodeProto> nodes;
  for (const int i : order) nodes.Add()->Swap(graph.mutable_node(i));
  graph.mutable_node()->Swap(&nodes);
}

std::string label_of(const onnx::NodeProto& node) {
  const std::string& name = node.name();
  return excerpt(!name.empty() || node.output_size() == 0 ? name : node.output(0));
}

}  // namespace sextant::deploy
