// SPDX-License-Identifier: Apache-2.0
// Precision, recall, AP and the confusion matrix against the official metrics.py.
#include "data/metrics/detection_metrics.h"
#include "support/fixtures.h"

using namespace sextant;
using namespace sextant::data;
using sextant::test::number_at;

namespace {

CocoBox corners(const Tensor& t, int64_t at) {
  return CocoBox::from_corners(number_at(t, at), number_at(t, at + 1), number_at(t, at + 2),
                               number_at(t, at + 3));
}

}  // namespace

TEST_CASE("precision, recall and AP match the official ap_per_class") {
  for (const std::string& name : test::fixture_names("post/ap_per_class_")) {
    CAPTURE(name);
    SEXTANT_REQUIRE_FIXTURE(f, name);
    const Tensor &tp = f.at("input.tp"), &conf = f.at("input.conf");
    std::vector<MatchedDetection> detections;
    for (int64_t i = 0; i < conf.numel(); ++i) {
      MatchedDetection d{
          static_cast<int>(f.at("input.pred_cls").data<int64_t>()[i]), double{conf.f32()[i]}, {}};
      for (size_t t = 0; t < kThresholds; ++t)
        d.correct[t] = tp.data<uint8_t>()[static_cast<size_t>(i) * kThresholds + t] != 0;
      detections.push_back(d);
    }
    std::vector<int> truths;
    for (const int64_t c : f.at("input.target_cls").span<int64_t>())
      truths.push_back(static_cast<int>(c));
    const PrecisionRecall r = precision_recall(detections, truths);

    REQUIRE(static_cast<int64_t>(r.classes.size()) == f.at("output.classes").numel());
    double worst_curve = 0, worst_ap = 0, map50 = 0, map = 0;
    for (size_t c = 0; c < r.classes.size(); ++c) {
      const auto& k = r.classes[c];
      CHECK(k.class_id == f.at("output.classes").data<int64_t>()[c]);
      for (size_t i = 0; i < PrecisionRecall::kPoints; ++i) {
        const auto at = static_cast<int64_t>(c * PrecisionRecall::kPoints + i);
        for (const double d : {k.precision[i] - number_at(f.at("output.precision_curve"), at),
                               k.recall[i] - number_at(f.at("output.recall_curve"), at),
                               k.f1[i] - number_at(f.at("output.f1_curve"), at)})
          worst_curve = std::max(worst_curve, std::abs(d));
      }
      for (size_t t = 0; t < kThresholds; ++t) {
        const double ap = number_at(f.at("output.ap"), static_cast<int64_t>(c * kThresholds + t));
        worst_ap = std::max(worst_ap, std::abs(k.ap[t] - ap));
        map += k.ap[t] / static_cast<double>(kThresholds * r.classes.size());
      }
      map50 += k.ap[0] / static_cast<double>(r.classes.size());
    }
    CHECK(worst_curve < 1e-6);  // stored in f32
    CHECK(worst_ap < 1e-12);
    CHECK(static_cast<int64_t>(r.best) == f.at("output.best_f1_index").data<int64_t>()[0]);
    const double* summary = f.at("output.summary_map50_map_mp_mr_mf1").data<double>();
    CHECK(map50 == Approx(summary[0]).margin(1e-12));
    CHECK(map == Approx(summary[1]).margin(1e-12));
    CHECK(r.precision == Approx(summary[2]).margin(1e-12));
    CHECK(r.recall == Approx(summary[3]).margin(1e-12));
    CHECK(r.f1 == Approx(summary[4]).margin(1e-12));
  }
}

TEST_CASE("matching and the confusion matrix are those of the official code") {
  SEXTANT_REQUIRE_FIXTURE(f, "post/process_batch");
  const Tensor &detections = f.at("input.detections"), &labels = f.at("input.labels");
  ImageEval image;
  for (int64_t i = 0; i < detections.dim(0); ++i)
    image.detections.push_back({static_cast<int>(number_at(detections, 6 * i + 5)),
                                corners(detections, 6 * i), number_at(detections, 6 * i + 4)});
  for (int64_t i = 0; i < labels.dim(0); ++i)
    image.truths.push_back(
        {static_cast<int>(number_at(labels, 5 * i)), corners(labels, 5 * i + 1), {}, false});
  IouThresholds thresholds{};
  for (size_t t = 0; t < kThresholds; ++t)
    thresholds[t] = number_at(f.at("input.iouv"), static_cast<int64_t>(t));
  const auto matched = match_detections(image, thresholds);
  REQUIRE(static_cast<int64_t>(matched.size()) == detections.dim(0));
  const Tensor& correct = f.at("output.correct");
  int64_t wrong = 0;
  for (size_t i = 0; i < matched.size(); ++i)
    for (size_t t = 0; t < kThresholds; ++t)
      wrong += matched[i].correct[t] != (correct.data<uint8_t>()[i * kThresholds + t] != 0);
  CHECK(wrong == 0);

  const int classes = std::stoi(f.meta("num_classes"));
  ConfusionMatrix m(classes);
  m.add(image, std::stod(f.meta("conf")), std::stod(f.meta("iou_thres")));
  const Tensor& expected = f.at("output.confusion_matrix");
  REQUIRE(expected.shape() == Shape{classes + 1, classes + 1});
  for (int64_t i = 0; i < expected.numel(); ++i)
    CHECK(static_cast<double>(m.counts[static_cast<size_t>(i)]) == number_at(expected, i));
}

TEST_CASE("detections without boxes, boxes without detections, and crowds") {
  CHECK(precision_recall({}, {}).classes.empty());
  const std::vector<int> truths{2, 2};
  const PrecisionRecall none = precision_recall({{1, 0.5, {true}}}, truths);
  REQUIRE(none.classes.size() == 1);
  CHECK(none.classes[0].class_id == 2);
  CHECK(none.f1 == 0);
  ImageEval image;
  image.truths = {{0, {0, 0, 10, 10}, {}, true}, {1, {20, 20, 10, 10}, {}, false}};
  image.detections = {
      {0, {0, 0, 10, 10}, 0.9}, {1, {20, 20, 10, 10}, 0.8}, {1, {20, 20, 10, 9}, 0.7}};
  const auto matched = match_detections(image);
  CHECK(!matched[0].correct[0]);
  CHECK(matched[1].correct[9]);
  CHECK(!matched[2].correct[0]);
  ConfusionMatrix m(2);
  m.add(image);
  CHECK(m.at(1, 1) == 1);
  CHECK(m.at(0, 2) == 1);
  CHECK(m.at(1, 2) == 1);
  CHECK(m.at(2, 0) == 0);
}
