// SPDX-License-Identifier: Apache-2.0
#include "deploy/onnx/tail.h"

#include "deploy/graph/attribute_json.h"

namespace sextant::deploy {
namespace {

using onnx::TensorProto;
using Names = std::vector<std::string>;

constexpr float kClassOffset = 4096.0f;  // as kernels/detection/nms.h

class TailWriter {
 public:
  TailWriter(OnnxWriter& writer, const OnnxTail& tail, const std::vector<Shape>& shapes)
      : w_(writer), tail_(tail), shapes_(shapes) {
    for (size_t l = 0; l < levels() && !tail_.dynamic_size; ++l)
      anchors_ += level(l)[1] * level(l)[2];
  }

  void write() {
    const std::string scores = class_scores();  // [N,C,A]
    const std::string sides = distances();      // [N,A,4], cells
    const std::string low = op("Sub", "low", {anchor_points(), part(sides, "left_top", 0)});
    const std::string high = op("Add", "high", {at("points"), part(sides, "right_bottom", 2)});
    if (tail_.nms)
      suppress(
          detection_scores(scores),
          op("Mul", "corners",
             {op("Concat", "corners_in_cells", {low, high}, {{"axis", int64_t{2}}}), strides()}));
    else
      rows(scores, low, high);
  }

 private:
  size_t levels() const { return tail_.attributes.strides.size(); }
  const Shape& level(size_t l) const { return shapes_[tail_.attributes.maps_per_level() * l]; }
  std::string at(const std::string& name) const { return tail_.name + "/" + name; }
  std::string op(const std::string& type, const std::string& name, const Names& inputs,
                 const std::vector<OnnxAttribute>& attributes = {},
                 const std::string& output = "") {
    return w_.node(type, at(name), inputs, attributes, output);
  }
  std::string ints(const std::string& name, const std::vector<int64_t>& values) {
    return w_.int64s(at(name), values);
  }

  // The level's map with its pixels in one dimension: [N, dims..., H*W].
  std::string flat(size_t input, const std::string& name, const std::string& shape) {
    std::string value = tail_.inputs[input];
    if (tail_.half)
      value = op("Cast", name + "_float", {value}, {{"to", int64_t{TensorProto::FLOAT}}});
    return op("Reshape", name, {value, shape});
  }
  // All levels, concatenated along the last dimension.
  std::string joined(size_t first, const std::string& name, const std::string& shape,
                     int64_t axis) {
    Names maps;
    for (size_t l = 0; l < levels(); ++l)
      maps.push_back(flat(tail_.attributes.maps_per_level() * l + first,
                          fmt::format("{}_{}", name, l), shape));
    return op("Concat", name, maps, {{"axis", axis}});
  }

  std::string class_scores() {
    const std::string shape = ints("cls_shape", {0, tail_.attributes.num_classes, -1});
    return op("Sigmoid", "scores", {joined(0, "cls", shape, 2)});
  }
  // The scores of detections: [N,C,A].
  std::string detection_scores(const std::string& scores) {
    if (!tail_.attributes.objectness) return scores;
    return op("Mul", "detection_scores", {scores, objectness()});
  }

  // [N,1,A]
  std::string objectness() {
    return op("Sigmoid", "objectness", {joined(2, "obj", ints("obj_shape", {0, 1, -1}), 2)});
  }

  std::string distances() {
    const int64_t bins = tail_.attributes.reg_max + 1;
    if (bins == 1)
      return op("Transpose", "distances", {joined(1, "reg", ints("reg_shape", {0, 4, -1}), 2)},
                {{"perm", std::vector<int64_t>{0, 2, 1}}});
    const std::string maps = joined(1, "reg", ints("reg_shape", {0, 4, bins, -1}), 3);
    const std::string last =
        op("Transpose", "bins", {maps}, {{"perm", std::vector<int64_t>{0, 3, 1, 2}}});
    const std::string prob = op("Softmax", "probabilities", {last}, {{"axis", int64_t{3}}});
    std::vector<float> values;
    for (int64_t b = 0; b < bins; ++b) values.push_back(static_cast<float>(b));
    return op("MatMul", "distances", {prob, w_.floats(at("projection"), {bins}, values)});
  }

