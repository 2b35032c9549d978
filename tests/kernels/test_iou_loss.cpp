#include <cmath>

#include "core/config.h"
#include "kernels/iou_loss.h"
#include "support/support.h"

using namespace sextant;
using namespace sextant::kernels;
using namespace sextant::test;

namespace {

constexpr IouType kTypes[] = {IouType::kIoU, IouType::kGIoU, IouType::kDIoU, IouType::kCIoU,
                              IouType::kSIoU};

template <class T>
struct Result {
  std::vector<T> loss;
  std::vector<T> grad;
};

template <class T>
Result<T> run(const std::vector<T>& pred, const std::vector<T>& target, IouType type, double eps,
              bool xywh = false) {
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
  cpu::iou_loss(p);
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
  for (const IouType type : kTypes)
    for (const char* eps : {"1e-07", "1e-10"}) {
      const std::string name = std::string("losses/iouloss_") + name_of(type) + "_eps" + eps;
      CAPTURE(name);
      SEXTANT_REQUIRE_FIXTURE(f, name);
      const auto pred = values<double>(f.at("input.pred"));
      const auto target = values<double>(f.at("input.target"));
      const auto scale = values<double>(f.at("grad_output"));
      const auto loss = values<double>(f.at("output.loss"));
      const auto grad = values<double>(f.at("grad.pred"));
      const auto r = run(pred, target, type, std::stod(eps));
      for (size_t i = 0; i < loss.size(); ++i) REQUIRE(far(r.loss[i], loss[i]) < 1e-6);
      for (size_t i = 0; i < grad.size(); ++i)
        REQUIRE(far(r.grad[i] * scale[i / 4], grad[i]) < 1e-6);
      const auto single = run(values<float>(f.at("input.pred")),
                              values<float>(f.at("input.target")), type, std::stod(eps));
      for (size_t i = 0; i < loss.size(); ++i)
        REQUIRE(far(static_cast<double>(single.loss[i]), loss[i]) < 2e-5);
    }
}

TEST_CASE("box losses match the official ones on edge cases and are finite where those are not") {
  for (const IouType type : kTypes)
    for (const char* eps : {"1e-07", "1e-10"}) {
      const std::string name = std::string("losses/iouloss_") + name_of(type) + "_eps" + eps;
      SEXTANT_REQUIRE_FIXTURE(f, name);
      const auto rows = Json::parse(f.meta("edge_rows")).get<std::vector<std::string>>();
      const auto loss = values<double>(f.at("output.edge64.loss"));
      const auto grad = values<double>(f.at("grad.edge64.pred"));
      const auto r = run(values<double>(f.at("input.edge.pred")),
                         values<double>(f.at("input.edge.target")), type, std::stod(eps));
      const auto single = run(values<float>(f.at("input.edge.pred")),
                              values<float>(f.at("input.edge.target")), type, std::stod(eps));
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
  SEXTANT_REQUIRE_FIXTURE(f, "losses/iouloss_xywh");
  for (const IouType type : kTypes) {
    const std::string t = name_of(type);
    const auto r = run(values<double>(f.at(t + ".input.pred")),
                       values<double>(f.at(t + ".input.target")), type, 1e-7, true);
    const auto scale = values<double>(f.at(t + ".grad_output"));
    const auto loss = values<double>(f.at(t + ".output.loss"));
    const auto grad = values<double>(f.at(t + ".grad.pred"));
    for (size_t i = 0; i < loss.size(); ++i) REQUIRE(far(r.loss[i], loss[i]) < 1e-6);
    for (size_t i = 0; i < grad.size(); ++i) REQUIRE(far(r.grad[i] * scale[i / 4], grad[i]) < 1e-6);
  }
}

TEST_CASE("box loss gradients are those of the losses") {
  // ciou is looked at by itself below: it holds a part of its value constant.
  Rng rng(11);
  for (const IouType type : {IouType::kIoU, IouType::kGIoU, IouType::kDIoU, IouType::kSIoU})
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

TEST_CASE("box losses are finite on boxes without size, for both precisions") {
  const std::vector<float> pred(kEdgePred.begin(), kEdgePred.end());
  const std::vector<float> target(kEdgeTarget.begin(), kEdgeTarget.end());
  REQUIRE(pred.size() == target.size());
  for (const IouType type : kTypes)
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
  for (const IouType type : kTypes) REQUIRE(iou_type_from_name(name_of(type)) == type);
  REQUIRE(test::error_of([] { iou_type_from_name("eiou"); }).find("eiou") != std::string::npos);
}
