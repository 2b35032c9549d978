// SPDX-License-Identifier: Apache-2.0
#include <cmath>

#include "core/config.h"
#include "kernels/backend.h"
#include "support/fixture_folder.h"

using namespace sextant;
using namespace sextant::kernels;
using namespace sextant::test;

namespace {

constexpr IouType kIouTypes[] = {IouType::kIoU, IouType::kGIoU, IouType::kDIoU, IouType::kCIoU,
                                 IouType::kSIoU};
constexpr IouType kAlphaTypes[] = {IouType::kAlphaIoU, IouType::kAlphaGIoU, IouType::kAlphaDIoU,
                                   IouType::kAlphaCIoU};

template <class T>
struct Result {
  std::vector<T> loss;
  std::vector<T> grad;
};

template <class T>
Result<T> run(const std::vector<T>& pred, const std::vector<T>& target, IouType type, double eps,
              bool xywh = false, double alpha = 3.0) {
  Result<T> r;
  const int64_t rows = static_cast<int64_t>(pred.size()) / 4;
  r.loss.resize(rows);
  r.grad.resize(4 * rows);
  IouLoss<T> p;
  p.pred = pred.data();
  p.target = target.data();
  p.loss = r.loss.data();
  p.grad = r.grad.data();
  p.rows = rows;
  p.type = type;
  p.eps = eps;
  p.xywh = xywh;
  p.alpha = alpha;
  backend(Device::kCpu).iou_loss(p);
  return r;
}

template <class T>
std::vector<T> values(const Tensor& t) {
  const auto s = t.span<float>();
  return {s.begin(), s.end()};
}

double far(double a, double b) { return std::abs(a - b) / std::max(1.0, std::abs(b)); }

// The boxes of the official edge cases: equal, apart, touching, nested, without size, inverted.
const std::vector<double> kEdgePred = {
    1, 1, 4, 5, 0, 0, 1, 1, 0, 0, 2, 2, 2, 2, 3, 3, 0, 0, 9, 9, 2,    2,    2,    6,    2,   2,
    6, 2, 3, 3, 3, 3, 3, 3, 3, 3, 2, 0, 2, 4, 5, 5, 2, 2, 0, 0, 1e-3, 1e-3, -1e4, -1e4, 1e4, 1e4};
const std::vector<double> kEdgeTarget = {1, 1, 4, 5, 5, 5, 7, 8, 2, 0, 4,    2,    0, 0, 9, 9, 2, 2,
                                         3, 3, 1, 1, 5, 5, 1, 1, 5, 5, 1,    1,    5, 5, 3, 3, 3, 3,
                                         2, 0, 2, 4, 1, 1, 6, 6, 0, 0, 1e-3, 1e-3, 0, 0, 3, 3};

}  // namespace

TEST_CASE("box losses match the official ones") {
  for (const std::string& name : fixtures_of(kLossFixtures, "iouloss_")) {
    CAPTURE(name);
    SEXTANT_REQUIRE_FIXTURE(f, name);
    const IouType type = from_name<IouType>(f.meta("iou_type"));
    const double eps = std::stod(f.meta("eps"));
    const auto pred = values<double>(f.at("input.pred"));
    const auto target = values<double>(f.at("input.target"));
    const auto scale = values<double>(f.at("grad_output"));
    const auto loss = values<double>(f.at("output.loss"));
    const auto grad = values<double>(f.at("grad.pred"));
    const auto r = run(pred, target, type, eps);
    for (size_t i = 0; i < loss.size(); ++i) REQUIRE(far(r.loss[i], loss[i]) < 1e-6);
    for (size_t i = 0; i < grad.size(); ++i) REQUIRE(far(r.grad[i] * scale[i / 4], grad[i]) < 1e-6);
    const auto single =
        run(values<float>(f.at("input.pred")), values<float>(f.at("input.target")), type, eps);
    for (size_t i = 0; i < loss.size(); ++i)
      REQUIRE(far(static_cast<double>(single.loss[i]), loss[i]) < 2e-5);
  }
}

