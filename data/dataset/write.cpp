// SPDX-License-Identifier: Apache-2.0
#include "data/dataset/write.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <set>

#include "core/error.h"
#include "core/file.h"
#include "core/json.h"
#include "core/text.h"

namespace sextant::data {
namespace {

namespace fs = std::filesystem;

// A file name within a split that no other image or label file of it has.
std::string free_name(const fs::path& image, std::set<std::string>& taken) {
  const std::string stem = image.stem().string();
  std::string name = stem;
  for (int k = 2; !taken.insert(name).second; ++k) name = fmt::format("{}_{}", stem, k);
  return name;
}

void make_folder(const fs::path& folder) {
  std::error_code ec;
  fs::create_directories(folder, ec);
  check(!ec, "{}: cannot be created ({})", folder.string(), ec.message());
}

void place_image(const fs::path& from, const fs::path& to) {
  std::error_code ec;
  const fs::path file = fs::canonical(from, ec);
  check(!ec, "{}: cannot be read ({})", from.string(), ec.message());
  fs::create_hard_link(file, to, ec);
  if (!ec) return;
  fs::copy_file(file, to, ec);
  check(!ec, "{}: cannot be copied to {} ({})", from.string(), to.string(), ec.message());
}

void write_text(const fs::path& path, const std::string& text) {
  write_unflushed(path, std::as_bytes(std::span(text)));
}

// Corners in pixels: x0, y0, x1, y1.
std::array<double, 4> corners(const Sample& s, const Label& l) {
  const double w = s.width, h = s.height;
  return {(double{l.cx} - double{l.w} / 2) * w, (double{l.cy} - double{l.h} / 2) * h,
          (double{l.cx} + double{l.w} / 2) * w, (double{l.cy} + double{l.h} / 2) * h};
}

std::string yolo_text(const Sample& sample) {
  std::string text;
  for (const Label& l : sample.labels)
    if (!l.crowd)
      text += fmt::format("{} {:.9g} {:.9g} {:.9g} {:.9g}\n", l.category, l.cx, l.cy, l.w, l.h);
  return text;
}

// Pixels are counted from 1, and the last belongs to the box.
std::string voc_text(const Sample& sample, const std::string& file,
                     const std::vector<std::string>& names) {
  std::string text = fmt::format(
      "<annotation>\n  <filename>{}</filename>\n  <size><width>{}</width><height>{}</height>"
      "<depth>3</depth></size>\n",
      escaped_markup(file), sample.width, sample.height);
  for (const Label& l : sample.labels) {
    const auto box = corners(sample, l);
    const auto first = [](double v) { return std::lround(v) + 1; };
    const auto last = [](double v, double low) {
      return std::max(std::lround(v), std::lround(low) + 1);
    };
    text += fmt::format(
        "  <object><name>{}</name><difficult>{}</difficult><bndbox><xmin>{}</xmin><ymin>{}</ymin>"
        "<xmax>{}</xmax><ymax>{}</ymax></bndbox></object>\n",
        escaped_markup(names[static_cast<size_t>(l.category)]), l.crowd ? 1 : 0, first(box[0]),
        first(box[1]), last(box[2], box[0]), last(box[3], box[1]));
  }
  return text + "</annotation>\n";
}

// COCO's file of a split, image by image.
class CocoFile {
 public:
  explicit CocoFile(const std::vector<std::string>& names) {
    json_ = {
        {"images", Json::array()}, {"annotations", Json::array()}, {"categories", Json::array()}};
    for (size_t i = 0; i < names.size(); ++i)
      json_["categories"].push_back({{"id", i}, {"name", names[i]}});
  }
  void add(const Sample& sample, const std::string& file) {
    const auto image = json_["images"].size();
    json_["images"].push_back(
        {{"id", image}, {"file_name", file}, {"width", sample.width}, {"height", sample.height}});
    for (const Label& l : sample.labels) {
      const auto box = corners(sample, l);
      const double w = box[2] - box[0], h = box[3] - box[1];
      json_["annotations"].push_back({{"id", json_["annotations"].size() + 1},
                                      {"image_id", image},
                                      {"category_id", l.category},
                                      {"bbox", {box[0], box[1], w, h}},
                                      {"area", l.area > 0 ? l.area : w * h},
                                      {"iscrowd", l.crowd ? 1 : 0}});
    }
  }
  std::string text() const { return json_text(json_) + "\n"; }

