// SPDX-License-Identifier: Apache-2.0
#include "deploy/engine/selftest.h"

#include <algorithm>
#include <array>

#include "core/hash.h"
#include "core/rng.h"
#include "deploy/graph/file.h"
#include "deploy/graph/ranges.h"

namespace sextant::deploy {
namespace {

// 0..255 and back, `period` steps for both.
int triangle(int64_t at, int64_t period) {
  const int64_t p = at % period, half = period / 2;
  return static_cast<int>(255 * (p < half ? p : period - p) / half);
}

int random_byte(int which, int64_t y, int64_t x, int64_t c) {
  const int64_t place = ((y * 65536 + x) * 4 + c) * 2 + which;
  return static_cast<int>(splitmix64(static_cast<uint64_t>(place)) >> 56);
}

// Of its images, or of the trace; nothing where the input is no image.
std::optional<std::pair<int64_t, int64_t>> size_of(const Graph& graph) {
  const Shape& shape = graph.tensors[static_cast<size_t>(graph.input)].shape;
  if (shape.rank() != 4 || shape[3] != 3) return std::nullopt;
  if (graph.image_size > 0) return std::pair(graph.image_size, graph.width_for(graph.image_size));
  return std::pair(shape[1], shape[2]);
}

struct Hashed {
  int tensor;
  bool same_everywhere;  // on a device too
  std::array<std::string, 2> hashes;
};

// Of the tensors that are integers made of integers, in the order of the nodes.
std::vector<Hashed> hash_integers(const Graph& graph, Device device, int64_t height,
                                  int64_t width) {
  Engine engine(graph, {.batch = 1,
                        .height = height,
                        .width = width,
                        .precision = Precision::kInt8,
                        .device = device});
  const std::vector<int> producers = graph.producers();
  std::vector<Hashed> all;
  for (const int which : {0, 1}) {
    size_t next = 0;
    std::vector<bool> exact(graph.tensors.size(), false), anywhere = exact;
    engine.run(golden_image(which, height, width), [&](const TensorView& v) {
      const Node& node = graph.nodes[static_cast<size_t>(producers[static_cast<size_t>(v.id)])];
      const auto all_of_inputs = [&](const std::vector<bool>& are) {
        return std::ranges::all_of(node.inputs, [&](int t) { return are[static_cast<size_t>(t)]; });
      };
      const auto id = static_cast<size_t>(v.id);
      const bool in_float = node.has_weight() && !runs_in_int8(graph, node);
      exact[id] = v.quantized && !in_float && all_of_inputs(exact);
      anywhere[id] = exact[id] && all_of_inputs(anywhere) &&
                     !kernels::traits_of(node.activation()).exponential;
      if (!exact[id]) return;
      const Tensor integers = v.integers();
      const std::string hash = Hash64().add(integers.raw(), integers.bytes()).text();
      if (which == 0) all.push_back({v.id, anywhere[id], {}});
      all[next++].hashes[static_cast<size_t>(which)] = hash;
    });
  }
  return all;
}

}  // namespace

Tensor golden_image(int which, int64_t height, int64_t width) {
  Tensor image(Shape{1, height, width, 3}, DType::kU8);
  uint8_t* to = image.data<uint8_t>();
  const int64_t block = which == 0 ? 32 : 12;
  for (int64_t y = 0; y < height; ++y)
    for (int64_t x = 0; x < width; ++x)
      for (int64_t c = 0; c < 3; ++c) {
        const int wave = triangle((c + 1) * x + (3 - c) * y, which == 0 ? 254 : 86);
        const int patch = random_byte(which, y / block, x / block, c);
        const int noise = random_byte(which, y, x, c + 1);
        *to++ = static_cast<uint8_t>((3 * wave + 4 * patch + noise) / 8);
      }
  return image;
}

void add_golden_integers(Graph& graph) {
  graph.proof.golden.clear();
  const auto size = size_of(graph);
  if (!graph.quantized() || !size) return;
  for (const Hashed& h : hash_integers(graph, Device::kCpu, size->first, size->second))
    graph.proof.golden.push_back({graph.tensors[static_cast<size_t>(h.tensor)].name, h.hashes});
}

void save_with_proof(const std::filesystem::path& path, Graph graph) {
  if (!graph.proof.of.empty() && graph.proof.of != content_hash(graph)) graph.proof = {};
  graph.proof.of.clear();
  add_golden_integers(graph);
  save_deploy(path, graph);
}

SelfTest selftest(const Graph& graph, Device device) {
  check(graph.quantized(),
        "{}: is not quantized: the self-test compares integers, and a float network has none",
        graph.label());
  check(!graph.proof.stale, "{}: was changed after its golden integers were written",
        graph.label());
  const auto size = size_of(graph);
  check(!graph.proof.golden.empty() && size,
        "{}: has no golden integers; `sextant export --out` writes it with them", graph.label());
  SelfTest result{.height = size->first, .width = size->second};
  const std::vector<Hashed> here = hash_integers(graph, device, result.height, result.width);
  check(here.size() == graph.proof.golden.size(), "{}: golden integers of {} tensors instead of {}",
        graph.label(), graph.proof.golden.size(), here.size());
  for (size_t i = 0; i < here.size(); ++i) {
    const Proof::Golden& golden = graph.proof.golden[i];
    const std::string& name = graph.tensors[static_cast<size_t>(here[i].tensor)].name;
    check(golden.tensor == name, "{}: golden integers of '{}' instead of '{}'", graph.label(),
          golden.tensor, name);
    if (device != Device::kCpu && !here[i].same_everywhere) continue;
    for (size_t k = 0; k < 2; ++k)
      check(golden.hashes[k] == here[i].hashes[k],
            "{}: tensor '{}' has other integers than where the file was written, the first of {} "
            "tensors (golden image {})",
            graph.label(), name, here.size(), k);
    ++result.tensors;
  }
  result.others = std::ssize(graph.nodes) - result.tensors;
  return result;
}

}  // namespace sextant::deploy