  std::string part(const std::string& sides, const std::string& name, int64_t begin,
                   int64_t count = 2) {
    return op("Slice", name,
              {sides, ints(name + "_begin", {begin}), ints(name + "_end", {begin + count}),
               ints(name + "_axis", {2})});
  }

  // The grid of a level, whose size only its map knows: [H*W,1] each.
  struct Cells {
    std::string x, y;
  };
  Cells cells(size_t l) {
    const auto name = [&](const char* what) { return fmt::format("{}_{}", what, l); };
    const std::string shape =
        op("Shape", name("shape"), {tail_.inputs[tail_.attributes.maps_per_level() * l]});
    const std::string size =
        op("Slice", name("size"), {shape, at("second"), at("fourth"), at("zeroth")});
    const auto line = [&](const char* what, const char* side, int64_t dimension) {
      const std::string count =
          op("Gather", name(side), {shape, w_.int64(at(name(side) + "_at"), dimension)});
      const std::string numbers =
          op("Range", name(what) + "_of_cells", {at("range_start"), count, at("range_step")});
      return op(
          "Add", name(what),
          {op("Cast", name(what) + "_in_cells", {numbers}, {{"to", int64_t{TensorProto::FLOAT}}}),
           at("cell_offset")});
    };
    const auto spread = [&](const char* what, const std::string& values) {
      return op("Reshape", name(what),
                {op("Expand", name(what) + "_on_map", {values, size}), at("column")});
    };
    const std::string columns = line("columns", "width", 3);
    const std::string rows = line("rows", "height", 2);
    return {spread("x", columns),
            spread("y", op("Unsqueeze", name("rows_down"), {rows, at("first")}))};
  }
  // Computes "points" [1,A,2] and "strides" [1,A,1].
  void compute_anchors() {
    ints("zeroth", {0});
    ints("first", {1});
    ints("second", {2});
    ints("fourth", {4});
    ints("column", {-1, 1});
    w_.int64(at("range_start"), 0);
    w_.int64(at("range_step"), 1);
    w_.scalar(at("cell_offset"), tail_.attributes.grid_cell_offset);
    Names points, strides;
    for (size_t l = 0; l < levels(); ++l) {
      const auto name = [&](const char* what) { return fmt::format("{}_{}", what, l); };
      const Cells c = cells(l);
      points.push_back(op("Concat", name("points"), {c.x, c.y}, {{"axis", int64_t{1}}}));
      const float stride = static_cast<float>(tail_.attributes.strides[l]);
      strides.push_back(op("Expand", name("strides"),
                           {w_.floats(at(name("stride")), {1, 1}, {&stride, 1}),
                            op("Shape", name("cells"), {c.x})}));
    }
    for (const auto& [name, levels] : {std::pair("points", points), std::pair("strides", strides)})
      op("Unsqueeze", name,
         {op("Concat", std::string(name) + "_of_levels", levels, {{"axis", int64_t{0}}}),
          at("zeroth")});
  }

  std::string anchor_points() {
    if (tail_.dynamic_size) {
      compute_anchors();
      return at("points");
    }
    std::vector<float> values;
    for (size_t l = 0; l < levels(); ++l)
      for (int64_t y = 0; y < level(l)[1]; ++y)
        for (int64_t x = 0; x < level(l)[2]; ++x) {
          values.push_back(static_cast<float>(x) + tail_.attributes.grid_cell_offset);
          values.push_back(static_cast<float>(y) + tail_.attributes.grid_cell_offset);
        }
    return w_.floats(at("points"), {1, anchors_, 2}, values);
  }
  std::string strides() {
    if (tail_.dynamic_size) return at("strides");
    std::vector<float> values;
    for (size_t l = 0; l < levels(); ++l)
      values.insert(values.end(), static_cast<size_t>(level(l)[1] * level(l)[2]),
                    static_cast<float>(tail_.attributes.strides[l]));
    return w_.floats(at("strides"), {1, anchors_, 1}, values);
  }

