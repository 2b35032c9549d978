// SPDX-License-Identifier: Apache-2.0
// The detection loss on the device of the SIMT runner, against the CPU's and the official one.
#include <cstring>

#include "models/loss/loss_fixture.h"
#include "simt/accelerator.h"

namespace sextant::test {
namespace {

// |a - b| relative to the largest of b, which may be 0 throughout.
double error_of_gradient(const Tensor& a, const Tensor& b) {
  const double largest = max_difference(b, Tensor::zeros(b.shape()));
  return largest == 0.0 ? max_difference(a, b) : max_difference(a, b) / largest;
}

void require_same_choices(const LossSample& host, const LossSample& device, bool aided) {
  using namespace loss_detail;
  const Branch b = branch_of(host, aided), on = branch_of(device, aided);
  const GroundTruth truth = read_targets(host.targets, b.batch, host.config.num_classes,
                                         host.step.image_h, host.step.image_w);
  const Assignment want = assign_boxes(host.config, b, placed_boxes(truth, b.batch).view);
  // With room for more, as recorded steps have it.
  const PlacedBoxes there = placed_boxes(truth, b.batch, Device::kCuda, truth.count() + 5);
  const Assignment got = assign_boxes(host.config, on, there.view);
  const Tensor box = got.box.to(Device::kCpu), target = got.target.to(Device::kCpu);
  int64_t different = 0;
  double worst = 0;
  for (int64_t i = 0; i < box.numel(); ++i) {
    different += box.data<int32_t>()[i] != want.box.data<int32_t>()[i] ? 1 : 0;
    worst = std::max(worst, std::abs(target.data<double>()[i] - want.target.data<double>()[i]));
  }
  CHECK(different == 0);
  CHECK(worst < 1e-9);
}

// The loss, its items, and its gradients times `factor`; returns the items.
LossItems require_equal_on_device(const LossSample& sample, float factor = 1.0f) {
  const LossSample host = sample.on(Device::kCpu), device = sample.on(Device::kCuda);
  require_same_choices(host, device, false);
  if (!host.input.cls_logits_ab.empty()) require_same_choices(host, device, true);
  const LossResult want = host.run(), got = device.run();
  CHECK(got.loss.data().device() == Device::kCuda);
  CHECK(got.loss.data().item() == Approx(want.loss.data().item()).epsilon(1e-6));
  const LossItems a = got.items(), b = want.items();
  for (const auto part : {&LossItems::iou, &LossItems::dfl, &LossItems::cls, &LossItems::objectness,
                          &LossItems::cwd, &LossItems::target_score, &LossItems::target_score_ab})
    CHECK(a.*part == Approx(b.*part).epsilon(1e-6).margin(1e-12));
  CHECK(a.positives == b.positives);
  CHECK(a.positives_ab == b.positives_ab);
  backward({{want.loss, Tensor::full({1}, factor)}});
  backward({{got.loss, Tensor::full({1}, factor, Device::kCuda)}});
  const std::vector<Variable> inputs = host.inputs(), on_device = device.inputs();
  for (size_t i = 0; i < inputs.size(); ++i) {
    CAPTURE(i);
    CHECK(error_of_gradient(on_device[i].grad().to(Device::kCpu), inputs[i].grad()) < 1e-5);
  }
  return b;
}

// The first image of a batch alone.
LossSample first_image(const LossSample& s) {
  LossSample one = s;
  const auto first = [](const Tensor& t) {
    const Tensor out({1, t.dim(1), t.dim(2), t.dim(3)});
    std::copy_n(t.f32(), out.numel(), out.f32());
    return out;
  };
  for (auto* maps : {&one.input.cls_logits, &one.input.reg})
    for (Variable& v : *maps) v = Variable(first(v.data()), true);
  std::vector<float> rows;
  for (int64_t r = 0; r < s.targets.dim(0); ++r)
    if (s.targets.f32()[6 * r] == 0.0f)
      rows.insert(rows.end(), s.targets.f32() + 6 * r, s.targets.f32() + 6 * r + 6);
  one.targets = Tensor::from({static_cast<int64_t>(rows.size() / 6), 6}, rows);
  return one;
}

TEST_CASE("detection loss on the device: every part of it") {
  for (const LossKind& kind : kLossKinds) {
    CAPTURE(kind.name);
    const TestDevice device(3);
    if (!device.usable()) return;
    const LossSample s = sample_of(kind, 77);
    const LossItems items = require_equal_on_device(s, 4.0f);
    CHECK((items.positives > 0) == (kind.boxes > 0));
    CHECK((items.cwd > 0) == kind.features);
  }
}

TEST_CASE(
    "detection loss on the device: class losses, IoU types, assigners, with and without DFL") {
  for (int i = 0; i <= static_cast<int>(kernels::IouType::kAlphaCIoU); ++i) {
    const TestDevice device(static_cast<uint64_t>(i) + 1);
    if (!device.usable()) return;
    LossKind kind{"", i / 2 % 2 == 0 ? 0 : 16};
    kind.iou = static_cast<kernels::IouType>(i);
    kind.cls = static_cast<kernels::ClassLossType>(i % 4);
    kind.assigner = i % 2 == 0 ? Assigner::kTaskAligned : Assigner::kAtss;
    CAPTURE(name_of(kind.iou), name_of(kind.cls), kind.reg_max);
    CHECK(require_equal_on_device(sample_of(kind, 5)).positives > 0);
  }
}

TEST_CASE("detection loss on the device: one class, one image, no boxes") {
  const TestDevice device;
  if (!device.usable()) return;
  LossSample s = random_loss_sample(11, 16, 1);
  add_teacher(s, 12);
  CHECK(require_equal_on_device(s).positives > 0);
  const LossItems one = require_equal_on_device(first_image(random_loss_sample(13, 16, 3)));
  CHECK(one.positives > 0);
  for (const Assigner assigner : {Assigner::kTaskAligned, Assigner::kAtss}) {
    LossSample none = random_loss_sample(14, 4, 17);
    none.config.assigner = assigner;
    none.targets = Tensor();
    CHECK(require_equal_on_device(none).positives == 0);
  }
}

TEST_CASE("detection loss on the device matches the official one") {
  const TestDevice device;
  if (!device.usable()) return;
  for (const char* name : {"losses/compute_loss_rm16_giou_tal", "losses/compute_loss_rm0_siou_atss",
                           "losses/compute_loss_p6_rm16_giou_atss"}) {
    CAPTURE(name);
    SEXTANT_REQUIRE_FIXTURE(f, name);
    LossSample s = fixture_loss_sample(f);
    set_predictions(s, f);
    require_equal(s.on(Device::kCuda), f, "output.loss_items_iou_dfl_cls", kParts);
  }
  SEXTANT_REQUIRE_FIXTURE(f, "losses/distill_T20_e7_feat");
  LossSample s = fixture_loss_sample(f);
  set_predictions(s, f);
  set_teacher(s, f);
  require_equal(s.on(Device::kCuda), f, "output.loss_items_iou_dfl_cls_cwd", kPartsWithCwd);
}

#if defined(SEXTANT_SIMT)
TEST_CASE("detection loss does not wait for the device until its items are requested") {
  const TestDevice device;
  if (!device.usable()) return;
  const LossSample s = sample_of(kLossKinds[6], 8).on(Device::kCuda);
  const DetectionLoss loss(s.config);
  std::vector<LossValues> values;
  const int64_t before = device.host_waits();
  for (int step = 0; step < 5; ++step) {
    const LossResult r = loss(s.input, s.targets, s.step, &s.teacher);
    backward(r.loss);
    values.push_back(r.values);
  }
  CHECK(device.host_waits() == before);
  for (const LossValues& v : values) CHECK(v.items().total() == values[0].items().total());
  CHECK(device.host_waits() == before + 5);
  // From here on mailboxes are used again, without a wait as their letters were read.
  values.clear();
  for (int step = 0; step < 6; ++step) {
    const int64_t waits = device.host_waits();
    const LossResult r = loss(s.input, s.targets, s.step, &s.teacher);
    CHECK(device.host_waits() == waits);
    CHECK(r.items().total() > 0);
  }
}
#endif

TEST_CASE("detection loss refuses maps of two devices") {
  const TestDevice device;
  if (!device.usable()) return;
  LossSample s = sample_of(kLossKinds[6], 8).on(Device::kCuda);
  s.input.reg[1] = Variable(s.input.reg[1].data().to(Device::kCpu), true);
  CHECK(error_of([&] { s.run(); }) ==
        "detection loss: distance map of level 1 is on cpu, the class maps are on cuda");
  s = sample_of(kLossKinds[6], 8).on(Device::kCuda);
  s.teacher.cls_logits[2] = s.teacher.cls_logits[2].to(Device::kCpu);
  CHECK(error_of([&] { s.run(); }) ==
        "detection loss: class map of level 2 is on cpu of the teacher, on cuda of the student");
  s = sample_of(kLossKinds[6], 8).on(Device::kCuda);
  s.targets = s.targets.to(Device::kCuda);
  CHECK_THAT(error_of([&] { s.run(); }), Contains("on cuda, expected F32 [M,6] on cpu"));
}

}  // namespace
}  // namespace sextant::test