TEST_CASE("box losses match the official ones on edge cases and are finite where those are not") {
  for (const std::string& name : fixtures_of(kLossFixtures, "iouloss_")) {
    SEXTANT_REQUIRE_FIXTURE(f, name);
    const IouType type = from_name<IouType>(f.meta("iou_type"));
    const double eps = std::stod(f.meta("eps"));
    const auto rows = Json::parse(f.meta("edge_rows")).get<std::vector<std::string>>();
    const auto loss = values<double>(f.at("output.edge64.loss"));
    const auto grad = values<double>(f.at("grad.edge64.pred"));
    const auto r = run(values<double>(f.at("input.edge.pred")),
                       values<double>(f.at("input.edge.target")), type, eps);
    const auto single = run(values<float>(f.at("input.edge.pred")),
                            values<float>(f.at("input.edge.target")), type, eps);
    for (size_t i = 0; i < rows.size(); ++i) {
      CAPTURE(name, rows[i]);
      REQUIRE(std::isfinite(r.loss[i]));
      REQUIRE(std::isfinite(single.loss[i]));
      if (std::isfinite(loss[i])) REQUIRE(far(r.loss[i], loss[i]) < 1e-6);
      for (size_t k = 4 * i; k < 4 * i + 4; ++k) {
        CAPTURE(k % 4, r.grad[k], grad[k]);
        REQUIRE(std::isfinite(r.grad[k]));
        REQUIRE(std::isfinite(single.grad[k]));
        if (std::isfinite(grad[k])) REQUIRE(far(r.grad[k], grad[k]) < 1e-5);
      }
    }
  }
}

TEST_CASE("box losses in centre form match the official ones") {
  for (const std::string& name : fixtures_of(kLossFixtures, "iouloss_xywh")) {
    SEXTANT_REQUIRE_FIXTURE(f, name);
    for (const std::string& t : parts_of_names(f, "", ".input.pred")) {
      const IouType type = from_name<IouType>(t);
      const auto r =
          run(values<double>(f.at(t + ".input.pred")), values<double>(f.at(t + ".input.target")),
              type, std::stod(f.meta("eps")), true);
      const auto scale = values<double>(f.at(t + ".grad_output"));
      const auto loss = values<double>(f.at(t + ".output.loss"));
      const auto grad = values<double>(f.at(t + ".grad.pred"));
      for (size_t i = 0; i < loss.size(); ++i) REQUIRE(far(r.loss[i], loss[i]) < 1e-6);
      for (size_t i = 0; i < grad.size(); ++i)
        REQUIRE(far(r.grad[i] * scale[i / 4], grad[i]) < 1e-6);
    }
  }
}

TEST_CASE("box loss gradients are those of the losses") {
  // ciou is checked separately below: it holds a part of its value constant.
  Rng rng(11);
  for (const IouType type : {IouType::kIoU, IouType::kGIoU, IouType::kDIoU, IouType::kSIoU,
                             IouType::kAlphaIoU, IouType::kAlphaGIoU, IouType::kAlphaDIoU})
    for (const bool xywh : {false, true}) {
      std::vector<double> pred, target;
      for (int r = 0; r < 40; ++r)
        for (std::vector<double>* v : {&pred, &target}) {
          const double x = rng.uniform(0, 6), y = rng.uniform(0, 6);
          const double w = rng.uniform(1, 6), h = rng.uniform(1, 6);
          if (xywh)
            v->insert(v->end(), {x, y, w, h});
          else
            v->insert(v->end(), {x, y, x + w, y + h});
        }
      const auto r = run(pred, target, type, 1e-10, xywh);
      for (size_t i = 0; i < pred.size(); ++i) {
        const double x = pred[i], step = 1e-6;
        pred[i] = x + step;
        const double up = run(pred, target, type, 1e-10, xywh).loss[i / 4];
        pred[i] = x - step;
        const double down = run(pred, target, type, 1e-10, xywh).loss[i / 4];
        pred[i] = x;
        REQUIRE(far(r.grad[i], (up - down) / (2 * step)) < 1e-7);
      }
    }
}

TEST_CASE("the ciou gradient holds the trade-off weight constant") {
  const std::vector<double> pred = {1, 1, 4, 3}, target = {2, 0, 5, 6};
  const double w = 3, h = 2, w2 = 3, h2 = 6;
  const auto diou = run(pred, target, IouType::kDIoU, 1e-10);
  const auto ciou = run(pred, target, IouType::kCIoU, 1e-10);
  const auto iou = run(pred, target, IouType::kIoU, 1e-10);
  const double pi = std::acos(-1.0);
  const double gap = std::atan(w2 / h2) - std::atan(w / h);
  const double v = 4 / (pi * pi) * gap * gap;
  const double a = v / (v + iou.loss[0]);
  REQUIRE(ciou.loss[0] - diou.loss[0] == Approx(a * v));
  const double slope = -8 / (pi * pi) * gap / (w * w + h * h);  // d v = slope (h dw - w dh)
  const double expected[4] = {-a * slope * h, a * slope * w, a * slope * h, -a * slope * w};
  for (int i = 0; i < 4; ++i) REQUIRE(ciou.grad[i] - diou.grad[i] == Approx(expected[i]));
}