  // [N, A, 5 + classes] as kernels/detection/decode.h.
  void rows(const std::string& scores, const std::string& low, const std::string& high) {
    const std::string middle =
        op("Mul", "middle", {op("Add", "sum", {low, high}), w_.scalar(at("half"), 0.5f)});
    const std::string size = op("Sub", "size", {high, low});
    const std::string boxes =
        op("Mul", "boxes",
           {op("Concat", "boxes_in_cells", {middle, size}, {{"axis", int64_t{2}}}), strides()});
    const std::string by_anchor =
        op("Transpose", "scores_by_anchor", {scores}, {{"perm", std::vector<int64_t>{0, 2, 1}}});
    if (tail_.attributes.objectness) {
      const std::string object = op("Transpose", "objectness_by_anchor", {objectness()},
                                    {{"perm", std::vector<int64_t>{0, 2, 1}}});
      op("Concat", "rows", {boxes, object, by_anchor}, {{"axis", int64_t{2}}}, "outputs");
      return;
    }
    // An objectness of 1: anything between 1 and 1, which every converter takes, and any batch.
    const std::string limit = w_.scalar(at("limit"), 1.0f);
    const std::string one = op("Clip", "one", {part(boxes, "column_of_boxes", 0, 1), limit, limit});
    op("Concat", "rows", {boxes, one, by_anchor}, {{"axis", int64_t{2}}}, "outputs");
  }

  // NonMaxSuppression gives rows (image, class, box); they are scattered into a map of scores that
  // is zero elsewhere, whose largest values are the result, best first, of a fixed size.
  void suppress(const std::string& scores, const std::string& corners) {
    const OnnxNms& nms = *tail_.nms;
    std::string best_class;  // [N,A]
    std::string candidates = scores;
    std::string boxes = corners;
    if (!nms.multi_label) {
      best_class =
          op("ArgMax", "best_class", {scores}, {{"axis", int64_t{1}}, {"keepdims", int64_t{0}}});
      candidates = op("ReduceMax", "best_score", {scores},
                      {{"axes", std::vector<int64_t>{1}}, {"keepdims", int64_t{1}}});
      // boxes of different classes are kept apart by an offset
      const std::string number =
          op("Cast", "class_number", {best_class}, {{"to", int64_t{TensorProto::FLOAT}}});
      const std::string move =
          op("Unsqueeze", "move",
             {op("Mul", "offset", {number, w_.scalar(at("class_offset"), kClassOffset)}),
              ints("last_axis", {2})});
      boxes = op("Add", "moved", {corners, move});
    }
    const int64_t most = nms.max_det;
    const std::string kept =
        op("NonMaxSuppression", "nms",
           {boxes, candidates, ints("max_det", {most}), w_.floats(at("iou"), {1}, {&nms.iou, 1}),
            w_.floats(at("conf"), {1}, {&nms.conf, 1})});
    const std::string of_kept = op("GatherND", "kept_scores", {candidates, kept});
    const std::string nothing = op("Mul", "nothing", {candidates, w_.scalar(at("zero"), 0.0f)});
    const std::string map = op("ScatterND", "map", {nothing, kept, of_kept});
    const std::string line = op("Reshape", "line", {map, ints("line_shape", {0, -1})});
    std::string k = ints("k", {most});
    if (tail_.dynamic_size) k = op("Min", "k_of_boxes", {size_of(line, "line_size"), k});
    w_.node("TopK", at("best"), {line, k}, {"det_scores", at("index")}, {{"axis", int64_t{1}}});
    results(best_class, corners);
  }

  // Dimension 1, as an i64 [1].
  std::string size_of(const std::string& value, const std::string& name) {
    return op("Slice", name,
              {op("Shape", name + "_shape", {value}), at("first"), at("second"), at("zeroth")});
  }

