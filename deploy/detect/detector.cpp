// SPDX-License-Identifier: Apache-2.0
#include "deploy/detect/detector.h"

#include <algorithm>
#include <chrono>
#include <cmath>

#include "core/device_bytes.h"
#include "deploy/detect/choices.h"
#include "kernels/backend.h"

namespace sextant::deploy {
namespace {

double seconds_since(std::chrono::steady_clock::time_point& from) {
  const auto now = std::chrono::steady_clock::now();
  const double s = std::chrono::duration<double>(now - from).count();
  from = now;
  return s;
}

}  // namespace

void check_detects(const Graph& graph) {
  check(graph.decode() != nullptr, "{}: is not a detector: it has no decode node", graph.label());
}

std::string class_name(const Graph& graph, int64_t id) {
  return id < std::ssize(graph.class_names) ? graph.class_names[static_cast<size_t>(id)]
                                            : std::to_string(id);
}

DetectorTimes& DetectorTimes::operator+=(const DetectorTimes& other) {
  preprocess += other.preprocess;
  inference += other.inference;
  postprocess += other.postprocess;
  images += other.images;
  return *this;
}

double DetectorTimes::per_image(double seconds) const {
  return 1e3 * seconds / static_cast<double>(std::max<int64_t>(images, 1) * at_a_time);
}

Detector::Detector(const Graph& graph, const DetectorConfig& config)
    : Detector((check_detects(graph), config), canvas_for(graph, config.image_size),
               Engine(graph, {.batch = config.batch,
                              .height = config.image_size,
                              .width = canvas_for(graph, config.image_size).width,
                              .precision = config.precision,
                              .float_images = false,
                              .simulate = config.simulate,
                              .device = config.device})) {}

Detector::Detector(const DetectorConfig& config, const data::LetterboxOptions& canvas,
                   Engine engine)
    : config_(config),
      canvas_(canvas),
      engine_(std::move(engine)),
      input_(Shape{config.batch, canvas_.height, canvas_.width, 3}, DType::kU8, config.device) {}

Detector Detector::sibling(const kernels::NmsOptions& nms) const {
  Detector other = sibling();
  other.config_.nms = nms;
  return other;
}

Detector Detector::sibling() const { return Detector(config_, canvas_, engine_.sibling()); }

std::vector<kernels::Detection> Detector::run(const data::Image& image) {
  const data::Image* const one = &image;
  return std::move(run(std::span(&one, 1)).front());
}

std::vector<std::vector<kernels::Detection>> Detector::run(
    std::span<const data::Image* const> images) {
  check(std::ssize(images) <= config_.batch, "Detector: {} images at a time, made for {}",
        images.size(), config_.batch);
  auto clock = std::chrono::steady_clock::now();
  std::vector<data::LetterboxGeometry> geometries;
  for (const data::Image* image : images)
    geometries.push_back(data::letterbox_geometry(image->width, image->height, canvas_));
  letterbox(images, geometries);
  finish();
  times_.preprocess += seconds_since(clock);

  const Tensor predictions = engine_.run_on_device(input_);
  finish();
  times_.inference += seconds_since(clock);

  auto found = suppress(predictions, std::ssize(images));
  for (size_t i = 0; i < images.size(); ++i) {
    for (auto& d : found[i]) {
      const data::Box box = data::clip_box(geometries[i].to_image({d.x1, d.y1, d.x2, d.y2}),
                                           images[i]->width, images[i]->height);
      d.x1 = box[0];
      d.y1 = box[1];
      d.x2 = box[2];
      d.y2 = box[3];
    }
    // A network whose outputs overflow reports no detections instead of arbitrary ones.
    std::erase_if(found[i], [&](const kernels::Detection& d) {
      const auto c = static_cast<size_t>(d.class_id);
      if (c < config_.class_conf.size() && d.score < config_.class_conf[c]) return true;
      return !std::isfinite(d.x1 + d.y1 + d.x2 + d.y2) || !std::isfinite(d.score);
    });
  }
  times_.postprocess += seconds_since(clock);
  times_.images += std::ssize(images);
  return found;
}

void Detector::letterbox(std::span<const data::Image* const> images,
                         std::span<const data::LetterboxGeometry> geometries) {
  if (config_.device == Device::kCpu) {
    const int64_t bytes = input_.numel() / input_.dim(0);
    for (size_t i = 0; i < images.size(); ++i)
      data::letterbox_into(*images[i], geometries[i], canvas_.pad,
                           input_.data<uint8_t>() + static_cast<int64_t>(i) * bytes);
    return;
  }
  std::vector<Tensor> pixels;  // alive until the kernel is queued
  std::vector<kernels::LetterboxImage> placed;
  for (size_t i = 0; i < images.size(); ++i) {
    pixels.push_back(device_bytes(std::span<const uint8_t>(images[i]->pixels)));
    placed.push_back({.pixels = pixels.back().data<uint8_t>(),
                      .width = images[i]->width,
                      .height = images[i]->height,
                      .resized_width = geometries[i].resized_width,
                      .resized_height = geometries[i].resized_height,
                      .left = geometries[i].left,
                      .top = geometries[i].top});
  }
  const Tensor list = device_bytes(std::span<const kernels::LetterboxImage>(placed));
  kernels::backend(config_.device)
      .letterbox({.images = static_cast<const kernels::LetterboxImage*>(list.raw()),
                  .batch = std::ssize(images),
                  .width = canvas_.width,
                  .height = canvas_.height,
                  .pad = canvas_.pad,
                  .bytes = input_.data<uint8_t>()});
}

std::vector<std::vector<kernels::Detection>> Detector::suppress(const Tensor& predictions,
                                                                int64_t images) const {
  constexpr auto kSize = static_cast<int64_t>(sizeof(kernels::Detection));
  const int64_t most = std::max<int64_t>(config_.nms.max_det, 1);
  const Tensor places(Shape{images * most * kSize}, DType::kU8, config_.device);
  const Tensor count(Shape{images}, DType::kI32, config_.device);
  kernels::backend(config_.device)
      .non_max_suppression({.predictions = predictions.f32(),
                            .batch = images,
                            .anchors = predictions.dim(1),
                            .classes = predictions.dim(2) - 5,
                            .options = config_.nms,
                            .out = static_cast<kernels::Detection*>(places.raw()),
                            .count = count.data<int32_t>()});
  const Tensor found = places.to(Device::kCpu), counts = count.to(Device::kCpu);
  std::vector<std::vector<kernels::Detection>> out;
  for (int64_t i = 0; i < images; ++i) {
    const auto* first =
        static_cast<const kernels::Detection*>(found.raw()) + i * config_.nms.max_det;
    out.emplace_back(first, first + counts.data<int32_t>()[i]);
  }
  return out;
}

void Detector::finish() const {
  if (config_.device == Device::kCuda) accelerator().synchronize(compute_stream());
}

void Detector::warm_up() {
  input_.fill_zero();
  engine_.run_on_device(input_);
  finish();
}

}  // namespace sextant::deploy
