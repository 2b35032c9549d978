// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <charconv>
#include <cmath>
#include <optional>
#include <unordered_set>

#include "core/error.h"
#include "core/file.h"
#include "core/parallel.h"
#include "data/dataset/boxes.h"
#include "data/dataset/description.h"
#include "data/dataset/folder.h"
#include "data/dataset/image_sizes.h"

namespace sextant::data {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kBlank = " \t\r\v\f";

void split_columns(std::string_view line, std::vector<std::string_view>& columns) {
  columns.clear();
  for (size_t at = 0; (at = line.find_first_not_of(kBlank, at)) != std::string_view::npos;) {
    const size_t end = std::min(line.find_first_of(kBlank, at), line.size());
    columns.push_back(line.substr(at, end - at));
    at = end;
  }
}

// A finite number; empty for anything else, including "nan" and "inf".
std::optional<double> parse_number(std::string_view text) {
  if (text.starts_with('+')) text.remove_prefix(1);
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || !std::isfinite(value))
    return std::nullopt;
  return value;
}

// Calls use(line, number from 1) for every line.
template <class F>
void for_each_line(std::string_view text, const F& use) {
  for (int64_t number = 1; !text.empty(); ++number) {
    const size_t end = std::min(text.find('\n'), text.size());
    use(text.substr(0, end), number);
    text.remove_prefix(std::min(end + 1, text.size()));
  }
}

// The corners of a box, or of a polygon's bounding box, from the numbers behind the class.
RawBox box_of(std::span<const double> numbers, const Sample& sample) {
  constexpr double kTolerance = 1e-3;
  RawBox raw;
  if (numbers.size() == 4) {
    const double cx = numbers[0], cy = numbers[1], w = numbers[2], h = numbers[3];
    raw.x1 = cx - w / 2;
    raw.y1 = cy - h / 2;
    raw.x2 = cx + w / 2;
    raw.y2 = cy + h / 2;
    raw.area = w * sample.width * h * sample.height;
  } else {
    raw.x1 = raw.x2 = numbers[0];
    raw.y1 = raw.y2 = numbers[1];
    for (size_t i = 0; i < numbers.size(); i += 2) {
      raw.x1 = std::min(raw.x1, numbers[i]);
      raw.x2 = std::max(raw.x2, numbers[i]);
      raw.y1 = std::min(raw.y1, numbers[i + 1]);
      raw.y2 = std::max(raw.y2, numbers[i + 1]);
    }
    raw.area = (raw.x2 - raw.x1) * sample.width * (raw.y2 - raw.y1) * sample.height;
  }
  raw.tolerance_x = raw.tolerance_y = kTolerance;
  return raw;
}

// images/train/a.jpg -> labels/train/a.txt: the last folder called "images" becomes "labels".
fs::path label_file_of(const std::string& image) {
  constexpr std::string_view kFrom = "images", kTo = "labels";
  std::string file = image;
  for (size_t at = file.rfind('/'); at != std::string::npos && at > 0;) {
    const size_t before = file.rfind('/', at - 1);
    const size_t start = before == std::string::npos ? 0 : before + 1;
    if (std::string_view(file).substr(start, at - start) == kFrom) {
      file.replace(start, kFrom.size(), kTo);
      break;
    }
    at = before;
  }
  return fs::path(file).replace_extension(".txt");
}

void report_orphans(const fs::path& root, const std::vector<ImageEntry>& entries,
                    const fs::path& images, LabelReport& report) {
  std::unordered_set<std::string> wanted;
  for (const ImageEntry& e : entries) wanted.insert(e.labels.string());
  const auto is_label = [](const fs::path& path) {
    return path.extension() == ".txt" && path.filename() != "classes.txt";
  };
  for (const std::string& file : files_under(root, is_label))
    if (!wanted.contains(file))
      report.add({file, 0, false, "image",
                  fmt::format("labels without an image: no {}.jpg or .png in {}",
                              fs::path(file).stem().string(), images.string())});
}

std::vector<ImageEntry> gather_folder(const fs::path& folder,
                                      const std::optional<fs::path>& label_folder,
                                      LabelReport& report) {
  std::vector<ImageEntry> entries;
  for (const std::string& image : files_under(folder, is_image_name)) {
    fs::path labels = label_folder ? *label_folder / fs::path(image).lexically_relative(folder)
                                   : label_file_of(image);
    labels.replace_extension(".txt");
    entries.push_back({image, std::move(labels)});
  }
  const fs::path root =
      label_folder ? *label_folder : label_file_of((folder / "x").string()).parent_path();
  if (root != folder && is_folder(root)) report_orphans(root, entries, folder, report);
  return entries;
}

