// SPDX-License-Identifier: Apache-2.0
#include "data/dataset/voc.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <optional>
#include <set>

#include "core/class_names.h"
#include "core/error.h"
#include "core/file.h"
#include "core/parallel.h"
#include "data/dataset/boxes.h"
#include "data/dataset/description.h"
#include "data/dataset/folder.h"
#include "data/dataset/image_sizes.h"
#include "data/dataset/xml.h"

namespace sextant::data {
namespace {

namespace fs = std::filesystem;

// A finite number from the child element of that name.
std::optional<double> number_in(const XmlElement* parent, std::string_view name) {
  const XmlElement* element = parent == nullptr ? nullptr : parent->find(name);
  if (element == nullptr) return std::nullopt;
  const std::string& text = element->text;
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || !std::isfinite(value))
    return std::nullopt;
  return value;
}

int64_t side(const XmlElement* size, std::string_view name) {
  const double value = number_in(size, name).value_or(0);
  return value >= 1 && value <= kMaxImageSide ? static_cast<int64_t>(value) : 0;
}

VocObject read_object(const XmlElement& element) {
  VocObject object;
  object.line = element.line;
  if (const XmlElement* name = element.find("name")) object.name = name->text;
  if (object.name.empty()) object.problem = "the object has no name";
  object.difficult = number_in(&element, "difficult").value_or(0) != 0;
  const XmlElement* box = element.find("bndbox");
  const std::pair<const char*, double*> sides[] = {{"xmin", &object.x_min},
                                                   {"ymin", &object.y_min},
                                                   {"xmax", &object.x_max},
                                                   {"ymax", &object.y_max}};
  for (const auto& [key, value] : sides) {
    const auto number = number_in(box, key);
    if (!number) object.problem = fmt::format("the 'bndbox' of the object has no number '{}'", key);
    *value = number.value_or(0);
  }
  return object;
}

// A sample under construction.
struct Entry {
  std::string image;
  fs::path file;  // the annotation file
  std::optional<VocAnnotation> annotation;
  std::string problem;  // why it has no annotations
};

// The annotation file of an image: in a folder for its split, or in one folder for all.
fs::path annotation_of(const fs::path& relative, const std::string& split, const fs::path& folder) {
  fs::path name = relative;
  name.replace_extension(".xml");
  const fs::path in_split = folder / split / name;
  return file_exists(in_split) ? in_split : folder / name;
}

std::vector<Entry> gather(const DatasetDescription& d, const std::string& split,
                          LabelReport& report) {
  const fs::path& folder = d.annotations.at(split);
  std::vector<Entry> entries;
  for (const fs::path& images : d.images.at(split)) {
    check(file_exists(images), "{}: split '{}': {} does not exist", d.where, split,
          images.string());
    if (is_folder(images)) {
      for (const std::string& image : files_under(images, is_image_name))
        entries.push_back({image,
                           annotation_of(fs::path(image).lexically_relative(images), split, folder),
                           {},
                           {}});
      continue;
    }
    // Names of images in one folder, without extension; text after a blank belongs to per-class
    // lists and is ignored.
    for (const auto& [number, line] : list_lines(read_text(images))) {
      const std::string stem = line.substr(0, line.find_first_of(" \t"));
      fs::path image;
      for (const char* extension : {".jpg", ".jpeg", ".png", ".JPG", ".JPEG", ".PNG", ".bmp"})
        if (image.empty() && file_exists(d.listed_in / (stem + extension)))
          image = d.listed_in / (stem + extension);
      if (image.empty())
        report.add({images.string(), number, false, "image",
                    fmt::format("image {} does not exist in {}", stem, d.listed_in.string())});
      else
        entries.push_back({image.string(), folder / (stem + ".xml"), {}, {}});
    }
  }
  return entries;
}

// Annotations that no image has. In a folder for all splits they are reported with the first of them.
void report_unused(const DatasetDescription& d, const std::string& split, LabelReport& report) {
  const fs::path& folder = d.annotations.at(split);
  const bool own = is_folder(folder / split);
  if (!own && split != d.annotations.begin()->first) return;
  std::set<fs::path> images;  // without extensions, as annotations are named
  const auto add_all = [&](const fs::path& root) {
    for (const std::string& image : files_under(root, is_image_name))
      images.insert(fs::path(image).lexically_relative(root).replace_extension());
  };
  for (const auto& [name, roots] : d.images)
    for (const fs::path& root : roots)
      if ((!own || name == split) && is_folder(root)) add_all(root);
  if (!d.listed_in.empty()) add_all(d.listed_in);
  const fs::path annotations = own ? folder / split : folder;
  const auto is_annotation = [](const fs::path& file) { return file.extension() == ".xml"; };
  for (const std::string& file : files_under(annotations, is_annotation)) {
    fs::path name = fs::path(file).lexically_relative(annotations).replace_extension();
    // annotations/train/a.xml beside one folder of annotations/val for all: of its own split.
    if (!own && d.annotations.contains(name.begin()->string())) continue;
    if (!images.contains(name))
      report.add({file, 0, false, "annotation", "there is no image of this name"});
  }
}

void read_annotations(std::vector<Entry>& entries) {
  parallel_for(std::ssize(entries), 32, [&](int64_t begin, int64_t end) {
    for (auto i = static_cast<size_t>(begin); i < static_cast<size_t>(end); ++i) {
      Entry& e = entries[i];
      const std::string file = e.file.string();
      std::error_code ec;
      try {
        e.annotation =
            fs::exists(e.file, ec) ? parse_voc(read_text(e.file), file) : VocAnnotation();
      } catch (const Error& error) {
        const std::string message = error.what();
        e.problem = message.starts_with(file + ": ") ? message.substr(file.size() + 2) : message;
      }
    }
  });
}

void read_sample(const Entry& e, ImageSize size, Dataset& dataset) {
  const VocAnnotation& a = *e.annotation;
  LabelReport& report = dataset.report;
  if ((a.width > 0 && a.width != size.width) || (a.height > 0 && a.height != size.height)) {
    report.add({e.image, 0, false, "image",
                fmt::format("the image is {}x{}, but {} says {}x{}", size.width, size.height,
                            e.file.string(), a.width, a.height)});
    return;
  }
  Sample sample;
  sample.image = e.image;
  sample.image_id = kPositionId;
  sample.width = size.width;
  sample.height = size.height;
  SampleBoxes boxes(std::move(sample), dataset.num_classes());
  for (const VocObject& object : a.objects) {
    const LabelIssue at{e.file.string(), object.line, false, "", ""};
    if (!object.problem.empty()) {
      boxes.refuse(at, "columns", object.problem, report);
      continue;
    }
    const auto name = std::ranges::find(dataset.names, object.name);
    if (name == dataset.names.end()) {
      report.add({e.file.string(), object.line, false, "class",
                  fmt::format("the class '{}' is not among the classes", object.name)});
      continue;
    }
    // Pixels are counted from 1, and the last one is inside the box.
    RawBox raw = pixel_box(boxes.sample(), static_cast<double>(name - dataset.names.begin()),
                           object.x_min - 1, object.y_min - 1, object.x_max, object.y_max);
    raw.crowd = object.difficult;
    boxes.add(raw, at, report);
  }
  finish_sample(std::move(boxes), dataset);
}

}  // namespace

