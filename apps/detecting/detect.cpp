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
      : graph_(graph), config_(config), outputs_(outputs), writers_(outputs, formats) {}

  // Reads ahead of the engine and writes behind it; returns when everything except the results is
  // written. Of many pictures a few are one thread's from reading to writing.
  void run(FrameSource& source, const std::string& stem, Progress& progress) {
    deploy::DetectorPool& detectors = detectors_for(source.size());
    const bool one_thread_each = detectors.parallel() && source.size() >= 2 * num_threads();
    if (one_thread_each) at_a_time_ = num_threads();
    std::unique_ptr<VideoWriter> video;
    if (outputs_.pictures && !source.video_rate().empty())
      video = std::make_unique<VideoWriter>(fs::path(outputs_.folder) / (stem + ".mp4"),
                                            source.video_rate());
    const bool of_video = video != nullptr;
    std::deque<std::future<std::vector<Picture>>> coming;
    int64_t read_ahead = 0;  // pictures in `coming`
    std::deque<std::future<std::optional<data::Image>>> leaving;
    TaskPool pool(num_threads());
    // A task reads and detects a batch, or reads one picture for the batch of all threads.
    const int64_t of_task = one_thread_each ? detectors.batch() : 1;
    const int64_t at_once = one_thread_each ? 1 : detectors.batch();  // tasks
    // The number of tasks before the engine, and of pictures behind it.
    const auto most = static_cast<size_t>(num_threads() + 1 + at_once);
    const auto write_first = [&] {
      const auto frame = leaving.front().get();
      leaving.pop_front();
      if (frame) video->write(*frame);
    };
    const auto submit = [&](std::vector<Frame> frames) {
      const int64_t id = done_ + read_ahead;
      read_ahead += std::ssize(frames);
      coming.push_back(pool.submit(
          [this, &detectors, frames = std::move(frames), id, of_video, one_thread_each] {
            std::vector<Picture> pictures;
            for (const Frame& frame : frames)
              pictures.push_back(read(frame, id + std::ssize(pictures)));
            if (one_thread_each) finish_here(detectors, pictures, of_video);
            return pictures;
          }));
    };
    const auto take = [&](Picture picture) {
      ++done_;
      if (!picture.broken.empty()) {
        print_notice(picture.broken);
        ++summary_.broken;
        return;
      }
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
    const auto take_first = [&] {
      std::vector<Picture> pictures;
      for (int64_t i = 0; i < at_once && !coming.empty(); ++i) {
        std::ranges::move(coming.front().get(), std::back_inserter(pictures));
        coming.pop_front();
      }
      read_ahead -= std::ssize(pictures);
      if (!one_thread_each) add_boxes(detectors.first(), pictures);
      for (Picture& picture : pictures) take(std::move(picture));
    };
    const auto finish = [&] {
      while (!leaving.empty()) write_first();
      if (video) video->finish();
    };
    const int64_t before = done_;
    try {
      for (bool more = true; more || !coming.empty();) {
        while (more && coming.size() < most) {
          std::vector<Frame> frames;
          while (more && std::ssize(frames) < of_task) {
            auto frame = source.next();
            more = frame.has_value();
            if (more) frames.push_back(std::move(*frame));
          }
          if (!frames.empty()) submit(std::move(frames));
        }
        if (coming.empty()) break;
        progress.update(done_ - before);
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
    s.times = times_;
    if (detectors_) s.times += detectors_->times();
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

  // Made for so many pictures; 0 if their number is unknown: each is to have its boxes at once.
  deploy::DetectorPool& detectors_for(int64_t pictures) {
    deploy::DetectorConfig config = config_;
    const bool cpu = config.device == Device::kCpu;
    const int64_t many = cpu ? 4 * num_threads() : 2;
    if (pictures >= many)
      config.batch = static_cast<int>(std::min<int64_t>(deploy::batch_for_many(config), pictures));
    if (!detectors_ || detectors_->batch() != config.batch) {
      if (detectors_) times_ += detectors_->times();
      detectors_ = std::make_unique<deploy::DetectorPool>(graph_, config);
    }
    return *detectors_;
  }

  // To those that could be decoded.
  template <class Detectors>
  void add_boxes(Detectors& detectors, std::vector<Picture>& pictures) const {
    std::vector<const data::Image*> images;
    std::vector<FrameBoxes*> found;
    for (Picture& picture : pictures) {
      if (!picture.broken.empty()) continue;
      images.push_back(&picture.image);
      found.push_back(&picture.found);
    }
    if (images.empty()) return;
    const auto boxes = detectors.run(images);
    for (size_t i = 0; i < boxes.size(); ++i)
      for (const auto& d : boxes[i])
        found[i]->boxes.push_back({{d.x1, d.y1, d.x2, d.y2},
                                   d.class_id,
                                   deploy::class_name(graph_, d.class_id),
                                   d.score});
  }

  // The rest of the pictures' way, on this thread.
  void finish_here(deploy::DetectorPool& detectors, std::vector<Picture>& pictures,
                   bool of_video) const {
    add_boxes(detectors, pictures);
    for (Picture& picture : pictures) {
      if (!picture.broken.empty()) continue;
      if (writers_.wants_pixels())
        picture.video_frame = writers_.write(picture.found, std::move(picture.image), of_video);
      picture.image = {};
      picture.finished = true;
    }
  }

  const deploy::Graph& graph_;
  const deploy::DetectorConfig& config_;
  const DetectOutputs& outputs_;
  std::unique_ptr<deploy::DetectorPool> detectors_;
  deploy::DetectorTimes times_;  // of those that were made for another number of pictures
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