 private:
  Json json_;
};

void write_split(const fs::path& folder, DatasetForm form, const std::vector<std::string>& names,
                 const SplitToWrite& split, WrittenDataset& written) {
  const fs::path images = folder / "images" / split.name;
  const fs::path labels = form == DatasetForm::kYolo  ? folder / "labels" / split.name
                          : form == DatasetForm::kVoc ? folder / "annotations" / split.name
                                                      : folder / "annotations";
  make_folder(images);
  make_folder(labels);
  CocoFile coco(names);
  std::set<std::string> taken;
  for (const Sample* sample : split.samples) {
    const std::string name = free_name(sample->image, taken);
    const std::string file = name + sample->image.extension().string();
    place_image(sample->image, images / file);
    if (form == DatasetForm::kCoco)
      coco.add(*sample, file);
    else if (form == DatasetForm::kVoc)
      write_text(labels / (name + ".xml"), voc_text(*sample, file, names));
    else
      write_text(labels / (name + ".txt"), yolo_text(*sample));
    ++written.images;
    for (const Label& l : sample->labels)
      ++(form == DatasetForm::kYolo && l.crowd ? written.crowds : written.boxes);
  }
  if (form == DatasetForm::kCoco)
    write_atomically(labels / ("instances_" + split.name + ".json"), coco.text());
}

uint64_t mixed_hash(uint64_t seed, const std::string& text) {
  uint64_t h = 14695981039346656037ull ^ (seed * 0x9E3779B97F4A7C15ull);  // FNV-1a
  for (const char c : text) h = (h ^ static_cast<uint8_t>(c)) * 1099511628211ull;
  h ^= h >> 31;
  return h * 0xBF58476D1CE4E5B9ull ^ h >> 29;
}

}  // namespace

WrittenDataset write_dataset(const fs::path& folder, DatasetForm form,
                             const std::vector<std::string>& names,
                             const std::vector<SplitToWrite>& splits) {
  std::error_code ec;
  const bool there = fs::exists(folder, ec);
  check(!there || (fs::is_directory(folder, ec) && fs::is_empty(folder, ec)),
        "{}: exists and is not an empty folder; choose another", folder.string());
  const fs::path part = folder.string() + fmt::format(".tmp{}", ::getpid());
  WrittenDataset written;
  try {
    make_folder(part);
    for (const SplitToWrite& split : splits) write_split(part, form, names, split, written);
    write_atomically(part / "classes.json", json_text(Json({{"names", names}})) + "\n");
    if (there) fs::remove(folder, ec);
    fs::rename(part, folder, ec);
    check(!ec, "{}: cannot be written ({})", folder.string(), ec.message());
  } catch (...) {
    fs::remove_all(part, ec);
    throw;
  }
  return written;
}

std::vector<SplitToWrite> deal(std::vector<const Sample*> samples, const std::vector<Share>& shares,
                               uint64_t seed) {
  double whole = 0;
  for (const Share& s : shares) {
    check(s.part >= 0, "split '{}': a share of {}, must not be negative", s.split, s.part);
    whole += s.part;
  }
  check(whole > 0, "the shares of the splits add up to 0");
  const auto key = [&](const Sample* s) {
    return std::pair(mixed_hash(seed, s->image.filename().string()), s->image.string());
  };
  std::ranges::sort(samples, {}, key);
  std::vector<SplitToWrite> splits;
  double up_to = 0;
  size_t first = 0;
  for (const Share& s : shares) {
    up_to += s.part;
    const auto last =
        static_cast<size_t>(std::lround(up_to / whole * static_cast<double>(samples.size())));
    SplitToWrite split{s.split,
                       {samples.begin() + static_cast<std::ptrdiff_t>(first),
                        samples.begin() + static_cast<std::ptrdiff_t>(last)}};
    std::ranges::sort(split.samples, {}, [](const Sample* p) { return p->image.string(); });
    if (!split.samples.empty()) splits.push_back(std::move(split));
    first = last;
  }
  return splits;
}

}  // namespace sextant::data