VocAnnotation parse_voc(std::string_view text, const std::string& where) {
  const XmlElement root = parse_xml(text, where);
  check(root.name == "annotation",
        "{}: the root element is <{}>, must be <annotation> for Pascal VOC", where, root.name);
  VocAnnotation a;
  const XmlElement* size = root.find("size");
  a.width = side(size, "width");
  a.height = side(size, "height");
  for (const XmlElement& child : root.children)
    if (child.name == "object") a.objects.push_back(read_object(child));
  return a;
}

void read_voc_split(const DatasetDescription& description, const std::string& split,
                    Dataset& dataset) {
  const fs::path& folder = description.annotations.at(split);
  check(is_folder(folder), "{}: the annotation folder {} does not exist", description.where,
        folder.string());
  dataset.labels_at = folder.string();
  std::vector<Entry> entries = gather(description, split, dataset.report);
  report_unused(description, split, dataset.report);
  read_annotations(entries);
  if (dataset.names.empty()) {
    std::set<std::string> names;
    for (const Entry& e : entries)
      if (e.annotation)
        for (const VocObject& object : e.annotation->objects)
          if (!object.name.empty()) names.insert(object.name);
    dataset.names.assign(names.begin(), names.end());
    check_class_names(dataset.names, folder.string());
  }
  std::vector<std::string> images;
  for (const Entry& e : entries) images.push_back(e.image);
  const auto sizes = read_image_sizes(images, description.where + ":" + split, dataset.report);
  for (size_t i = 0; i < entries.size(); ++i) {
    if (!sizes[i]) continue;
    if (entries[i].annotation)
      read_sample(entries[i], *sizes[i], dataset);
    else
      dataset.report.add({entries[i].file.string(), 0, false, "file", entries[i].problem});
  }
}

}  // namespace sextant::data
