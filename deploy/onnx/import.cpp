// SPDX-License-Identifier: Apache-2.0
#include "deploy/onnx/import.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <utility>

#include "core/allocator.h"
#include "core/class_names.h"
#include "core/file.h"
#include "core/text.h"
#include "deploy/graph/passes.h"
#include "deploy/graph/ranges.h"
#include "deploy/onnx/detector.h"
#include "deploy/onnx/external.h"
#include "deploy/onnx/importer.h"
#include "deploy/onnx/order.h"
#include "deploy/onnx/tail.h"

namespace sextant::deploy {
namespace {

using onnx::TensorProto;

constexpr int kMaxNodes = 20000;
constexpr int64_t kMaxBatch = 4096;

class ModelReader {
 public:
  ModelReader(const std::string& bytes, std::string source, const OnnxImportOptions& options)
      : source_(std::move(source)), options_(options) {
    const bool fits = bytes.size() <= static_cast<size_t>(std::numeric_limits<int>::max());
    check(fits && model_.ParseFromArray(bytes.data(), static_cast<int>(bytes.size())) &&
              model_.has_graph() && model_.graph().node_size() > 0,
          "{}: is not an ONNX model", source_);
    check(model_.graph().node_size() <= kMaxNodes, "{}: has {} nodes, too many", source_,
          model_.graph().node_size());
  }

  // Loads weights from files in this folder; returns their size in bytes.
  int64_t read_external(const std::filesystem::path& folder) {
    int64_t bytes = 0;
    named("external data", [&] { bytes = read_external_data(*model_.mutable_graph(), folder); });
    return bytes;
  }

  Graph read() {
    read_metadata();
    check_pads();
    order_nodes(*model_.mutable_graph(), source_);
    if (!tail_) return read_as_it_is();
    try {
      return read_as_it_is();
    } catch (const Error&) {
      // A tool may have rewritten the nodes that the metadata describes: they are recognized like
      // those of another exporter.
      const std::optional<OnnxTail> described = std::exchange(tail_, std::nullopt);
      described_ = described->attributes;
      try {
        return read_as_it_is();
      } catch (const Error&) {
      }
      throw;
    }
  }

 private:
  // Runs f and prefixes its Error with the file and `what`.
  template <class F>
  void named(const std::string& what, const F& f) const {
    try {
      f();
    } catch (const Error& e) {
      const std::string message = e.what();
      const bool known = message.starts_with(source_ + ": ");
      fail("{}: {}: {}", source_, what, message.substr(known ? source_.size() + 2 : 0));
    }
  }

  Graph read_as_it_is() {
    const onnx::ValueInfoProto& image = find_image();
    OnnxImporter importer = start(image);
    for (const TensorProto& t : model_.graph().initializer())
      if (!in_tail(t.name()))
        named(fmt::format("initializer '{}'", excerpt(t.name())), [&] { importer.constant(t); });
    if (tail_) check_operators();
    const std::optional<Error> first = import_nodes(importer);
    if (tail_ || (!first && !options_.head_maps && model_.graph().output_size() == 1)) {
      if (first) throw *first;
      finish(importer);
    } else {
      finish_detector(importer, image.name(), first);
    }
    return fused(std::move(importer.graph));
  }

  bool in_tail(const std::string& name) const {
    return tail_ && name.starts_with(tail_->name + "/");
  }

  // ---- everything but the nodes

  void read_metadata() {
    for (const onnx::StringStringEntryProto& p : model_.metadata_props()) {
      if (p.key() != "sextant") continue;
      const Json json = parse_json(p.value(), source_ + ": its metadata");
      if (!json.is_object() || json.value("format", Json()) != "sextant-onnx") return;
      ConfigReader r(json, source_);
      std::string format;
      r.require("format", format);
      check(json.value("version", Json()) == 1, "{}: its metadata is of a later version", source_);
      Json tail;
      Json version;
      r.require("version", version);
      r.require("class_names", class_names_);
      check_class_names(class_names_, source_);
      image_size_ = side(r, "image_size");
      if (r.has("image_width")) image_width_ = side(r, "image_width");
      gray_border_ = side(r, "gray_border");
      r.get("tail", tail);
      r.finish();
      if (!tail.is_null()) tail_ = tail_from_json(tail, source_);
      return;
    }
  }
  // Checked even in parts of the model that are left out: such sizes overflow.
  void check_pads() const {
    constexpr int64_t kMost = int64_t{1} << 32;
    std::map<std::string, const TensorProto*> constants;
    for (const TensorProto& t : model_.graph().initializer()) constants.emplace(t.name(), &t);
    for (const onnx::NodeProto& n : model_.graph().node())
      for (const onnx::AttributeProto& a : n.attribute())
        if (n.op_type() == "Constant" && n.output_size() > 0 && a.has_t())
          constants.emplace(n.output(0), &a.t());
    for (const onnx::NodeProto& n : model_.graph().node()) {
      if (n.op_type() != "Pad") continue;
      named(fmt::format("operator 'Pad' (node '{}')", label_of(n)), [&] {
        std::vector<int64_t> pads;
        for (const onnx::AttributeProto& a : n.attribute())
          if (a.name() == "pads") pads.assign(a.ints().begin(), a.ints().end());
        const auto given = n.input_size() > 1 ? constants.find(n.input(1)) : constants.end();
        if (given != constants.end()) pads = OnnxConstant(*given->second).ints();
        for (const int64_t p : pads)
          check(p >= -kMost && p <= kMost, "padding of {} is out of bounds", p);
      });
    }
  }
  int64_t side(ConfigReader& r, const std::string& key) const {
    Json value;
    r.require(key, value);
    check(value.is_number_unsigned() && value.get<uint64_t>() <= 8192, "{}: '{}' is {}", source_,
          key, short_json(value));
    return value.get<int64_t>();
  }

