// SPDX-License-Identifier: Apache-2.0
#include <cmath>
#include <map>

#include "kernels/backend.h"
#include "support/fixture_folder.h"

using namespace sextant;
using namespace sextant::kernels;
using namespace sextant::test;

namespace {

struct DflRun {
  std::vector<double> loss, grad;
  DflRun(const std::vector<float>& logits, const std::vector<double>& target,
         const std::vector<double>& scale, int64_t reg_max)
      : loss(scale.size()), grad(logits.size()) {
    DflLoss p;
    p.logits = logits.data();
    p.target = target.data();
    p.grad_scale = scale.data();
    p.loss = loss.data();
    p.grad = grad.data();
    p.rows = static_cast<int64_t>(scale.size());
    p.reg_max = reg_max;
    backend(Device::kCpu).dfl_loss(p);
  }
};

}  // namespace

TEST_CASE("distribution focal loss matches the official one") {
  for (const std::string& name : fixtures_of(kLossFixtures, "df_loss")) {
    SEXTANT_REQUIRE_FIXTURE(f, name);
    const Tensor& logits = f.at("input.pred_dist");
    const DflRun r({logits.f32(), logits.f32() + logits.numel()}, doubles(f.at("input.target")),
                   doubles(f.at("grad_output")), std::stoll(f.meta("reg_max")));
    REQUIRE(test::max_difference(Tensor::from(f.at("output.loss").shape(), r.loss),
                                 f.at("output.loss")) < 1e-6);
    REQUIRE(test::max_difference(Tensor::from(logits.shape(), r.grad), f.at("grad.pred_dist")) <
            1e-6);
  }
}

TEST_CASE("distribution focal loss: value and gradient of a small case") {
  const int64_t reg_max = 5, rows = 6, bins = reg_max + 1;
  Rng rng(3);
  std::vector<float> logits;
  std::vector<double> target, scale;
  for (int64_t i = 0; i < rows * 4 * bins; ++i)
    logits.push_back(static_cast<float>(rng.uniform(-3, 3)));
  for (int64_t i = 0; i < rows * 4; ++i) target.push_back(rng.uniform(0, 4.99));
  target[0] = 0.0;
  target[1] = 2.0;
  target[2] = 4.99;
  for (int64_t i = 0; i < rows; ++i) scale.push_back(rng.uniform(-2, 2));
  const DflRun r(logits, target, scale, reg_max);
  for (int64_t i = 0; i < rows; ++i) {
    double want = 0;
    for (int64_t s = 4 * i; s < 4 * i + 4; ++s) {
      double sum = 0;
      for (int64_t k = 0; k < bins; ++k) sum += std::exp(static_cast<double>(logits[s * bins + k]));
      const auto left = static_cast<int64_t>(std::floor(target[s]));
      for (const int64_t k : {left, left + 1})
        want += (1 - std::abs(target[s] - static_cast<double>(k))) *
                (std::log(sum) - static_cast<double>(logits[s * bins + k])) / 4;
    }
    REQUIRE(r.loss[i] == Approx(want));
  }
  const float step = 0x1p-8f;
  for (size_t i = 0; i < logits.size(); ++i) {
    const size_t row = i / static_cast<size_t>(4 * bins);
    const float x = logits[i];
    logits[i] = x + step;
    const double up = DflRun(logits, target, scale, reg_max).loss[row];
    logits[i] = x - step;
    const double down = DflRun(logits, target, scale, reg_max).loss[row];
    const double width = static_cast<double>(x + step) - static_cast<double>(x - step);
    logits[i] = x;
    REQUIRE(std::abs(r.grad[i] - scale[row] * (up - down) / width) < 1e-5);
  }
}

TEST_CASE("distribution focal loss is finite for large logits") {
  std::vector<float> logits(4 * 17, -1e4f);
  logits[3] = 1e4f;
  const DflRun r(logits, {1.5, 0.0, 15.99, 7.0}, {1.0}, 16);
  REQUIRE(std::isfinite(r.loss[0]));
  for (const double g : r.grad) REQUIRE(std::isfinite(g));
}

TEST_CASE("expectation over a softmax") {
  const int64_t rows = 10, bins = 17;
  const Tensor logits = test::random_tensor({rows, bins}, 4, -8, 8);
  std::vector<double> prob(rows * bins), mean(rows);
  std::vector<float> mean32(rows);
  backend(Device::kCpu)
      .expectation(Expectation<double>{logits.f32(), prob.data(), mean.data(), rows, bins});
  backend(Device::kCpu)
      .expectation(Expectation<float>{logits.f32(), nullptr, mean32.data(), rows, bins});
  for (int64_t r = 0; r < rows; ++r) {
    double sum = 0, moment = 0;
    for (int64_t k = 0; k < bins; ++k) {
      const double e = std::exp(static_cast<double>(logits.f32()[r * bins + k]));
      sum += e;
      moment += e * static_cast<double>(k);
    }
    REQUIRE(mean[r] == Approx(moment / sum).epsilon(1e-12));
    REQUIRE(std::abs(static_cast<double>(mean32[r]) - moment / sum) < 1e-5);
    for (int64_t k = 0; k < bins; ++k)
      REQUIRE(prob[r * bins + k] ==
              Approx(std::exp(static_cast<double>(logits.f32()[r * bins + k])) / sum));
  }
}

