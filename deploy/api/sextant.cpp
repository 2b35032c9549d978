// SPDX-License-Identifier: Apache-2.0
// The C interface over deploy::Detector.
#include "deploy/api/sextant/sextant.h"

#include <algorithm>
#include <cstring>
#include <mutex>
#include <optional>
#include <string>

#include "core/error.h"
#include "core/parallel.h"
#include "deploy/api/pixels.h"
#include "deploy/detect/choices.h"
#include "deploy/detect/detector.h"
#include "deploy/graph/file.h"
#include "kernels/cuda/runtime.h"

namespace deploy = sextant::deploy;
using sextant::check;

namespace {

// A class without a name is called by its number.
std::vector<std::string> names_of(const deploy::Graph& graph) {
  std::vector<std::string> names = graph.class_names;
  const deploy::Node* decode = graph.decode();
  const int64_t classes =
      decode == nullptr ? 0 : decode->as<deploy::DecodeAttributes>().num_classes;
  while (std::ssize(names) < classes) names.push_back(deploy::class_name(graph, std::ssize(names)));
  return names;
}

}  // namespace

struct sextant_detector {
  deploy::Graph graph;
  deploy::DetectorConfig config;
  int threads;
  std::string device = deploy::device_title(config.device);
  std::vector<std::string> class_names = names_of(graph);
  std::mutex one_call{};
  deploy::Detector detector{graph, config};
};

namespace {

thread_local std::string last_error;

// SEXTANT_OK, or SEXTANT_ERROR with the message kept for this thread.
template <class Body>
int guarded(const Body& body) {
  try {
    last_error.clear();
    body();
    return SEXTANT_OK;
  } catch (const std::bad_alloc&) {
    last_error = "out of memory";
  } catch (const std::exception& e) {
    last_error = e.what();
  } catch (...) {
    last_error = "an exception of an unknown type";
  }
  return SEXTANT_ERROR;
}

sextant_options defaults() {
  return {.size = sizeof(sextant_options),
          .device = "auto",
          .precision = "auto",
          .image_size = 0,
          .threads = 0,
          .max_boxes = 300,
          .multi_label = 0,
          .min_score = 0.4f,
          .max_iou = 0.45f};
}

// `given` may come from a program compiled with fewer fields: those keep their defaults.
sextant_options complete(const sextant_options* given) {
  sextant_options options = defaults();
  if (given == nullptr) return options;
  check(given->size >= sizeof(size_t) && given->size <= sizeof(options),
        "options.size is {}: fill the options by sextant_default_options()", given->size);
  std::memcpy(&options, given, given->size);
  check(options.device != nullptr && options.precision != nullptr,
        "options: device and precision must not be null");
  check(options.threads >= 0 && options.threads <= 4096, "options.threads {}: must be 0 to 4096",
        options.threads);
  check(options.max_boxes >= 1 && options.max_boxes <= 30000,
        "options.max_boxes {}: must be 1 to 30000", options.max_boxes);
  check(options.min_score >= 0 && options.min_score <= 1, "options.min_score {}: must be 0 to 1",
        options.min_score);
  check(options.max_iou >= 0 && options.max_iou <= 1, "options.max_iou {}: must be 0 to 1",
        options.max_iou);
  check(options.image_size >= 0,
        "options.image_size {}: must be positive, or 0 for the model's own", options.image_size);
  return options;
}

deploy::DetectorConfig config_for(const sextant_options& options, const deploy::Graph& graph) {
  std::optional<deploy::Precision> precision;
  if (options.precision != std::string_view("auto"))
    precision = sextant::from_name<deploy::Precision>(options.precision);
  deploy::DetectorConfig config;
  config.precision = deploy::choose_precision(precision, graph);
  config.image_size = deploy::choose_image_size(options.image_size, graph, "options.image_size");
  config.device = deploy::choose_device(sextant::from_name<deploy::DeviceChoice>(options.device),
                                        config.precision, false);
  config.nms.conf = options.min_score;
  config.nms.iou = options.max_iou;
  config.nms.max_det = options.max_boxes;
  config.nms.multi_label = options.multi_label != 0;
  return config;
}

}  // namespace