  const onnx::ValueInfoProto& find_image() const {
    std::set<std::string> constants;
    for (const TensorProto& t : model_.graph().initializer()) constants.insert(t.name());
    std::vector<const onnx::ValueInfoProto*> found;
    for (const onnx::ValueInfoProto& v : model_.graph().input())
      if (!constants.contains(v.name())) found.push_back(&v);
    check(found.size() == 1, "{}: has {} inputs, expected one image", source_, found.size());
    return *found[0];
  }

  // `own`: the size that the metadata says. 0: unknown.
  int64_t image_side(const onnx::TensorShapeProto& shape, int dim, int64_t own) const {
    const int64_t wanted =
        dim == 2 || options_.image_width == 0 ? options_.image_size : options_.image_width;
    if (shape.dim(dim).has_dim_value() && shape.dim(dim).dim_value() > 0) {
      const int64_t size = shape.dim(dim).dim_value();
      check(size <= 8192, "{}: its images have {} pixels a side, at most 8192 are supported",
            source_, size);
      check(wanted == 0 || wanted == size, "{}: takes images of {} pixels, not {}", source_, size,
            wanted);
      return size;
    }
    const int64_t size = wanted > 0 ? wanted : own;
    check(size > 0, "{}: does not fix the size of its images; give the image size", source_);
    return size;
  }

  OnnxImporter start(const onnx::ValueInfoProto& image) const {
    const onnx::TypeProto::Tensor& type = image.type().tensor_type();
    const std::string name = excerpt(image.name());
    check(type.elem_type() == TensorProto::FLOAT || type.elem_type() == TensorProto::FLOAT16,
          "{}: its input '{}' must hold floats", source_, name);
    check(type.shape().dim_size() == 4 &&
              (!type.shape().dim(1).has_dim_value() || type.shape().dim(1).dim_value() == 3),
          "{}: its input '{}' must be an image [N,3,H,W]", source_, name);
    const int64_t width = image_width_ > 0 ? image_width_ : image_size_;
    OnnxImporter importer(image_side(type.shape(), 2, image_size_),
                          image_side(type.shape(), 3, width), image.name());
    importer.graph.source = source_;
    const auto& batch = type.shape().dim(0);
    importer.symbolic_batch = !batch.has_dim_value() || batch.dim_value() < 1;
    if (batch.has_dim_value()) importer.batch = std::max<int64_t>(batch.dim_value(), 1);
    check(importer.batch <= kMaxBatch, "{}: takes {} images at a time, at most {} are supported",
          source_, importer.batch, kMaxBatch);
    importer.opset = 0;
    for (const onnx::OperatorSetIdProto& o : model_.opset_import())
      if (o.domain().empty() || o.domain() == "ai.onnx") importer.opset = o.version();
    check(importer.opset >= 7, "{}: uses operator set {}, the oldest supported is 7", source_,
          importer.opset);
    return importer;
  }

  void check_operators() const {
    std::vector<std::string> seen;
    std::string list;
    std::set<std::string> constants{""};
    for (const TensorProto& t : model_.graph().initializer()) constants.insert(t.name());
    for (const onnx::NodeProto& n : model_.graph().node()) {
      const bool folds = std::ranges::all_of(
          n.input(), [&](const std::string& name) { return constants.contains(name); });
      if (folds) constants.insert(n.output().begin(), n.output().end());
      if (in_tail(n.name()) || OnnxImporter::knows(n, folds)) continue;
      const std::string type = excerpt((n.domain().empty() ? "" : n.domain() + ".") + n.op_type());
      if (std::ranges::find(seen, type) != seen.end()) continue;
      seen.push_back(type);
      if (seen.size() <= 20)
        list += fmt::format("{}{} (node '{}')", list.empty() ? "" : ", ", type, label_of(n));
    }
    check(seen.empty(), "{}: unsupported operators: {}{}", source_, list,
          seen.size() > 20 ? fmt::format(" and {} more", seen.size() - 20) : "");
  }

