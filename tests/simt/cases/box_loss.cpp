// SPDX-License-Identifier: Apache-2.0
// Decoded boxes, rows of targets, box losses, and the final step of a loss.
#include "kernels/detection/box_loss.h"

#include <cmath>
#include <memory>

#include "kernels/detection/iou_loss.h"
#include "kernels/detection/loss_targets.h"
#include "kernels/detection/total_loss.h"
#include "simt/cases/cases.h"
#include "simt/cases/twin_processes.h"

namespace sextant::test {
namespace {

using namespace sextant::kernels;

struct MapSize {
  int64_t h, w;
  double stride;
};

struct BoxKind {
  BoxForm form;
  int64_t bins, per_cell;
  bool sized;
};

// Maps with boxes, an assignment to some of the anchors, and a teacher.
struct BoxScene {
  BoxMaps maps;
  std::vector<std::vector<float>> reg, teacher;  // a level each
  std::vector<double> gt_boxes, target;
  std::vector<int64_t> gt_begin = {0};
  std::vector<int32_t> gt_classes, assigned;

  // Every `every`th anchor has a box, in images that have any; the last image has none.
  BoxScene(const std::vector<MapSize>& sizes, int64_t batch, const BoxKind& kind, int64_t every,
           uint64_t seed) {
    Rng rng(seed);
    maps.levels = static_cast<int>(sizes.size());
    maps.batch = batch;
    maps.per_cell = kind.per_cell;
    maps.form = kind.form;
    maps.bins = kind.bins;
    maps.sized = kind.sized;
    for (size_t l = 0; l < sizes.size(); ++l) {
      BoxLevel& level = maps.level[l];
      level.height = sizes[l].h;
      level.width = sizes[l].w;
      level.stride = sizes[l].stride;
      for (auto& size : level.sizes)
        for (double& v : size) v = sizes[l].stride * rng.uniform(1, 4);
      const int64_t n = batch * sizes[l].h * sizes[l].w * kind.per_cell * 4 * kind.bins;
      const bool plain = kind.form != BoxForm::kDistribution && !kind.sized;
      reg.push_back(random_values(n, seed + 10 * l, plain ? 0.3 : -3, 3));
      teacher.push_back(random_values(n, seed + 10 * l + 1, -3, 3));
    }
    const int64_t images_with = batch > 1 ? batch - 1 : batch;
    for (int64_t n = 0; n < batch; ++n) {
      const int64_t count = n < images_with ? 1 + n : 0;
      for (int64_t g = 0; g < count; ++g) {
        const double x = rng.uniform(-8, 40), y = rng.uniform(-8, 40);
        gt_boxes.insert(gt_boxes.end(), {x, y, x + rng.uniform(4, 60), y + rng.uniform(4, 60)});
        gt_classes.push_back(static_cast<int32_t>(rng.below(7)));
      }
      gt_begin.push_back(gt_begin.back() + count);
      for (int64_t a = 0; a < maps.anchors(); ++a) {
        const bool has = count > 0 && every > 0 && (a + n) % every == 0;
        assigned.push_back(has ? static_cast<int32_t>(rng.below(count)) : -1);
        target.push_back(has ? rng.uniform(0.05, 1) : 0.0);
      }
    }
  }
  int64_t anchors() const { return maps.anchors(); }
  int64_t total() const { return maps.batch * anchors(); }
};

// Where anchor a of image n is: found by counting, not by dividing.
struct Spot {
  int level = 0;
  int64_t row = 0, first_row = 0, box = 0;  // row of the level, its first one among all
  double x = 0, y = 0;
};
std::vector<Spot> spots_of(const BoxMaps& m) {
  std::vector<Spot> spots;
  for (int64_t n = 0; n < m.batch; ++n) {
    int64_t first = 0;
    for (int l = 0; l < m.levels; ++l) {
      const int64_t h = m.level[l].height, w = m.level[l].width;
      for (int64_t b = 0; b < m.per_cell; ++b)
        for (int64_t y = 0; y < h; ++y)
          for (int64_t x = 0; x < w; ++x)
            spots.push_back({l, ((n * h + y) * w + x) * m.per_cell + b, first, b,
                             static_cast<double>(x) + 0.5, static_cast<double>(y) + 0.5});
      first += m.batch * h * w * m.per_cell;
    }
  }
  return spots;
}

// The box that the channels of an anchor say, in cells.
std::vector<double> box_reference(const BoxMaps& m, const Spot& s, const std::vector<double>& z) {
  std::vector<double> v(z.begin(), z.begin() + 4);
  if (m.form == BoxForm::kDistribution)
    for (int64_t side = 0; side < 4; ++side) {
      double sum = 0, moment = 0;
      for (int64_t k = 0; k < m.bins; ++k) {
        const double e = std::exp(z[static_cast<size_t>(side * m.bins + k)]);
        sum += e;
        moment += e * static_cast<double>(k);
      }
      v[static_cast<size_t>(side)] = moment / sum;
    }
  if (m.form != BoxForm::kCentre) return {s.x - v[0], s.y - v[1], s.x + v[2], s.y + v[3]};
  const BoxLevel& level = m.level[s.level];
  for (size_t i = 2; m.sized && i < 4; ++i)
    v[i] = std::pow(2 / (1 + std::exp(-v[i])), 2) * level.sizes[s.box][i - 2] / level.stride;
  return {s.x + v[0] - v[2] / 2, s.y + v[1] - v[3] / 2, s.x + v[0] + v[2] / 2,
          s.y + v[1] + v[3] / 2};
}

// The three terms of an anchor before weights and means, as the comment of
// kernels/detection/box_loss.h has them.
std::array<double, 3> terms_reference(const BoxLoss& p, const Spot& s, const std::vector<double>& z,
                                      const float* teacher, const double* gt) {
  const BoxMaps& m = p.maps;
  const double stride = m.level[s.level].stride;
  const std::vector<double> box = box_reference(m, s, z);
  const std::vector<double> goal = {gt[0] / stride, gt[1] / stride, gt[2] / stride, gt[3] / stride};
  std::array<double, 3> out{};
  IouLoss<double> iou;
  iou.pred = box.data();
  iou.target = goal.data();
  iou.loss = out.data();
  iou.rows = 1;
  iou.type = p.type;
  iou.eps = p.eps;
  iou.alpha = p.alpha;
  host_kernels().iou_loss(iou);
  if (m.form != BoxForm::kDistribution) return out;
  const double distance[4] = {s.x - goal[0], s.y - goal[1], goal[2] - s.x, goal[3] - s.y};
  for (int64_t side = 0; side < 4; ++side) {
    const auto at = [&](int64_t k) { return static_cast<size_t>(side * m.bins + k); };
    const double t = std::clamp(distance[side], 0.0, static_cast<double>(m.bins) - 1.01);
    double sum = 0, student = 0, taught = 0;
    for (int64_t k = 0; k < m.bins; ++k) {
      sum += std::exp(z[at(k)]);
      student += std::exp(z[at(k)] / p.temperature);
      if (teacher) taught += std::exp(static_cast<double>(teacher[at(k)]) / p.temperature);
    }
    for (int64_t k = 0; k < m.bins; ++k) {
      const double hat = std::max(0.0, 1 - std::abs(t - static_cast<double>(k)));
      out[1] -= 0.25 * hat * (z[at(k)] - std::log(sum));
      if (!teacher) continue;
      const double q = std::exp(static_cast<double>(teacher[at(k)]) / p.temperature) / taught;
      const double r = std::exp(z[at(k)] / p.temperature) / student;
      out[2] += p.temperature * p.temperature * q * std::log(q / r);
    }
  }
  return out;
}

void check_box_loss(TestGpu& gpu, const BoxScene& s, IouType type, bool with_teacher,
                    bool with_grad, int64_t offset) {
  const BoxMaps& m = s.maps;
  CAPTURE(name_of(type), m.batch, m.levels, m.per_cell, static_cast<int>(m.form), m.bins, m.sized,
          with_teacher, with_grad, s.anchors());
  BoxLoss p;
  p.maps = m;
  p.assigned = s.assigned.data();
  p.target = s.target.data();
  p.gt_boxes = s.gt_boxes.data();
  p.gt_begin = s.gt_begin.data();
  p.type = type;
  p.temperature = 4;
  p.scale[0] = 2.5;
  p.scale[1] = 0.5;
  p.scale[2] = 0.3;
  TargetScores scores{0, 0, 1};
  for (size_t i = 0; i < s.assigned.size(); ++i)
    if (s.assigned[i] >= 0) {
      scores.sum += s.target[i];
      scores.positives += 1;
    }
  scores.divisor = 1.25;  // any number: the kernel does not work it out
  p.scores = &scores;

  // By central differences of the formulas. CIoU holds a factor constant, which differences do not.
  const bool constant = type == IouType::kCIoU || type == IouType::kAlphaCIoU;
  const size_t channels = static_cast<size_t>(4 * m.bins);
  const std::vector<Spot> spots = spots_of(m);
  double sums_ref[3] = {};
  std::vector<std::vector<double>> grad_ref;
  for (const auto& level : s.reg) grad_ref.emplace_back(level.size(), 0.0);
  for (size_t i = 0; i < spots.size(); ++i) {
    if (s.assigned[i] < 0) continue;
    const Spot& spot = spots[i];
    const auto l = static_cast<size_t>(spot.level);
    const size_t from = static_cast<size_t>(spot.row) * channels;
    std::vector<double> z(s.reg[l].begin() + static_cast<int64_t>(from),
                          s.reg[l].begin() + static_cast<int64_t>(from + channels));
    const float* teacher = with_teacher ? s.teacher[l].data() + from : nullptr;
    const double* gt =
        s.gt_boxes.data() + 4 * (s.gt_begin[i / static_cast<size_t>(s.anchors())] + s.assigned[i]);
    const double share[3] = {s.target[i], s.target[i], scores.sum / scores.positives / 4};
    const std::array<double, 3> terms = terms_reference(p, spot, z, teacher, gt);
    for (int k = 0; k < 3; ++k) sums_ref[k] += share[k] * terms[static_cast<size_t>(k)];
    for (size_t c = 0; with_grad && !constant && c < channels; ++c) {
      constexpr double h = 1e-5;
      const double before = z[c];
      z[c] = before + h;
      const std::array<double, 3> up = terms_reference(p, spot, z, teacher, gt);
      z[c] = before - h;
      const std::array<double, 3> down = terms_reference(p, spot, z, teacher, gt);
      z[c] = before;
      for (size_t k = 0; k < 3; ++k)
        grad_ref[l][from + c] +=
            p.scale[k] * share[k] / scores.divisor * (up[k] - down[k]) / (2 * h);
    }
  }

  std::vector<std::vector<float>> grad_cpu;
  for (const auto& level : s.reg) grad_cpu.emplace_back(level.size(), 0.0f);
  for (size_t l = 0; l < s.reg.size(); ++l) {
    p.maps.level[l].reg = s.reg[l].data();
    p.teacher[l] = with_teacher ? s.teacher[l].data() : nullptr;
    p.grad[l] = with_grad ? grad_cpu[l].data() : nullptr;
  }
  double sums_cpu[3] = {-1, -1, -1};
  p.sums = sums_cpu;
  host_kernels().box_loss(p);

  std::vector<std::unique_ptr<DeviceArray>> reg, teacher, grad;
  for (size_t l = 0; l < s.reg.size(); ++l) {
    reg.push_back(std::make_unique<DeviceArray>(gpu, s.reg[l], offset));
    teacher.push_back(std::make_unique<DeviceArray>(gpu, s.teacher[l], offset));
    grad.push_back(
        std::make_unique<DeviceArray>(gpu, std::vector<float>(s.reg[l].size(), 0.0f), offset));
    p.maps.level[l].reg = reg[l]->data();
    p.teacher[l] = with_teacher ? teacher[l]->data() : nullptr;
    p.grad[l] = with_grad ? grad[l]->data() : nullptr;
  }
  const DeviceArrayOf<int32_t> assigned(gpu, s.assigned);
  const DeviceArrayOf<double> target(gpu, s.target), gt_boxes(gpu, s.gt_boxes),
      sums(gpu, {-1, -1, -1});
  const DeviceArrayOf<int64_t> gt_begin(gpu, s.gt_begin);
  const DeviceArrayOf<TargetScores> on_device(gpu, {scores});
  p.assigned = assigned.data();
  p.target = target.data();
  p.gt_boxes = gt_boxes.data();
  p.gt_begin = gt_begin.data();
  p.scores = on_device.data();
  p.sums = sums.data();
  start(gpu, cuda::box_loss, p);
  const std::vector<double> got = sums.values();
  for (size_t k = 0; k < 3; ++k) {
    CHECK(std::abs(got[k] - sums_ref[k]) <= 1e-10 * (1 + sums_ref[k]));
    CHECK(std::abs(got[k] - sums_cpu[k]) <= 1e-12 * (1 + sums_ref[k]));
  }
  for (size_t l = 0; l < s.reg.size(); ++l) {
    if (with_grad) {
      if (!constant) CHECK(worst_error(grad[l]->values(), grad_ref[l]) < 1e-6);
      CHECK(worst_error(grad[l]->values(), grad_cpu[l]) < 1e-6);
    } else {
      grad[l]->require_unchanged();
    }
    reg[l]->require_unchanged();
    teacher[l]->require_unchanged();
  }
  assigned.require_unchanged();
  target.require_unchanged();
  gt_boxes.require_unchanged();
  on_device.require_unchanged();
}

void check_decode_boxes(TestGpu& gpu, const BoxScene& s, int64_t offset) {
  CAPTURE(s.maps.batch, s.maps.levels, s.maps.per_cell, static_cast<int>(s.maps.form), s.maps.bins,
          s.maps.sized);
  const std::vector<Spot> spots = spots_of(s.maps);
  const size_t channels = static_cast<size_t>(4 * s.maps.bins);
  std::vector<uint8_t> wanted;
  std::vector<double> ref;
  for (size_t i = 0; i < spots.size(); ++i) {
    wanted.push_back(s.assigned[i] >= 0 ? 1 : 0);
    const auto& level = s.reg[static_cast<size_t>(spots[i].level)];
    const auto from = level.begin() + spots[i].row * static_cast<int64_t>(channels);
    const std::vector<double> box = box_reference(
        s.maps, spots[i], std::vector<double>(from, from + static_cast<int64_t>(channels)));
    for (const double v : box)
      ref.push_back(wanted[i] ? v * s.maps.level[spots[i].level].stride : -77.0);
  }
  const std::vector<double> before(4 * spots.size(), -77.0);
  std::vector<double> boxes_cpu = before;
  DecodeBoxes p{s.maps, wanted.data(), boxes_cpu.data()};
  for (size_t l = 0; l < s.reg.size(); ++l) p.maps.level[l].reg = s.reg[l].data();
  host_kernels().decode_boxes(p);
  std::vector<std::unique_ptr<DeviceArray>> reg;
  for (size_t l = 0; l < s.reg.size(); ++l) {
    reg.push_back(std::make_unique<DeviceArray>(gpu, s.reg[l], offset));
    p.maps.level[l].reg = reg[l]->data();
  }
  const DeviceArrayOf<uint8_t> flags(gpu, wanted);
  const DeviceArrayOf<double> boxes(gpu, before);
  p.wanted = flags.data();
  p.boxes = boxes.data();
  start(gpu, cuda::decode_boxes, p);
  const std::vector<double> got = boxes.values();
  double worst = 0, worst_cpu = 0;
  for (size_t i = 0; i < ref.size(); ++i) {
    worst = std::max(worst, std::abs(got[i] - ref[i]) / (1 + std::abs(ref[i])));
    worst_cpu = std::max(worst_cpu, std::abs(got[i] - boxes_cpu[i]) / (1 + std::abs(ref[i])));
  }
  CHECK(worst < 1e-12);
  CHECK(worst_cpu < 1e-12);
}

void check_target_rows(TestGpu& gpu, const BoxScene& s, double undivided, bool with_object,
                       int processes = 1) {
  CAPTURE(s.maps.batch, s.maps.levels, s.maps.per_cell, undivided, with_object);
  const std::vector<Spot> spots = spots_of(s.maps);
  const std::vector<int32_t> untouched(spots.size(), 12345);
  std::vector<int32_t> label_ref(spots.size()), object_ref(spots.size());
  std::vector<double> target_ref(spots.size());
  TargetScores ref{0, 0, 1};
  for (size_t i = 0; i < spots.size(); ++i) {
    const auto row = static_cast<size_t>(spots[i].first_row + spots[i].row);
    const int32_t g = s.assigned[i];
    const int64_t first = s.gt_begin[i / static_cast<size_t>(s.anchors())];
    label_ref[row] = g < 0 ? -1 : s.gt_classes[static_cast<size_t>(first + g)];
    object_ref[row] = g < 0 ? -1 : 0;
    target_ref[row] = s.target[i];
    ref.sum += s.target[i];
    ref.positives += g < 0 ? 0 : 1;
  }
  ref.sum *= processes;
  ref.positives *= processes;
  if (ref.sum > undivided) ref.divisor = ref.sum;
  TwinProcesses twins(gpu, processes);
  std::vector<int32_t> label_cpu = untouched, object_cpu = untouched;
  std::vector<double> target_cpu(spots.size(), -1);
  TargetScores scores_cpu{-1, -1, -1};
  LossTargets p;
  p.maps = s.maps;
  p.assigned = s.assigned.data();
  p.target = s.target.data();
  p.gt_classes = s.gt_classes.data();
  p.gt_begin = s.gt_begin.data();
  p.undivided = undivided;
  p.label = label_cpu.data();
  p.object = with_object ? object_cpu.data() : nullptr;
  p.row_target = target_cpu.data();
  p.scores = &scores_cpu;
  p.across = processes > 1 ? &twins : nullptr;
  host_kernels().loss_targets(p);

  const DeviceArrayOf<int32_t> assigned(gpu, s.assigned), classes(gpu, s.gt_classes),
      label(gpu, untouched), object(gpu, untouched);
  const DeviceArrayOf<double> target(gpu, s.target),
      row_target(gpu, std::vector<double>(spots.size(), -1));
  const DeviceArrayOf<int64_t> begin(gpu, s.gt_begin);
  const DeviceArrayOf<TargetScores> scores(gpu, {{-1, -1, -1}});
  p.assigned = assigned.data();
  p.target = target.data();
  p.gt_classes = classes.data();
  p.gt_begin = begin.data();
  p.label = label.data();
  p.object = with_object ? object.data() : nullptr;
  p.row_target = row_target.data();
  p.scores = scores.data();
  start(gpu, cuda::loss_targets, p);
  CHECK(label.values() == label_ref);
  CHECK(label_cpu == label_ref);
  CHECK(object.values() == (with_object ? object_ref : untouched));
  CHECK(object_cpu == (with_object ? object_ref : untouched));
  CHECK(row_target.values() == target_ref);
  CHECK(target_cpu == target_ref);
  for (const TargetScores& got : {scores.values()[0], scores_cpu}) {
    CHECK(std::abs(got.sum - ref.sum) <= 1e-13 * ref.sum);
    CHECK(got.positives == ref.positives);
    CHECK(std::abs(got.divisor - ref.divisor) <= 1e-13 * ref.divisor);
  }
}

void check_combine(TestGpu& gpu, int terms, int parts) {
  CAPTURE(terms, parts);
  std::vector<double> sums, divisors = {4.0, 0.125};
  for (int i = 0; i < 2 * terms + 3; ++i) sums.push_back(0.3 * i - 1);
  const DeviceArrayOf<double> on_device(gpu, sums), divisor(gpu, divisors),
      part(gpu, std::vector<double>(static_cast<size_t>(parts), std::nan("")));
  const DeviceArray loss(gpu, undefined(1));
  TotalLoss p, d;
  p.terms = d.terms = terms;
  p.parts = d.parts = parts;
  std::vector<double> ref(static_cast<size_t>(parts), 0.0);
  for (int t = 0; t < terms; ++t) {
    p.term[t] = {t * 7 % parts, t, 1 + t % 4, 0.5 + t, nullptr};
    d.term[t] = p.term[t];
    double by = 1;
    if (t % 3 > 0) {
      by = divisors[static_cast<size_t>(t % 3 - 1)];
      p.term[t].divisor = &divisors[static_cast<size_t>(t % 3 - 1)];
      d.term[t].divisor = divisor.data() + t % 3 - 1;
    }
    for (int i = 0; i < 1 + t % 4; ++i)
      ref[static_cast<size_t>(t * 7 % parts)] += (0.5 + t) * sums[static_cast<size_t>(t + i)] / by;
  }
  std::vector<double> part_cpu(static_cast<size_t>(parts), -1);
  float loss_cpu = -1;
  p.sums = sums.data();
  p.part = part_cpu.data();
  p.loss = &loss_cpu;
  host_kernels().total_loss(p);
  d.sums = on_device.data();
  d.part = part.data();
  d.loss = loss.data();
  start(gpu, cuda::total_loss, d);
  double total = 0;
  for (size_t i = 0; i < ref.size(); ++i) {
    CHECK(std::abs(part.values()[i] - ref[i]) <= 1e-12 * (1 + std::abs(ref[i])));
    CHECK(part.values()[i] == part_cpu[i]);
    total += ref[i];
  }
  CHECK(std::abs(double{loss.values()[0]} - total) <= 1e-6 * (1 + std::abs(total)));
  CHECK(loss.values()[0] == loss_cpu);
}

void check_scale_all(TestGpu& gpu, const std::vector<int64_t>& sizes, float factor,
                     int64_t offset) {
  CAPTURE(sizes.size(), factor, offset);
  ScaleGradients p;
  std::vector<std::vector<float>> before, cpu_x;
  std::vector<std::unique_ptr<DeviceArray>> x;
  for (const int64_t n : sizes) {
    before.push_back(random_values(n, 400 + before.size(), -3, 3));
    x.push_back(std::make_unique<DeviceArray>(gpu, before.back(), offset));
  }
  cpu_x = before;
  p.count = static_cast<int>(sizes.size());
  p.factor = &factor;
  for (size_t i = 0; i < sizes.size(); ++i) {
    p.x[i] = cpu_x[i].data();
    p.n[i] = sizes[i];
  }
  host_kernels().scale_gradients(p);
  const DeviceArray scalar(gpu, {factor});
  p.factor = scalar.data();
  for (size_t i = 0; i < sizes.size(); ++i) p.x[i] = x[i]->data();
  start(gpu, cuda::scale_gradients, p);
  for (size_t i = 0; i < sizes.size(); ++i) {
    std::vector<float> ref = before[i];
    for (float& v : ref) v *= factor;
    CHECK(same_bits(x[i]->values(), ref));
    CHECK(same_bits(cpu_x[i], ref));
  }
}

const std::vector<BoxKind> kForms = {{BoxForm::kDistances, 1, 1, false},
                                     {BoxForm::kDistribution, 17, 1, false},
                                     {BoxForm::kDistribution, 2, 3, false},
                                     {BoxForm::kCentre, 1, 3, false},
                                     {BoxForm::kCentre, 1, 2, true}};
const std::vector<std::vector<MapSize>> kBoxMapSizes = {{{1, 1, 8}},
                                                        {{10, 8, 8}, {5, 4, 16}, {5, 1, 32}}};

}  // namespace

// Decoded boxes, their losses and gradients at assigned anchors.
KERNEL_CASE("box loss kernels") {
  for (const uint64_t seed : gpu.seeds()) {
    gpu.start(seed);
    for (const BoxKind& kind : kForms)
      for (const auto& sizes : kBoxMapSizes)
        for (const int64_t batch : {1, 3}) {
          const BoxScene scene(sizes, batch, kind, sizes.size() == 1 ? 1 : 7, 31);
          check_decode_boxes(gpu, scene, batch % 2);
          const bool teacher = kind.form == BoxForm::kDistribution && batch == 3;
          check_box_loss(gpu, scene, IouType::kGIoU, teacher, true, batch % 2);
          check_box_loss(gpu, scene, IouType::kSIoU, !teacher, false, 0);
        }
    // Every type; long runs of blocks without a box; none at all.
    for (int type = 0; type <= static_cast<int>(IouType::kAlphaCIoU); ++type)
      check_box_loss(gpu, BoxScene(kBoxMapSizes[1], 1, kForms[1], 29, 32),
                     static_cast<IouType>(type), true, true, 0);
    check_box_loss(gpu, BoxScene({{40, 33, 8}}, 3, kForms[0], 501, 33), IouType::kDIoU, false, true,
                   1);
    check_box_loss(gpu, BoxScene(kBoxMapSizes[1], 3, kForms[1], 0, 34), IouType::kGIoU, true, true,
                   0);
    BoxLoss many;
    many.maps.levels = 1;
    many.maps.per_cell = 4;
    CHECK(error_of([&] { start(gpu, cuda::box_loss, many); }) ==
          "box_loss: 1 levels of 4 boxes a cell with 1 bins");
  }
}

// An assignment as rows of labels.
KERNEL_CASE("target row kernels") {
  for (const uint64_t seed : gpu.seeds()) {
    gpu.start(seed);
    for (const int64_t per_cell : {1, 3})
      for (const auto& sizes : kBoxMapSizes)
        for (const int64_t batch : {1, 3})
          for (const int64_t every : {0, 1, 4})
            check_target_rows(
                gpu, BoxScene(sizes, batch, {BoxForm::kDistances, 1, per_cell, false}, every, 41),
                every == 4 ? 1e9 : 1.0, every == 1, batch == 3 ? 2 : 1);
  }
}

// A loss's parts put together; gradients times a scalar.
KERNEL_CASE("kernels that combine losses and scale gradients") {
  for (const uint64_t seed : gpu.seeds()) {
    gpu.start(seed);
    check_combine(gpu, 0, 5);
    check_combine(gpu, 1, 1);
    check_combine(gpu, 17, 5);
    check_combine(gpu, kMaxLossTerms, kMaxLossParts);
    for (const float factor : {1.0f, 0.25f, 3.7f})
      for (const int64_t offset : {0, 1}) {
        check_scale_all(gpu, {1, 3, 17, 68, 1000}, factor, offset);
        check_scale_all(gpu, {0, 5}, factor, offset);
        check_scale_all(gpu, {}, factor, offset);
      }
    check_scale_all(gpu, {9000}, std::nanf(""), 0);
  }
}

}  // namespace sextant::test
