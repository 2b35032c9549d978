// SPDX-License-Identifier: Apache-2.0
#include "apps/detecting/detect.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <deque>
#include <filesystem>
#include <map>

#include "apps/detecting/video.h"
#include "core/interrupt.h"
#include "core/outputs.h"
#include "core/parallel.h"
#include "core/progress.h"
#include "core/task_pool.h"
#include "deploy/detect/detector_pool.h"

namespace sextant::apps {
namespace {

namespace fs = std::filesystem;

// The folder name for a class.
std::string folder_name(std::string name) {
  std::ranges::replace(name, '/', '_');
  return name.empty() || name.starts_with('.') ? "_" + name : name;
}

fs::path picture_file(const DetectOutputs& outputs, const std::string& stem) {
  return fs::path(outputs.folder) / (stem + (outputs.jpeg ? ".jpg" : ".png"));
}

void save_crops(const data::Image& image, const FrameBoxes& found, const fs::path& folder) {
  std::map<std::string, int> count;
  for (const data::LabelledBox& b : found.boxes) {
    const int x0 = static_cast<int>(b.box.x0), y0 = static_cast<int>(b.box.y0);
    const int x1 = std::min(image.width, static_cast<int>(std::ceil(b.box.x1)));
    const int y1 = std::min(image.height, static_cast<int>(std::ceil(b.box.y1)));
    if (x1 <= x0 || y1 <= y0) continue;
    data::Image crop = data::make_image(x1 - x0, y1 - y0);
    for (int y = y0; y < y1; ++y)
      std::copy_n(image.row(y) + 3 * x0, crop.pitch(), crop.row(y - y0));
    const std::string name = folder_name(b.label);
    data::save_jpeg(folder / name / fmt::format("{}_{}.jpg", found.stem, ++count[name]), crop);
  }
}

// The output files for one input, in the order of its pictures.
class Writers {
 public:
  Writers(const DetectOutputs& outputs, const std::vector<ResultFormat>& formats)
      : outputs_(outputs) {
    for (const ResultFormat format : formats)
      results_.push_back(make_result_writer(format, outputs.folder, outputs.confidences));
  }

  void add(const FrameBoxes& found) {
    for (const auto& writer : results_) writer->add(found);
  }

  bool wants_pixels() const { return outputs_.pictures || outputs_.crops; }

  // Draws and saves a picture; thread-safe, in any order. A frame of a video is returned instead.
  std::optional<data::Image> write(const FrameBoxes& found, data::Image image,
                                   bool of_video) const {
    if (outputs_.crops) save_crops(image, found, fs::path(outputs_.folder) / "crops");
    if (!outputs_.pictures) return std::nullopt;
    data::draw_detections(image, found.boxes, outputs_.style);
    if (of_video) return image;
    const fs::path file = picture_file(outputs_, found.stem);
    if (outputs_.jpeg)
      data::save_jpeg(file, image);
    else
      data::save_png(file, image);
    return std::nullopt;
  }

  void finish() {
    for (const auto& writer : results_) writer->finish();
  }

 private:
  const DetectOutputs& outputs_;
  std::vector<std::unique_ptr<ResultWriter>> results_;
};

// A picture on its way from the input to the files.
struct Picture {
  data::Image image;
  std::string broken;  // why it could not be decoded
  FrameBoxes found;
  bool finished = false;                   // detected and written
  std::optional<data::Image> video_frame;  // what is left to write then
};

class Detection {
 public:
  Detection(const deploy::Graph& graph, const deploy::DetectorConfig& config,
            const DetectOutputs& outputs, const std::vector<ResultFormat>& formats)
      : graph_(graph), outputs_(outputs), detectors_(graph, config), writers_(outputs, formats) {}

  // Reads ahead of the engine and writes behind it; returns when everything except the results is
  // written. Of many pictures each is one thread's from reading to writing.
  void run(FrameSource& source, const std::string& stem, Progress& progress) {
    std::unique_ptr<VideoWriter> video;
    if (outputs_.pictures && !source.video_rate().empty())
      video = std::make_unique<VideoWriter>(fs::path(outputs_.folder) / (stem + ".mp4"),
                                            source.video_rate());
    const bool of_video = video != nullptr;
    const bool one_thread_each = detectors_.parallel() && source.size() >= 2 * num_threads();
    if (one_thread_each) at_a_time_ = num_threads();
    std::deque<std::future<Picture>> coming;
    std::deque<std::future<std::optional<data::Image>>> leaving;
    TaskPool pool(num_threads());
    // The number of pictures in memory before the engine, and behind it.
    const auto most = static_cast<size_t>(num_threads() + 2);
    const auto write_first = [&] {
      const auto frame = leaving.front().get();
      leaving.pop_front();
      if (frame) video->write(*frame);
    };
    const auto submit = [&](Frame frame) {
      const int64_t id = done_ + std::ssize(coming);
      coming.push_back(pool.submit([this, frame = std::move(frame), id, of_video, one_thread_each] {
        Picture picture = read(frame, id);
        if (one_thread_each && picture.broken.empty()) finish_here(picture, of_video);
        return picture;
      }));
    };
    const auto take_first = [&] {
      Picture picture = coming.front().get();
      coming.pop_front();
      ++done_;
      if (!picture.broken.empty()) {
        print_notice(picture.broken);
        ++summary_.broken;
        return;
      }
      if (!picture.finished) add_boxes(picture, detectors_.first().run(picture.image));
      writers_.add(picture.found);
      ++summary_.pictures;
      summary_.boxes += std::ssize(picture.found.boxes);
      if (picture.finished) {
        if (picture.video_frame) video->write(*picture.video_frame);
      } else if (writers_.wants_pixels()) {
        leaving.push_back(
            pool.submit([this, of_video, p = std::make_shared<Picture>(std::move(picture))] {
              return writers_.write(p->found, std::move(p->image), of_video);
            }));
      }
    };
    const auto finish = [&] {
      while (!leaving.empty()) write_first();
      if (video) video->finish();
    };
    int64_t of_source = 0;
    try {
      for (bool more = true; more || !coming.empty();) {
        while (more && coming.size() < most) {
          auto frame = source.next();
          more = frame.has_value();
          if (more) submit(std::move(*frame));
        }
        if (coming.empty()) break;
        progress.update(of_source++);
        take_first();
        while (leaving.size() > most) write_first();
      }
    } catch (const Interrupted&) {
      // What is finished has its files: the results list it.
      while (one_thread_each && !coming.empty()) take_first();
      finish();
      throw;
    }
    finish();
  }