  // Imports all nodes that can be imported, leaving out unsupported operators and the nodes that
  // read their results. Returns the first reason for leaving one out.
  std::optional<Error> import_nodes(OnnxImporter& importer) const {
    std::optional<Error> first;
    std::set<std::string> without;  // values of nodes that were left out
    for (const onnx::NodeProto& n : model_.graph().node()) {
      if (in_tail(n.name())) continue;
      bool left_out =
          !OnnxImporter::knows(n) || std::ranges::any_of(n.input(), [&](const std::string& name) {
            return without.contains(name);
          });
      if (!left_out) {
        try {
          named(fmt::format("operator '{}' (node '{}')", excerpt(n.op_type()), label_of(n)),
                [&] { importer.import_node(n); });
        } catch (const Error& e) {
          if (!first) first = e;
          left_out = true;
        }
      }
      if (!left_out) continue;
      if (!first)
        first = Error(fmt::format("{}: operator '{}' is not supported", source_, n.op_type()));
      without.insert(n.output().begin(), n.output().end());
    }
    return first;
  }

  // ---- the end of the model

  void describe(Graph& g, const Shape& image) const {
    // the size that it was trained at, if the metadata says so; else the size that it takes
    const bool said = options_.image_size > 0 || image_size_ > 0;
    const int64_t size = options_.image_size > 0 ? options_.image_size : image_size_;
    const int64_t width = options_.image_size > 0 ? options_.image_width : image_width_;
    g.image_size = said ? size : image[1];
    g.image_width = said ? width : image[2];
    if (g.image_width == g.image_size) g.image_width = 0;
    g.gray_border = gray_border_;
    g.class_names = options_.class_names.empty() ? class_names_ : options_.class_names;
    check_class_names(g.class_names, "--names");
  }

  void finish(OnnxImporter& importer) const {
    Graph& g = importer.graph;
    describe(g, importer.shapes[0]);
    if (!tail_) {
      named("its output", [&] { g.output = importer.tensor_of(model_.graph().output(0).name()); });
      return;
    }
    const std::vector<Shape> shapes =
        decode(importer, tail_->name, tail_->inputs, tail_->attributes);
    check_tail(shapes);
  }

  // A detector exported by another tool. If it is not one, `first` says why it is not an ordinary
  // network either.
  void finish_detector(OnnxImporter& importer, const std::string& image,
                       const std::optional<Error>& first) const {
    describe(importer.graph, importer.shapes[0]);
    const OnnxModelEnd end{
        model_.graph(),
        importer.opset,
        importer.batch,
        image,
        described_ ? described_->grid_cell_offset : DecodeAttributes{}.grid_cell_offset,
        [&](const std::string& name) { return importer.map_shape(name); }};
    std::optional<OnnxDetector> found;
    if (options_.head_maps && first) {
      check_operators();
      throw *first;
    }
    if (options_.head_maps)
      named("its outputs",
            [&] { found = detector_of_maps(end, std::ssize(importer.graph.class_names)); });
    else
      named("its outputs", [&] { found = find_detector(end); });
    if (!found) {
      check_operators();
      if (first) throw *first;
      fail(
          "{}: has {} outputs, expected one; if they are the maps of a YOLOv6 head, import them as "
          "maps",
          source_, model_.graph().output_size());
    }
    decode(importer, "", found->inputs, found->attributes);
  }

  // Ends the graph with a decode node; returns the shapes that it reads.
  std::vector<Shape> decode(OnnxImporter& importer, const std::string& name,
                            const std::vector<std::string>& inputs,
                            const DecodeAttributes& attributes) const {
    Graph& g = importer.graph;
    Node decode;
    decode.attributes = attributes;
    std::vector<Shape> shapes;
    named("its decode node", [&] {
      for (const std::string& input : inputs) {
        decode.inputs.push_back(importer.tensor_of(input));
        shapes.push_back(importer.shapes[static_cast<size_t>(decode.inputs.back())]);
      }
      g.output = importer.add(std::move(decode), name);
    });
    check(g.class_names.empty() || std::ssize(g.class_names) == attributes.num_classes,
          "{}: {} class names for {} classes", source_, g.class_names.size(),
          attributes.num_classes);
    return shapes;
  }