  void results(const std::string& best_class, const std::string& corners) {
    std::string box = at("index");
    std::string number;
    if (tail_.nms->multi_label) {
      const std::string count =
          tail_.dynamic_size ? size_of(corners, "anchors") : ints("anchors", {anchors_});
      box = op("Mod", "box", {at("index"), count});
      number = op("Div", "number", {at("index"), count});
    } else {
      number = op("GatherElements", "number", {best_class, box}, {{"axis", int64_t{1}}});
    }
    const std::string axis = ints("axis", {2});
    const std::string valid = op("Greater", "valid", {"det_scores", at("zero")});
    const std::string found =
        op("GatherND", "found", {corners, op("Unsqueeze", "box_index", {box, axis})},
           {{"batch_dims", int64_t{1}}});
    const std::string mask = op("Cast", "mask", {valid}, {{"to", int64_t{TensorProto::FLOAT}}});
    op("Mul", "det_boxes", {found, op("Unsqueeze", "mask_of_box", {mask, axis})}, {}, "det_boxes");
    const std::string classes = op("Where", "classes", {valid, number, ints("no_class", {-1})});
    op("Cast", "det_classes", {classes}, {{"to", int64_t{TensorProto::INT32}}}, "det_classes");
    const std::string count =
        op("ReduceSum", "count", {mask, ints("row", {1})}, {{"keepdims", int64_t{1}}});
    op("Cast", "num_dets", {count}, {{"to", int64_t{TensorProto::INT32}}}, "num_dets");
  }

  OnnxWriter& w_;
  const OnnxTail& tail_;
  const std::vector<Shape>& shapes_;
  int64_t anchors_ = 0;  // where the size is fixed
};

}  // namespace

void write_tail(OnnxWriter& writer, const OnnxTail& tail, const std::vector<Shape>& shapes) {
  TailWriter(writer, tail, shapes).write();
}

Names tail_outputs(const OnnxTail& tail) {
  if (tail.nms) return {"num_dets", "det_boxes", "det_scores", "det_classes"};
  return {"outputs"};
}

Json tail_to_json(const OnnxTail& tail) {
  Json j = {{"name", tail.name}, {"inputs", tail.inputs}};
  Json attributes;
  AttributeWriter writer(attributes, NodeKind::kDecode);
  visit_attributes(tail.attributes, writer);
  for (const auto& [key, value] : attributes.items()) {
    if (key == "objectness") j["half"] = tail.half;  // the order of keys in files
    j[key] = value;
  }
  j["half"] = tail.half;
  if (tail.dynamic_size) j["dynamic_size"] = true;
  if (tail.nms)
    j["nms"] = {{"conf", tail.nms->conf},
                {"iou", tail.nms->iou},
                {"max_det", tail.nms->max_det},
                {"multi_label", tail.nms->multi_label}};
  return j;
}

OnnxTail tail_from_json(const Json& json, const std::string& where) {
  check(json.is_object(), "{}: 'tail' in its metadata must be an object", where);
  ConfigReader r(json, where, "tail.");
  OnnxTail tail;
  r.require("name", tail.name);
  r.require("inputs", tail.inputs);
  Attributes attributes = tail.attributes;
  AttributeReader reader(r);
  visit_attributes(attributes, reader);
  try {
    check_attributes(attributes);
  } catch (const Error& e) {
    fail("{}: 'tail' in its metadata: {}", where, e.what());
  }
  tail.attributes = std::get<DecodeAttributes>(attributes);
  r.require("half", tail.half);
  if (r.has("dynamic_size")) r.require("dynamic_size", tail.dynamic_size);
  if (r.has("nms")) {
    ConfigReader n = r.child("nms");
    OnnxNms nms;
    check(n.has("max_det") && n.json().at("max_det").is_number_integer(),
          "{}: 'tail.nms.max_det' in its metadata must be an integer", where);
    n.number("conf", nms.conf, 0, 1);
    n.number("iou", nms.iou, 0, 1);
    n.number("max_det", nms.max_det, 1, 1 << 20);
    n.require("multi_label", nms.multi_label);
    n.finish();
    tail.nms = nms;
  }
  r.finish();
  const DecodeAttributes& a = tail.attributes;
  check(!tail.name.empty() && !a.strides.empty() && a.strides.size() <= 16 &&
            tail.inputs.size() == a.maps_per_level() * a.strides.size(),
        "{}: 'tail' in its metadata has {} inputs for {} strides", where, tail.inputs.size(),
        a.strides.size());
  return tail;
}

}  // namespace sextant::deploy