std::vector<ImageEntry> gather_list(const fs::path& list,
                                    const std::optional<fs::path>& label_folder,
                                    LabelReport& report) {
  std::vector<ImageEntry> entries;
  for (const auto& [number, line] : list_lines(read_text(list))) {
    const fs::path image = listed_file(list, line);
    if (!file_exists(image)) {
      report.add({list.string(), number, false, "image",
                  fmt::format("the image {} does not exist", image.string())});
      continue;
    }
    fs::path labels =
        label_folder ? *label_folder / image.filename() : label_file_of(image.string());
    labels.replace_extension(".txt");
    entries.push_back({image.string(), std::move(labels)});
  }
  return entries;
}

// Empty if the label file cannot be read, which is reported.
std::optional<SampleBoxes> read_sample(const ImageEntry& entry, ImageSize size, int64_t num_classes,
                                       LabelReport& report) {
  Sample sample;
  sample.image = entry.image;
  sample.image_id = kPositionId;
  sample.width = size.width;
  sample.height = size.height;
  SampleBoxes boxes(std::move(sample), num_classes);
  const std::string file = entry.labels.string();
  std::error_code ec;
  if (!fs::exists(entry.labels, ec)) return boxes;
  try {
    parse_yolo_labels(read_text(entry.labels), file, boxes, report);
    return boxes;
  } catch (const Error& e) {
    const std::string message = e.what();
    report.add({file, 0, false, "file",
                message.starts_with(file + ": ") ? message.substr(file.size() + 2) : message});
    return std::nullopt;
  }
}

}  // namespace

std::vector<std::pair<int64_t, std::string>> list_lines(std::string_view text) {
  std::vector<std::pair<int64_t, std::string>> lines;
  for_each_line(text, [&](std::string_view line, int64_t number) {
    const size_t end = line.find_last_not_of(kBlank);
    if (end != std::string_view::npos) lines.emplace_back(number, line.substr(0, end + 1));
  });
  return lines;
}

fs::path listed_file(const fs::path& list, const std::string& line) {
  fs::path file = list.parent_path() / line;
  return !file_exists(file) && file_exists(line) ? fs::path(line) : file;
}

void parse_yolo_labels(std::string_view text, const std::string& file, SampleBoxes& boxes,
                       LabelReport& report) {
  std::vector<std::string_view> columns;
  std::vector<double> values;
  for_each_line(text, [&](std::string_view line, int64_t number) {
    const LabelIssue at{file, number, false, "", ""};
    split_columns(line, columns);
    if (columns.empty()) return;
    const bool polygon = columns.size() >= 7 && columns.size() % 2 == 1;
    if (columns.size() != 5 && !polygon)
      return boxes.refuse(at, "columns",
                          fmt::format("{} columns, must be 5 (class cx cy w h), or a class and "
                                      "the points of a polygon",
                                      columns.size()),
                          report);
    values.clear();
    for (const std::string_view column : columns) {
      const auto value = parse_number(column);
      if (!value)
        return boxes.refuse(at, "number", fmt::format("'{}' is not a finite number", column),
                            report);
      values.push_back(*value);
    }
    RawBox raw = box_of(std::span(values).subspan(1), boxes.sample());
    raw.category = values[0];
    boxes.add(raw, at, report);
  });
}

void read_yolo_split(const DatasetDescription& description, const std::string& split,
                     Dataset& dataset) {
  check(!dataset.names.empty(), "{}: 'names' is empty", description.where);
  std::optional<fs::path> label_folder;
  if (const auto at = description.labels.find(split); at != description.labels.end()) {
    label_folder = at->second;
    check(is_folder(*label_folder), "{}: the label folder {} does not exist", description.where,
          label_folder->string());
  }
  std::vector<ImageEntry> entries;
  for (const fs::path& images : description.images.at(split)) {
    check(file_exists(images), "{}: split '{}': {} does not exist", description.where, split,
          images.string());
    auto found = is_folder(images) ? gather_folder(images, label_folder, dataset.report)
                                   : gather_list(images, label_folder, dataset.report);
    std::ranges::move(found, std::back_inserter(entries));
  }
  if (!entries.empty()) dataset.labels_at = entries[0].labels.string();
  std::vector<std::string> images;
  for (const ImageEntry& e : entries) images.push_back(e.image);
  LabelReport broken;
  const auto sizes = read_image_sizes(images, description.where + ":" + split, broken);
  std::vector<std::optional<SampleBoxes>> samples(entries.size());
  std::vector<LabelReport> reports(entries.size());
  parallel_for(std::ssize(entries), 32, [&](int64_t begin, int64_t end) {
    for (auto i = static_cast<size_t>(begin); i < static_cast<size_t>(end); ++i)
      if (sizes[i])
        samples[i] = read_sample(entries[i], *sizes[i], dataset.num_classes(), reports[i]);
  });
  dataset.report.add(broken);
  for (size_t i = 0; i < samples.size(); ++i) {
    dataset.report.add(reports[i]);
    if (samples[i]) finish_sample(std::move(*samples[i]), dataset);
  }
}

}  // namespace sextant::data