  // Checks that the nodes which the metadata calls the end equal those that our export would write.
  void check_tail(const std::vector<Shape>& shapes) const {
    const std::string what =
        source_ + ": its last nodes are not the decoding that its metadata describes";
    int64_t anchors = 0;
    for (size_t i = 0; i < shapes.size(); i += tail_->attributes.maps_per_level())
      anchors += shapes[i][1] * shapes[i][2];
    check(tail_->dynamic_size || anchors * 8 <= static_cast<int64_t>(model_.ByteSizeLong()), "{}",
          what);
    onnx::GraphProto expected;
    OnnxWriter writer(expected);
    write_tail(writer, *tail_, shapes);
    std::vector<std::string> ours;
    std::vector<std::string> theirs;
    for (const auto& n : expected.node()) ours.push_back(n.SerializeAsString());
    for (const auto& t : expected.initializer()) ours.push_back(t.SerializeAsString());
    for (const auto& n : model_.graph().node())
      if (in_tail(n.name())) theirs.push_back(n.SerializeAsString());
    for (const auto& t : model_.graph().initializer())
      if (in_tail(t.name())) theirs.push_back(t.SerializeAsString());
    std::ranges::sort(ours);
    std::ranges::sort(theirs);
    check(ours == theirs, "{}", what);
    std::vector<std::string> outputs;
    for (const auto& o : model_.graph().output()) outputs.push_back(o.name());
    check(outputs == tail_outputs(*tail_), "{}", what);
  }

  // ---- the graph

  Graph fused(Graph raw) const {
    Graph g = fuse(remove_dead(raw));
    const bool ranges =
        std::ranges::any_of(g.tensors, [](const TensorInfo& t) { return t.has_range(); });
    if (ranges) {
      share_ranges(g);
    } else {
      for (Node& n : g.nodes) {
        n.precision = Precision::kInt8;
        n.weight_scale.clear();
      }
    }
    validate(g);
    return g;
  }

  static void share_ranges(Graph& g) {
    const std::vector<TensorInfo> pairs = g.tensors;
    unify_ranges(g);
    const std::vector<bool> wanted = groups_to_quantize(g);
    std::vector<float> amax(g.tensors.size(), 0.0f);
    std::vector<bool> is_signed(g.tensors.size(), false);  // by a pair around zero
    for (size_t t = 0; t < pairs.size(); ++t) {
      const size_t group = static_cast<size_t>(g.tensors[t].group);
      amax[group] = std::max(amax[group], pairs[t].amax);
      if (pairs[t].has_range() && !pairs[t].is_unsigned) is_signed[group] = true;
    }
    const int image = g.tensors[static_cast<size_t>(g.input)].group;
    for (TensorInfo& t : g.tensors) {
      const size_t group = static_cast<size_t>(t.group);
      t.amax = t.group == image ? 1.0f : (wanted[group] ? amax[group] : 0.0f);
      if (t.group != image && is_signed[group]) t.is_unsigned = false;
    }
    for (Node& n : g.nodes)
      if (n.has_weight() && n.weight_scale.empty() && n.precision == Precision::kInt8)
        n.weight_scale = weight_steps(n.weight);
  }

  std::string source_;
  const OnnxImportOptions& options_;
  onnx::ModelProto model_;
  std::vector<std::string> class_names_;
  int64_t image_size_ = 0;
  int64_t image_width_ = 0;
  int64_t gray_border_ = 0;
  std::optional<OnnxTail> tail_;
  std::optional<DecodeAttributes> described_;  // by metadata that does not describe the nodes
};

}  // namespace

namespace {

// The memory that a model of this many bytes may take: a few copies of the weights while they are
// rearranged, and one copy for each layer that shares a weight.
AllocationBudget budget(size_t bytes, const std::string& source) {
  constexpr int64_t kCopies = 16, kSlack = int64_t{256} << 20;
  return {kCopies * static_cast<int64_t>(bytes) + kSlack,
          source + ": needs far more memory than its weights"};
}

}  // namespace

Graph from_onnx(const std::string& bytes, const std::string& source,
                const OnnxImportOptions& options) {
  const AllocationBudget bounded = budget(bytes.size(), source);
  return ModelReader(bytes, source, options).read();
}

Graph load_onnx(const std::filesystem::path& path, const OnnxImportOptions& options) {
  const std::string bytes = read_text(path);
  ModelReader reader(bytes, path.string(), options);
  const int64_t outside = reader.read_external(path.parent_path());
  const AllocationBudget bounded =
      budget(bytes.size() + static_cast<size_t>(outside), path.string());
  return reader.read();
}

}  // namespace sextant::deploy