TEST_CASE("box losses of known boxes") {
  const std::vector<double> pred = {0, 0, 2, 2}, target = {1, 1, 3, 3};
  REQUIRE(run(pred, target, IouType::kIoU, 0).loss[0] == Approx(1 - 1.0 / 7));
  REQUIRE(run(pred, target, IouType::kGIoU, 0).loss[0] == Approx(1 - 1.0 / 7 + 2.0 / 9));
  REQUIRE(run(pred, target, IouType::kDIoU, 0).loss[0] == Approx(1 - 1.0 / 7 + 2.0 / 18));
  REQUIRE(run(pred, target, IouType::kCIoU, 0).loss[0] == Approx(1 - 1.0 / 7 + 2.0 / 18));
  // siou: centres apart by (1,1): angle cost 1, so each distance term is 1 - exp(-1/9).
  REQUIRE(run(pred, target, IouType::kSIoU, 0).loss[0] ==
          Approx(1 - 1.0 / 7 + (1 - std::exp(-1.0 / 9))));
}

TEST_CASE("alpha box losses raise every term to a power") {
  Rng rng(12);
  std::vector<double> pred, target;
  for (int r = 0; r < 40; ++r)
    for (std::vector<double>* v : {&pred, &target}) {
      const double x = rng.uniform(0, 6), y = rng.uniform(0, 6);
      v->insert(v->end(), {x, y, x + rng.uniform(1, 6), y + rng.uniform(1, 6)});
    }
  const auto iou = run(pred, target, IouType::kIoU, 0).loss;
  for (size_t t = 0; t < std::size(kAlphaTypes); ++t) {
    const auto plain = run(pred, target, kIouTypes[t], 0);
    const auto one = run(pred, target, kAlphaTypes[t], 0, false, 1.0);
    for (size_t i = 0; i < one.loss.size(); ++i) REQUIRE(one.loss[i] == Approx(plain.loss[i]));
    for (size_t i = 0; i < one.grad.size(); ++i) REQUIRE(far(one.grad[i], plain.grad[i]) < 1e-12);
    if (kIouTypes[t] == IouType::kCIoU) continue;  // two terms; its gradient at 1 is above
    const auto cubed = run(pred, target, kAlphaTypes[t], 0);
    for (size_t i = 0; i < cubed.loss.size(); ++i) {
      const double u = 1 - iou[i], penalty = plain.loss[i] - iou[i];
      REQUIRE(cubed.loss[i] == Approx(1 - u * u * u + std::pow(penalty, 3)));
    }
  }
  // ciou: its three terms apart.
  const auto diou = run(pred, target, IouType::kDIoU, 0).loss;
  const auto ciou = run(pred, target, IouType::kCIoU, 0).loss;
  const auto cubed = run(pred, target, IouType::kAlphaCIoU, 0).loss;
  for (size_t i = 0; i < cubed.size(); ++i)
    REQUIRE(cubed[i] == Approx(1 - std::pow(1 - iou[i], 3) + std::pow(diou[i] - iou[i], 3) +
                               std::pow(ciou[i] - diou[i], 3)));
}

TEST_CASE("box losses are finite on boxes without size, for both precisions") {
  const std::vector<float> pred(kEdgePred.begin(), kEdgePred.end());
  const std::vector<float> target(kEdgeTarget.begin(), kEdgeTarget.end());
  REQUIRE(pred.size() == target.size());
  std::vector<IouType> types(std::begin(kIouTypes), std::end(kIouTypes));
  types.insert(types.end(), std::begin(kAlphaTypes), std::end(kAlphaTypes));
  for (const IouType type : types)
    for (const double eps : {1e-7, 1e-10}) {
      CAPTURE(name_of(type), eps);
      const auto d = run(kEdgePred, kEdgeTarget, type, eps);
      const auto s = run(pred, target, type, eps);
      for (size_t i = 0; i < d.loss.size(); ++i) {
        CAPTURE(i);
        REQUIRE(std::isfinite(d.loss[i]));
        REQUIRE(std::isfinite(s.loss[i]));
      }
      for (size_t i = 0; i < d.grad.size(); ++i) {
        CAPTURE(i);
        REQUIRE(std::isfinite(d.grad[i]));
        REQUIRE(std::isfinite(s.grad[i]));
      }
      REQUIRE(std::abs(d.loss[0]) < 1e-5);  // equal boxes
      REQUIRE(std::abs(s.loss[0]) < 1e-5f);
    }
}

TEST_CASE("iou types have names") {
  for (const IouType type : kIouTypes) REQUIRE(from_name<IouType>(name_of(type)) == type);
  for (const IouType type : kAlphaTypes) REQUIRE(from_name<IouType>(name_of(type)) == type);
  REQUIRE(test::error_of([] { from_name<IouType>("eiou"); }).find("eiou") != std::string::npos);
}