TEST_CASE("distances and boxes match the official conversions") {
  for (const std::string& name : fixtures_of(kAssignerFixtures, "box_geometry")) {
    SEXTANT_REQUIRE_FIXTURE(f, name);
    const auto points = doubles(f.at("input.anchor_points"));
    const auto dist = doubles(f.at("input.distance"));
    const auto boxes = doubles(f.at("input.bbox"));
    const auto want_box = doubles(f.at("output.dist2bbox.xyxy"));
    std::map<int, Tensor> conversions;
    for (const std::string& reg_max : parts_of_names(f, "output.bbox2dist.rm", ""))
      conversions[std::stoi(reg_max)] = f.at("output.bbox2dist.rm" + reg_max);
    const size_t anchors = points.size() / 2;
    for (size_t i = 0; i < dist.size() / 4; ++i) {
      const double px = points[2 * (i % anchors)], py = points[2 * (i % anchors) + 1];
      double out[4];
      dist2bbox(px, py, &dist[4 * i], out);
      for (size_t k = 0; k < 4; ++k) REQUIRE(std::abs(out[k] - want_box[4 * i + k]) < 5e-6);
      for (const auto& [reg_max, want] : conversions) {
        bbox2dist(px, py, &boxes[4 * i], static_cast<double>(reg_max), out);
        for (size_t k = 0; k < 4; ++k)
          REQUIRE(std::abs(out[k] - static_cast<double>(want.f32()[4 * i + k])) < 2e-6);
      }
    }
  }
}

TEST_CASE("distances of a known box, clipped") {
  const float box[4] = {1, -30, 4, 2.5f};
  float dist[4];
  bbox2dist(2.0f, 3.0f, box, 16.0f, dist);
  REQUIRE(dist[0] == 1.0f);
  REQUIRE(dist[1] == Approx(15.99f));
  REQUIRE(dist[2] == 2.0f);
  REQUIRE(dist[3] == 0.0f);
}

// The two parts together, as the official BboxLoss weighs them.
TEST_CASE("box loss parts match the official BboxLoss") {
  for (const std::string& name : fixtures_of(kLossFixtures, "bboxloss_")) {
    CAPTURE(name);
    SEXTANT_REQUIRE_FIXTURE(f, name);
    const int64_t reg_max = std::stoll(f.meta("reg_max"));
    const auto points = doubles(f.at("input.anchor_points"));
    const auto target = doubles(f.at("input.target_bboxes"));
    const auto scores = doubles(f.at("input.target_scores"));
    const Tensor& logits = f.at("input.pred_dist");
    const int64_t channels = logits.dim(2), bins = channels / 4,
                  classes = f.at("input.target_scores").dim(2);
    const double sum = f.at("input.target_scores_sum").item();
    const double divisor = sum > 1 ? sum : 1;
    const uint8_t* foreground = f.at("input.fg_mask").data<uint8_t>();
    const int64_t total = logits.dim(0) * logits.dim(1);
    double loss_iou = 0, loss_dfl = 0;
    Tensor grad = Tensor::zeros(logits.shape());
    for (int64_t i = 0; i < total; ++i) {
      if (!foreground[i]) continue;
      double weight = 0;
      for (int64_t c = 0; c < classes; ++c) weight += scores[i * classes + c];
      const double px = points[2 * (i % logits.dim(1))];
      const double py = points[2 * (i % logits.dim(1)) + 1];
      const float* z = logits.f32() + i * channels;
      std::vector<double> prob(channels), mean(4), dfl_grad(channels);
      double loss, box[4], box_grad[4], dist[4];
      if (reg_max > 0)
        backend(Device::kCpu)
            .expectation(Expectation<double>{z, prob.data(), mean.data(), 4, bins});
      else
        mean.assign(z, z + 4);
      dist2bbox(px, py, mean.data(), box);
      IouLoss<double> iou;
      iou.pred = box;
      iou.target = &target[4 * i];
      iou.loss = &loss;
      iou.grad = box_grad;
      iou.rows = 1;
      iou.type = from_name<IouType>(f.meta("iou_type"));
      iou.eps = 1e-10;
      backend(Device::kCpu).iou_loss(iou);
      loss_iou += weight * loss / divisor;
      if (reg_max > 0) {
        bbox2dist(px, py, &target[4 * i], static_cast<double>(reg_max), dist);
        const double scale = 0.5 * weight / divisor;
        DflLoss d{z, dist, &scale, &loss, dfl_grad.data(), 1, reg_max};
        backend(Device::kCpu).dfl_loss(d);
        loss_dfl += weight * loss / divisor;
      }
      for (int64_t k = 0; k < channels; ++k) {
        const int64_t side = k / bins;
        const double g = (side < 2 ? -2.5 : 2.5) * weight / divisor * box_grad[side];
        grad.f32()[i * channels + k] = static_cast<float>(
            reg_max > 0 ? g * prob[k] * (static_cast<double>(k % bins) - mean[side]) + dfl_grad[k]
                        : g);
      }
    }
    REQUIRE(loss_iou == Approx(f.at("output.loss_iou").item()).epsilon(1e-6).margin(1e-9));
    REQUIRE(loss_dfl == Approx(f.at("output.loss_dfl").item()).epsilon(1e-6).margin(1e-9));
    REQUIRE(test::max_difference(grad, f.at("grad.pred_dist.of_2.5iou_plus_0.5dfl")) < 1e-6);
  }
}