  void finish() { writers_.finish(); }

  DetectSummary summary() const {
    DetectSummary s = summary_;
    s.times = detectors_.times();
    s.times.at_a_time = at_a_time_;
    return s;
  }

 private:
  static Picture read(const Frame& frame, int64_t id) {
    Picture picture;
    try {
      picture.image = frame.pixels();
    } catch (const Error& e) {
      picture.broken = e.what();
      return picture;
    }
    picture.found = {.name = frame.name,
                     .frame = frame.number,
                     .stem = frame.stem,
                     .image_id = id,
                     .width = picture.image.width,
                     .height = picture.image.height,
                     .boxes = {}};
    return picture;
  }

  void add_boxes(Picture& picture, const std::vector<kernels::Detection>& boxes) const {
    for (const auto& d : boxes)
      picture.found.boxes.push_back(
          {{d.x1, d.y1, d.x2, d.y2}, d.class_id, deploy::class_name(graph_, d.class_id), d.score});
  }

  // The rest of a picture's way, on this thread.
  void finish_here(Picture& picture, bool of_video) {
    add_boxes(picture, detectors_.run(picture.image));
    if (writers_.wants_pixels())
      picture.video_frame = writers_.write(picture.found, std::move(picture.image), of_video);
    picture.image = {};
    picture.finished = true;
  }

  const deploy::Graph& graph_;
  const DetectOutputs& outputs_;
  deploy::DetectorPool detectors_;
  Writers writers_;
  DetectSummary summary_;
  int at_a_time_ = 1;
  int64_t done_ = 0;  // pictures of all inputs, including broken ones
};

bool has_frames(const std::vector<Input>& inputs) {
  return std::ranges::any_of(inputs, [](const Input& i) { return i.kind != Input::Kind::kImage; });
}

void check_files(const std::string& model, const std::vector<Input>& inputs,
                 const DetectOutputs& outputs, const std::vector<ResultFormat>& formats) {
  const fs::path folder = outputs.folder;
  Files files{.inputs = {model}, .datasets = {}, .outputs = {}};
  for (const ResultFormat format : formats)
    if (const std::string name = result_file(format); !name.empty())
      files.outputs.push_back((folder / name).string());
  const bool yolo = std::ranges::find(formats, ResultFormat::kYolo) != formats.end();
  for (const Input& input : inputs) {
    if (input.kind != Input::Kind::kStandardInput) files.inputs.push_back(input.path);
    if (yolo) files.outputs.push_back((folder / "labels" / (input.stem + ".txt")).string());
    if (!outputs.pictures || input.kind == Input::Kind::kStandardInput) continue;
    files.outputs.push_back(input.kind == Input::Kind::kVideo
                                ? (folder / (input.stem + ".mp4")).string()
                                : picture_file(outputs, input.stem).string());
  }
  check_outputs(files);
}

}  // namespace

DetectSummary detect(const deploy::Graph& graph, const deploy::DetectorConfig& config,
                     const std::string& model, const std::vector<Input>& inputs,
                     const std::optional<RawFrames>& raw, const DetectOutputs& outputs) {
  std::vector<ResultFormat> formats = outputs.formats;
  if (formats.empty())
    formats = {has_frames(inputs) ? ResultFormat::kJsonLines : ResultFormat::kCoco};
  check_files(model, inputs, outputs, formats);

  const auto start = std::chrono::steady_clock::now();
  const InterruptScope scope;
  Detection detection(graph, config, outputs, formats);
  try {
    for (size_t i = 0; i < inputs.size();) {
      // Consecutive images form one source.
      size_t end = i + 1;
      while (inputs[i].kind == Input::Kind::kImage && end < inputs.size() &&
             inputs[end].kind == Input::Kind::kImage)
        ++end;
      const auto source = open_source(std::span(inputs).subspan(i, end - i), raw);
      Progress progress("detect " + (end - i == 1 ? inputs[i].path : ""), source->size());
      detection.run(*source, inputs[i].stem, progress);
      i = end;
    }
  } catch (const Interrupted& e) {
    detection.finish();
    throw Interrupted(e.signal(),
                      fmt::format("{} after {} pictures, whose boxes are in {}", e.what(),
                                  detection.summary().pictures, outputs.folder));
  }
  DetectSummary summary = detection.summary();
  check(summary.pictures > 0, "none of the images could be read");
  detection.finish();
  summary.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return summary;
}

}  // namespace sextant::apps