int32_t sextant_abi_version() { return SEXTANT_ABI_VERSION; }
const char* sextant_version() { return SEXTANT_VERSION; }
const char* sextant_last_error() { return last_error.c_str(); }

void sextant_default_options(sextant_options* options, size_t size) {
  if (options == nullptr) return;
  const sextant_options all = defaults();
  std::memcpy(options, &all, std::min(size, sizeof(all)));
  if (size >= sizeof(size_t)) options->size = std::min(size, sizeof(all));
}

int sextant_open(const char* path, const sextant_options* options, sextant_detector** detector) {
  return guarded([&] {
    check(path != nullptr && detector != nullptr,
          "sextant_open: path and detector must not be null");
    static std::once_flag once;
    std::call_once(once, [] {
      deploy::set_cuda_starter({sextant::kernels::cuda_available, sextant::kernels::start_cuda});
    });
    const sextant_options chosen = complete(options);
    const sextant::ThreadLimit limit(chosen.threads);
    deploy::Graph graph = deploy::load_deploy(std::filesystem::path(path));
    const deploy::DetectorConfig config = config_for(chosen, graph);
    // NOLINTNEXTLINE: the caller owns it, until sextant_close().
    *detector = new sextant_detector{std::move(graph), config, chosen.threads};
  });
}

void sextant_close(sextant_detector* detector) { delete detector; }

int32_t sextant_class_count(const sextant_detector* detector) {
  return detector == nullptr ? 0 : static_cast<int32_t>(detector->class_names.size());
}

const char* sextant_class_name(const sextant_detector* detector, int32_t class_id) {
  if (class_id < 0 || class_id >= sextant_class_count(detector)) return nullptr;
  return detector->class_names[static_cast<size_t>(class_id)].c_str();
}

int32_t sextant_image_size(const sextant_detector* detector) {
  return detector == nullptr ? 0 : detector->config.image_size;
}

const char* sextant_device_name(const sextant_detector* detector) {
  return detector == nullptr ? "" : detector->device.c_str();
}

const char* sextant_precision(const sextant_detector* detector) {
  return detector == nullptr ? "" : sextant::name_of(detector->config.precision).data();
}

int sextant_detect(sextant_detector* detector, const void* pixels, int32_t width, int32_t height,
                   int64_t stride, int32_t format, sextant_box* boxes, int64_t capacity,
                   int64_t* found) {
  const sextant_image image{pixels, width, height, stride, format};
  return sextant_detect_batch(detector, &image, 1, boxes, capacity, found);
}

int sextant_detect_batch(sextant_detector* detector, const sextant_image* images, int64_t count,
                         sextant_box* boxes, int64_t capacity, int64_t* found) {
  return guarded([&] {
    check(detector != nullptr, "sextant_detect: the detector is a null pointer");
    check(count >= 0 && capacity >= 0, "sextant_detect: {} images, room for {} boxes", count,
          capacity);
    check(count == 0 ||
              (images != nullptr && found != nullptr && (boxes != nullptr || capacity == 0)),
          "sextant_detect: images, boxes and found must not be null");
    const sextant::ThreadLimit limit(detector->threads);
    const std::lock_guard lock(detector->one_call);
    std::vector<std::vector<sextant::kernels::Detection>> all;
    for (int64_t i = 0; i < count; ++i)
      all.push_back(
          detector->detector.run(deploy::rgb_image(images[i], fmt::format("image {}", i))));
    for (int64_t i = 0; i < count; ++i) {
      const auto& detections = all[static_cast<size_t>(i)];
      found[i] = std::min<int64_t>(capacity, static_cast<int64_t>(detections.size()));
      for (int64_t k = 0; k < found[i]; ++k) {
        const auto& d = detections[static_cast<size_t>(k)];
        boxes[i * capacity + k] = {d.x1, d.y1, d.x2, d.y2, d.score, d.class_id};
      }
    }
  });
}
