#include "apps/detector.h"

#include <chrono>

namespace sextant::apps {
namespace {

double seconds_since(std::chrono::steady_clock::time_point& from) {
  const auto now = std::chrono::steady_clock::now();
  const double s = std::chrono::duration<double>(now - from).count();
  from = now;
  return s;
}

}  // namespace

Detector::Detector(const deploy::Graph& graph, const DetectorConfig& config)
    : config_(config),
      letterbox_{config.image_size, config.image_size, true, 114,
                 static_cast<int>(graph.gray_border)},
      engine_(graph, {.batch = 1,
                      .height = config.image_size,
                      .width = config.image_size,
                      .precision = config.precision,
                      .float_images = false,
                      .simulate = config.simulate}),
      input_(Shape{1, config.image_size, config.image_size, 3}, DType::kU8) {
  check(graph.nodes.back().kind == deploy::NodeKind::kDecode,
        "{}: is no detector, it has no decode node",
        graph.source.empty() ? "the model" : graph.source);
}

std::vector<kernels::Detection> Detector::run(const data::Image& image) {
  auto clock = std::chrono::steady_clock::now();
  const auto geometry = data::letterbox_geometry(image.width, image.height, letterbox_);
  data::letterbox_into(image, geometry, letterbox_.pad, input_.data<uint8_t>());
  times_.preprocess += seconds_since(clock);

  const Tensor pred = engine_.run(input_);
  times_.inference += seconds_since(clock);

  auto found = kernels::cpu::non_max_suppression({pred.f32(), 1, pred.dim(1), pred.dim(2) - 5},
                                                 config_.nms)[0];
  for (auto& d : found) {
    const data::Box box =
        data::clip_box(geometry.to_image({d.x1, d.y1, d.x2, d.y2}), image.width, image.height);
    d.x1 = box[0];
    d.y1 = box[1];
    d.x2 = box[2];
    d.y2 = box[3];
  }
  times_.postprocess += seconds_since(clock);
  ++times_.images;
  return found;
}

void Detector::warm_up() {
  input_.fill_zero();
  engine_.run(input_);
}

}  // namespace sextant::apps
