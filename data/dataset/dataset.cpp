// SPDX-License-Identifier: Apache-2.0
#include "data/dataset/dataset.h"

#include <algorithm>

#include "core/class_names.h"
#include "core/config.h"
#include "core/error.h"
#include "core/file.h"
#include "core/hash.h"
#include "core/progress.h"
#include "data/dataset/description.h"

namespace sextant::data {
namespace {

// Lists the existing splits and suggests the nearest.
[[noreturn]] void fail_split(const DatasetDescription& description, const std::string& split) {
  std::string list;
  std::vector<std::string> known;
  for (const auto& [name, unused] : description.images) {
    list += (list.empty() ? "" : ", ") + name;
    known.push_back(name);
  }
  fail("{}: has no split '{}'; it has {}{}", description.where, split, list.empty() ? "none" : list,
       known.empty() ? "" : "; nearest is '" + nearest_name(split, known) + "'");
}

void read_split(const DatasetDescription& description, const std::string& split, Dataset& dataset) {
  if (description.format == DatasetFormat::kCoco)
    read_coco_split(description, split, dataset);
  else if (description.format == DatasetFormat::kVoc)
    read_voc_split(description, split, dataset);
  else
    read_yolo_split(description, split, dataset);
}

// Renumbers the classes as in `wanted`. `named`: the dataset declares its class names; otherwise
// they are those that occur in its annotations.
void take_classes(const ClassList& wanted, bool named, const std::string& where, Dataset& dataset) {
  std::vector<int64_t> numbers;
  if (wanted.is_any()) {
    numbers.assign(dataset.names.size(), 0);
  } else if (named || are_numbers(wanted.names) || are_numbers(dataset.names)) {
    numbers = match_classes(dataset.names, where, wanted.names, wanted.where);
  } else {
    for (const std::string& name : dataset.names) {
      const auto at = std::ranges::find(wanted.names, name);
      check(at != wanted.names.end(), "{}: the class '{}' is not among those of {}", where, name,
            wanted.where);
      numbers.push_back(at - wanted.names.begin());
    }
  }
  for (Sample& sample : dataset.samples)
    for (Label& label : sample.labels)
      label.category = static_cast<int>(numbers[static_cast<size_t>(label.category)]);
  if (!are_numbers(wanted.names)) dataset.names = wanted.names;
}

}  // namespace

bool BrokenImages::contains(int64_t index) const {
  const std::lock_guard lock(mutex_);
  return issues_.contains(index);
}

bool BrokenImages::add(int64_t index, LabelIssue issue) {
  const std::lock_guard lock(mutex_);
  return issues_.emplace(index, std::move(issue)).second;
}

LabelReport BrokenImages::report() const {
  const std::lock_guard lock(mutex_);
  LabelReport report;
  for (const auto& [index, issue] : issues_) report.add(issue);
  return report;
}

int64_t Dataset::boxes() const {
  int64_t n = 0;
  for (const Sample& s : samples) n += std::ssize(s.labels);
  return n;
}

int64_t Dataset::images_without_boxes() const {
  return std::ranges::count_if(samples, [](const Sample& s) { return s.labels.empty(); });
}

Dataset open_dataset(const std::filesystem::path& path, const std::string& split,
                     const DatasetOptions& options) {
  Dataset dataset;
  dataset.path = path.string();
  dataset.split = split;
  dataset.stop_on_error = options.on_error == OnError::kStop;
  try {
    const DatasetDescription description = describe_dataset(path);
    if (!description.images.contains(split)) fail_split(description, split);
    dataset.names = description.names;
    read_split(description, split, dataset);
    const bool named = !description.names.empty();
    if (options.classes)
      take_classes(*options.classes, named, named ? description.where : dataset.labels_at, dataset);
  } catch (const std::filesystem::filesystem_error& e) {
    fail("{}: {}", e.path1().empty() ? path.string() : e.path1().string(), e.code().message());
  }
  const LabelReport& report = dataset.report;
  if (dataset.stop_on_error && !report.empty())
    fail("{}: {} mistake{} in the labels of split '{}'; the first: {}", dataset.path,
         report.issues().size(), report.issues().size() == 1 ? "" : "s", split,
         report.issues()[0].str());
  check(!dataset.samples.empty(), "{}: split '{}' has no usable image{}{}", dataset.path, split,
        report.empty() ? "" : "; the first mistake: ",
        report.empty() ? "" : report.issues()[0].str());
  return dataset;
}

std::string fingerprint(const Dataset& dataset) {
  Hash64 hash;
  for (const std::string& name : dataset.names) hash.add(name);
  for (const Sample& sample : dataset.samples) {
    hash.add(sample.image.filename().string()).add(sample.width).add(sample.height);
    for (const Label& l : sample.labels) {
      const float box[] = {l.cx, l.cy, l.w, l.h};
      hash.add(l.category).add(l.crowd).add(box, sizeof(box));
    }
  }
  return hash.text();
}

void check_has_boxes(const Dataset& dataset) {
  check(dataset.boxes() > 0, "{}: split '{}' has {} image{} and no boxes; labels are read from {}",
        dataset.path, dataset.split, dataset.size(), dataset.size() == 1 ? "" : "s",
        dataset.labels_at);
}

std::optional<Image> load_reduced_sample(const Dataset& dataset, int64_t index, ImageSize least,
                                         const ReadImageFile& read) {
  if (dataset.broken->contains(index)) return std::nullopt;
  const Sample& sample = dataset.samples[static_cast<size_t>(index)];
  const std::string file = sample.image.string();
  try {
    ReducedImage loaded = decode_reduced(*read(), file, least);
    check(loaded.full == ImageSize{sample.width, sample.height},
          "{}: the image is {}x{}, it was {}x{} when the dataset was opened", file,
          loaded.full.width, loaded.full.height, sample.width, sample.height);
    return std::move(loaded.image);
  } catch (const Error& e) {
    if (dataset.stop_on_error) throw;
    const std::string message = e.what();
    LabelIssue issue{file, 0, false, "image",
                     message.starts_with(file + ": ") ? message.substr(file.size() + 2) : message};
    const std::string line = issue.str();
    if (dataset.broken->add(index, std::move(issue))) print_notice(line + "; left out");
    return std::nullopt;
  }
}

std::optional<Image> load_sample(const Dataset& dataset, int64_t index) {
  const auto read = [&] {
    return std::make_shared<const std::vector<uint8_t>>(
        read_bytes(dataset.samples[static_cast<size_t>(index)].image));
  };
  return load_reduced_sample(dataset, index, {kMaxImageSide, kMaxImageSide}, read);
}

}  // namespace sextant::data
