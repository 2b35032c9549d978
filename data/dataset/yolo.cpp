#include <algorithm>
#include <charconv>
#include <cmath>
#include <iterator>
#include <optional>
#include <set>
#include <sstream>

#include "core/error.h"
#include "core/file.h"
#include "data/dataset/description.h"
#include "data/image/image.h"

namespace sextant::data {
namespace {

namespace fs = std::filesystem;

std::vector<std::string_view> split_columns(std::string_view line) {
  constexpr std::string_view kBlank = " \t\r\v\f";
  std::vector<std::string_view> columns;
  for (size_t at = 0; (at = line.find_first_not_of(kBlank, at)) != std::string_view::npos;) {
    const size_t end = std::min(line.find_first_of(kBlank, at), line.size());
    columns.push_back(line.substr(at, end - at));
    at = end;
  }
  return columns;
}

// A finite number; nothing for anything else, "nan" and "inf" included.
std::optional<double> parse_number(std::string_view text) {
  if (text.starts_with('+')) text.remove_prefix(1);
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || !std::isfinite(value))
    return std::nullopt;
  return value;
}

void read_label_line(std::string_view line, int64_t num_classes, LabelIssue at, Sample& sample,
                     LabelReport& report) {
  constexpr double kTolerance = 1e-3;
  const std::vector<std::string_view> columns = split_columns(line);
  if (columns.empty()) return;
  if (columns.size() != 5) {
    at.kind = "columns";
    at.message = fmt::format("{} columns, must be 5 (class cx cy w h)", columns.size());
    report.add(at);
    return;
  }
  std::array<double, 5> values{};
  for (size_t k = 0; k < 5; ++k) {
    const auto value = parse_number(columns[k]);
    if (!value) {
      at.kind = "number";
      at.message = fmt::format("'{}' is not a finite number", columns[k]);
      report.add(at);
      return;
    }
    values[k] = *value;
  }
  const auto [category, cx, cy, w, h] = values;
  add_box({category, cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2, kTolerance, kTolerance, false,
           w * sample.width * h * sample.height},
          num_classes, at, sample, report);
}

void read_labels(const fs::path& file, int64_t num_classes, Sample& sample, LabelReport& report) {
  if (!fs::exists(file)) return;
  std::istringstream in(read_text(file));
  std::string line;
  for (int64_t number = 1; std::getline(in, line); ++number)
    read_label_line(line, num_classes, {file.string(), number, false, "", ""}, sample, report);
}

// images/train/a.jpg -> labels/train/a.txt: the last folder called "images" becomes "labels".
fs::path label_file_of(const fs::path& image) {
  std::vector<fs::path> parts(image.begin(), image.end());
  const auto last = std::find(parts.rbegin(), parts.rend(), fs::path("images"));
  if (last != parts.rend()) *last = "labels";
  fs::path file;
  for (const fs::path& part : parts) file /= part;
  return file.replace_extension(".txt");
}

struct Pair {
  fs::path image;
  fs::path labels;
};

void gather_folder(const fs::path& folder, const std::optional<fs::path>& label_folder,
                   std::vector<Pair>& pairs, LabelReport& report) {
  std::vector<fs::path> files;
  for (const auto& entry : fs::recursive_directory_iterator(folder))
    if (is_image_name(entry.path()) && !entry.is_directory()) files.push_back(entry.path());
  std::ranges::sort(files);
  std::set<fs::path> wanted;
  for (const fs::path& image : files) {
    fs::path labels =
        label_folder ? *label_folder / fs::relative(image, folder) : label_file_of(image);
    labels.replace_extension(".txt");
    wanted.insert(labels);
    pairs.push_back({image, labels});
  }
  const fs::path root = label_folder ? *label_folder : label_file_of(folder / "x").parent_path();
  if (root == folder || !fs::is_directory(root)) return;
  std::vector<fs::path> orphans;
  for (const auto& entry : fs::recursive_directory_iterator(root))
    if (entry.path().extension() == ".txt" && entry.path().filename() != "classes.txt" &&
        !wanted.contains(entry.path()))
      orphans.push_back(entry.path());
  std::ranges::sort(orphans);
  for (const fs::path& orphan : orphans)
    report.add({orphan.string(), 0, false, "image",
                fmt::format("labels without an image: no {}.jpg or .png in {}",
                            orphan.stem().string(), folder.string())});
}

void gather_list(const fs::path& list, const std::optional<fs::path>& label_folder,
                 std::vector<Pair>& pairs, LabelReport& report) {
  std::istringstream in(read_text(list));
  std::string line;
  for (int64_t number = 1; std::getline(in, line); ++number) {
    while (!line.empty() && (line.back() == '\r' || line.back() == ' ')) line.pop_back();
    if (line.empty()) continue;
    const fs::path image = list.parent_path() / fs::path(line);
    if (!fs::exists(image)) {
      report.add({list.string(), number, false, "image",
                  fmt::format("the image {} is not there", image.string())});
      continue;
    }
    fs::path labels = label_folder ? *label_folder / image.filename() : label_file_of(image);
    labels.replace_extension(".txt");
    pairs.push_back({image, labels});
  }
}

}  // namespace

void read_yolo_split(const DatasetDescription& description, const std::string& split,
                     Dataset& dataset) {
  check(!dataset.names.empty(), "{}: 'names' is empty", description.where);
  std::optional<fs::path> label_folder;
  if (const auto at = description.labels.find(split); at != description.labels.end()) {
    label_folder = at->second;
    check(fs::is_directory(*label_folder), "{}: the folder of labels {} is not there",
          description.where, label_folder->string());
  }
  std::vector<Pair> pairs;
  for (const fs::path& images : description.images.at(split)) {
    check(fs::exists(images), "{}: split '{}': {} is not there", description.where, split,
          images.string());
    if (fs::is_directory(images))
      gather_folder(images, label_folder, pairs, dataset.report);
    else
      gather_list(images, label_folder, pairs, dataset.report);
  }
  for (const Pair& pair : pairs) {
    Sample sample;
    sample.image = pair.image;
    sample.image_id = dataset.size();
    if (!read_header(sample, dataset.report)) continue;
    read_labels(pair.labels, dataset.num_classes(), sample, dataset.report);
    dataset.samples.push_back(std::move(sample));
  }
}

}  // namespace sextant::data
