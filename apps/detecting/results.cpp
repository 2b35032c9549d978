// SPDX-License-Identifier: Apache-2.0
#include "apps/detecting/results.h"

#include <fmt/format.h>

#include <cstdio>

#include "core/error.h"
#include "core/file.h"
#include "core/json.h"

namespace sextant::apps {
namespace {

namespace fs = std::filesystem;

class CocoWriter : public ResultWriter {
 public:
  explicit CocoWriter(fs::path file) : file_(std::move(file)) {}
  void add(const FrameBoxes& f) override {
    for (const data::LabelledBox& b : f.boxes) {
      Json row = {{"image_id", f.image_id},
                  {"file_name", f.name},
                  {"category_id", b.class_id},
                  {"category_name", b.label},
                  {"bbox", {b.box.x0, b.box.y0, b.box.x1 - b.box.x0, b.box.y1 - b.box.y0}},
                  {"score", b.score}};
      if (f.frame >= 0) row["frame"] = f.frame;
      rows_ += (rows_.empty() ? "" : ",\n") + json_text(row);
    }
  }
  void finish() override { write_atomically(file_, "[" + rows_ + "]\n"); }

 private:
  fs::path file_;
  std::string rows_;
};

class JsonLinesWriter : public ResultWriter {
 public:
  explicit JsonLinesWriter(const fs::path& file) : name_(file.string()) {
    fs::create_directories(file.parent_path());
    file_.reset(std::fopen(file.c_str(), "w"));
    check(file_ != nullptr, "{}: cannot be written", name_);
  }
  void add(const FrameBoxes& f) override {
    Json boxes = Json::array();
    for (const data::LabelledBox& b : f.boxes)
      boxes.push_back({{"class", b.class_id},
                       {"name", b.label},
                       {"score", b.score},
                       {"box", {b.box.x0, b.box.y0, b.box.x1, b.box.y1}}});
    Json line = {{"file", f.name},
                 {"image_id", f.image_id},
                 {"width", f.width},
                 {"height", f.height},
                 {"boxes", std::move(boxes)}};
    if (f.frame >= 0) line["frame"] = f.frame;
    const std::string text = json_text(line) + "\n";
    check(std::fwrite(text.data(), 1, text.size(), file_.get()) == text.size() &&
              std::fflush(file_.get()) == 0,
          "{}: cannot be written", name_);
  }

 private:
  struct Close {
    void operator()(std::FILE* f) const { std::fclose(f); }
  };
  std::string name_;
  std::unique_ptr<std::FILE, Close> file_;
};

class CsvWriter : public ResultWriter {
 public:
  explicit CsvWriter(fs::path file) : file_(std::move(file)) {}
  void add(const FrameBoxes& f) override {
    for (const data::LabelledBox& b : f.boxes)
      rows_ += fmt::format("{},{},{},{},{},{},{},{},{}\n", quoted(f.name),
                           f.frame >= 0 ? std::to_string(f.frame) : "", b.class_id, quoted(b.label),
                           b.score, b.box.x0, b.box.y0, b.box.x1, b.box.y1);
  }
  void finish() override { write_atomically(file_, rows_); }

 private:
  static std::string quoted(const std::string& text) {
    if (text.find_first_of(",\"\r\n") == std::string::npos) return text;
    std::string out = "\"";
    for (const char c : text) out += c == '"' ? "\"\"" : std::string(1, c);
    return out + "\"";
  }

  fs::path file_;
  std::string rows_ = "file,frame,class,name,score,x1,y1,x2,y2\n";
};

class YoloWriter : public ResultWriter {
 public:
  YoloWriter(fs::path folder, bool confidences)
      : folder_(std::move(folder)), confidences_(confidences) {}
  void add(const FrameBoxes& f) override {
    std::string rows;
    for (const data::LabelledBox& b : f.boxes) {
      rows += fmt::format("{} {:.6g} {:.6g} {:.6g} {:.6g}", b.class_id,
                          (b.box.x0 + b.box.x1) / 2 / f.width, (b.box.y0 + b.box.y1) / 2 / f.height,
                          (b.box.x1 - b.box.x0) / f.width, (b.box.y1 - b.box.y0) / f.height);
      rows += confidences_ ? fmt::format(" {:.6g}\n", b.score) : "\n";
    }
    write_unflushed(folder_ / (f.stem + ".txt"), std::as_bytes(std::span(rows)));
  }

 private:
  fs::path folder_;
  bool confidences_;
};

}  // namespace

std::string result_file(ResultFormat format) {
  switch (format) {
    case ResultFormat::kCoco:
      return "detections.json";
    case ResultFormat::kJsonLines:
      return "detections.jsonl";
    case ResultFormat::kCsv:
      return "detections.csv";
    case ResultFormat::kYolo:
      break;
  }
  return "";
}

std::unique_ptr<ResultWriter> make_result_writer(ResultFormat format, const fs::path& folder,
                                                 bool confidences) {
  const fs::path file = folder / result_file(format);
  switch (format) {
    case ResultFormat::kCoco:
      return std::make_unique<CocoWriter>(file);
    case ResultFormat::kJsonLines:
      return std::make_unique<JsonLinesWriter>(file);
    case ResultFormat::kCsv:
      return std::make_unique<CsvWriter>(file);
    case ResultFormat::kYolo:
      break;
  }
  return std::make_unique<YoloWriter>(folder / "labels", confidences);
}

}  // namespace sextant::apps
