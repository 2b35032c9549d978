#include "data/dataset/dataset.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "core/config.h"
#include "core/error.h"
#include "data/dataset/description.h"
#include "data/image/image.h"

namespace sextant::data {
namespace {

void report_issue(LabelIssue at, const char* kind, std::string message, LabelReport& report) {
  at.kind = kind;
  at.message = std::move(message);
  report.add(std::move(at));
}

}  // namespace

void add_box(const RawBox& raw, int64_t num_classes, const LabelIssue& at, Sample& sample,
             LabelReport& report) {
  if (raw.category != std::floor(raw.category) || raw.category < 0 ||
      raw.category >= static_cast<double>(num_classes)) {
    report_issue(at, "class",
                 fmt::format("class {} is outside 0..{}", raw.category, num_classes - 1), report);
    return;
  }
  const double w = raw.x2 - raw.x1;
  const double h = raw.y2 - raw.y1;
  if (!(w > 0 && h > 0)) {
    report_issue(at, "size", fmt::format("the box is {:.6g} wide and {:.6g} high", w, h), report);
    return;
  }
  if (raw.x1 < -raw.tolerance_x || raw.y1 < -raw.tolerance_y || raw.x2 > 1 + raw.tolerance_x ||
      raw.y2 > 1 + raw.tolerance_y) {
    report_issue(at, "outside",
                 fmt::format("the box reaches from ({:.6g}, {:.6g}) to ({:.6g}, {:.6g}), outside "
                             "the image (0..1)",
                             raw.x1, raw.y1, raw.x2, raw.y2),
                 report);
    return;
  }
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
  if (!(label.w > 0 && label.h > 0)) {
    report_issue(at, "size", "the part of the box inside the image has no area", report);
    return;
  }
  const bool twice = std::ranges::any_of(sample.labels, [&](const Label& other) {
    return other.category == label.category && other.cx == label.cx && other.cy == label.cy &&
           other.w == label.w && other.h == label.h && other.crowd == label.crowd;
  });
  if (twice) {
    report_issue(at, "duplicate", "the same class and box are there before", report);
    return;
  }
  sample.labels.push_back(label);
}

bool read_header(Sample& sample, LabelReport& report) {
  try {
    const ImageSize size = image_size(sample.image);
    sample.width = size.width;
    sample.height = size.height;
    return true;
  } catch (const Error& e) {
    const std::string file = sample.image.string();
    std::string message = e.what();
    if (message.starts_with(file + ": ")) message.erase(0, file.size() + 2);
    report.add({file, 0, false, "image", message});
    return false;
  }
}

Dataset open_dataset(const std::filesystem::path& path, const std::string& split,
                     const DatasetOptions& options) {
  DatasetDescription description;
  Dataset dataset;
  dataset.path = path.string();
  dataset.split = split;
  try {
    description = describe_dataset(path);
    if (!description.images.contains(split)) {
      std::string list;
      std::vector<std::string> known;
      for (const auto& [name, unused] : description.images) {
        list += (list.empty() ? "" : ", ") + name;
        known.push_back(name);
      }
      fail("{}: has no split '{}'; it has {}{}", description.where, split,
           list.empty() ? "none" : list,
           known.empty() ? "" : "; nearest is '" + nearest_name(split, known) + "'");
    }
    dataset.names = description.names;
    if (description.format == DatasetFormat::kCoco)
      read_coco_split(description, split, dataset);
    else
      read_yolo_split(description, split, dataset);
  } catch (const std::filesystem::filesystem_error& e) {
    fail("{}: {}", path.string(), e.what());
  }
  const LabelReport& report = dataset.report;
  if (options.on_error == OnError::kStop && !report.empty())
    fail("{}: {} mistake{} in the labels of split '{}', the first: {}", dataset.path,
         report.issues().size(), report.issues().size() == 1 ? "" : "s", split,
         report.issues()[0].str());
  check(!dataset.samples.empty(), "{}: split '{}' has no usable image{}{}", dataset.path, split,
        report.empty() ? "" : "; the first mistake: ",
        report.empty() ? "" : report.issues()[0].str());
  return dataset;
}

}  // namespace sextant::data
