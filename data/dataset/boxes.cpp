// SPDX-License-Identifier: Apache-2.0
#include "data/dataset/boxes.h"

#include <algorithm>
#include <cmath>

#include "core/error.h"

namespace sextant::data {

RawBox pixel_box(const Sample& sample, double category, double x1, double y1, double x2,
                 double y2) {
  const double w = sample.width, h = sample.height;
  RawBox raw;
  raw.category = category;
  raw.x1 = x1 / w;
  raw.y1 = y1 / h;
  raw.x2 = x2 / w;
  raw.y2 = y2 / h;
  raw.tolerance_x = std::max(1e-3, (1 + 1e-6) / w);
  raw.tolerance_y = std::max(1e-3, (1 + 1e-6) / h);
  raw.area = (x2 - x1) * (y2 - y1);
  return raw;
}

void SampleBoxes::refuse(LabelIssue at, const char* kind, std::string message,
                         LabelReport& report) {
  ++refused_;
  at.kind = kind;
  at.message = std::move(message);
  report.add(std::move(at));
}

void SampleBoxes::add(const RawBox& raw, const LabelIssue& at, LabelReport& report) {
  if (raw.category != std::floor(raw.category) || raw.category < 0 ||
      raw.category >= static_cast<double>(num_classes_))
    return refuse(at, "class",
                  fmt::format("class {} is outside 0..{}", raw.category, num_classes_ - 1), report);
  const double w = raw.x2 - raw.x1;
  const double h = raw.y2 - raw.y1;
  if (!(w > 0 && h > 0))
    return refuse(at, "size", fmt::format("the box is {:.6g} wide and {:.6g} high", w, h), report);
  if (raw.x1 < -raw.tolerance_x || raw.y1 < -raw.tolerance_y || raw.x2 > 1 + raw.tolerance_x ||
      raw.y2 > 1 + raw.tolerance_y)
    return refuse(at, "outside",
                  fmt::format("the box reaches from ({:.6g}, {:.6g}) to ({:.6g}, {:.6g}), outside "
                              "the image (0..1)",
                              raw.x1, raw.y1, raw.x2, raw.y2),
                  report);
  const double x1 = std::max(raw.x1, 0.0);
  const double y1 = std::max(raw.y1, 0.0);
  const double x2 = std::min(raw.x2, 1.0);
  const double y2 = std::min(raw.y2, 1.0);
  Label label;
  label.category = static_cast<int>(raw.category);
  label.cx = static_cast<float>((x1 + x2) / 2);
  label.cy = static_cast<float>((y1 + y2) / 2);
  label.w = static_cast<float>(x2 - x1);
  label.h = static_cast<float>(y2 - y1);
  label.crowd = raw.crowd;
  label.area = raw.area;
  if (!(label.w > 0 && label.h > 0))
    return refuse(at, "size", "the part of the box inside the image has no area", report);
  if (!seen_.emplace(label.category, label.cx, label.cy, label.w, label.h, label.crowd).second)
    return refuse(at, "duplicate", "duplicate of an earlier box of the same class", report);
  label.line = at.line;
  sample_.labels.push_back(label);
  sample_.label_file = at.file;
  sample_.lines_are_ids = at.is_id;
}

void finish_sample(SampleBoxes&& boxes, Dataset& dataset) {
  if (boxes.all_refused()) {
    dataset.report.add({boxes.sample().image.string(), 0, false, "image",
                        "left out, since none of its labels is valid"});
    return;
  }
  Sample sample = boxes.take();
  if (sample.image_id == kPositionId) sample.image_id = dataset.size();
  dataset.samples.push_back(std::move(sample));
}

}  // namespace sextant::data
