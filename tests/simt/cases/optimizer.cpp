// SPDX-License-Identifier: Apache-2.0
#include "kernels/optimizer.h"

#include <cmath>
#include <limits>
#include <memory>

#include "simt/cases/cases.h"

namespace sextant::test {
namespace {

using namespace sextant::kernels;

struct Entry {
  int64_t n;
  int32_t group;
  bool grad = true, multiplier = false, average = true;
  int64_t offset = 0;  // of the parameter alone: the pack width has to come from all pointers
};
// One value, around the pack, around a piece of 4096, several pieces; without a gradient, as
// running statistics are; without an average; empty.
const std::vector<Entry> kEntries = {{1, 0},
                                     {3, 1, true, true},
                                     {17, 2},
                                     {68, 0, false},
                                     {4095, 1},
                                     {4097, 1, true, true, false},
                                     {8192, 1},
                                     {9001, 2, true, true, true, 1},
                                     {5, 1, false, false, false},
                                     {0, 1, false},
                                     {33, 1, true, false, true, 3}};

struct Rule {
  UpdateRule rule;
  bool nesterov, decoupled;
  float loss_scale;  // 0: none
};
const std::vector<Rule> kRules = {{UpdateRule::kSgd, true, false, 0.0f},
                                  {UpdateRule::kSgd, false, false, 1024.0f},
                                  {UpdateRule::kAdam, false, false, 0.0f},
                                  {UpdateRule::kAdam, false, true, 640.0f}};

MultiTensorUpdate options(const Rule& r) {
  MultiTensorUpdate p;
  p.rule = r.rule;
  p.nesterov = r.nesterov;
  p.decoupled = r.decoupled;
  const double lr[] = {0.01, 0.02, 0.03}, decay[] = {0.0, 0.05, 0.001};
  std::copy_n(lr, 3, p.lr);
  std::copy_n(decay, 3, p.decay);
  p.momentum = 0.9;
  p.beta1 = 0.937;
  p.average_rest = 0.3;
  return p;
}

// The arrays of a tensor, on the host in float or double.
template <class T>
struct Values {
  std::vector<T> param, moment, square, average;
  int64_t step = 0;
};
std::vector<Values<float>> start_values() {
  std::vector<Values<float>> out;
  uint64_t seed = 10;
  for (const Entry& e : kEntries) {
    out.push_back({random_values(e.n, seed, -1, 1), random_values(e.n, seed + 1, -0.1, 0.1),
                   random_values(e.n, seed + 2, 0, 0.1), random_values(e.n, seed + 3, -1, 1), 3});
    seed += 4;
  }
  return out;
}
std::vector<float> gradient(size_t i, int step) {
  return random_values(kEntries[i].n, 1000 + 20 * static_cast<uint64_t>(step) + i, -2, 2);
}
std::vector<float> multiplier(size_t i) { return random_values(kEntries[i].n, 500 + i, 0.2, 3); }

// One step in double, from the formulas of kernels/optimizer.h.
void reference_step(const MultiTensorUpdate& p, float loss_scale, bool skip, int step,
                    std::vector<Values<double>>& values) {
  for (size_t i = 0; i < kEntries.size(); ++i) {
    const Entry& e = kEntries[i];
    Values<double>& v = values[i];
    const double lr = p.lr[e.group], decay = p.decay[e.group];
    const std::vector<float> grad = gradient(i, step), factors = multiplier(i);
    if (e.grad && !skip && p.rule == UpdateRule::kAdam) ++v.step;
    const auto t = static_cast<double>(v.step);
    for (size_t k = 0; k < v.param.size(); ++k) {
      if (e.grad && !skip) {
        const double factor = e.multiplier ? factors[k] : 1.0;
        double g = factor * grad[k] / (loss_scale > 0 ? loss_scale : 1.0);
        if (!p.decoupled || p.rule == UpdateRule::kSgd) g += decay * v.param[k];
        if (p.rule == UpdateRule::kSgd) {
          v.moment[k] = p.momentum * v.moment[k] + g;
          v.param[k] -= lr * (p.nesterov ? g + p.momentum * v.moment[k] : v.moment[k]);
        } else {
          if (p.decoupled) v.param[k] *= 1 - lr * decay;
          v.moment[k] = p.beta1 * v.moment[k] + (1 - p.beta1) * g;
          v.square[k] = p.beta2 * v.square[k] + (1 - p.beta2) * g * g;
          v.param[k] -= factor * lr * (v.moment[k] / (1 - std::pow(p.beta1, t))) /
                        (std::sqrt(v.square[k] / (1 - std::pow(p.beta2, t))) + p.eps);
        }
      }
      if (e.average) v.average[k] += p.average_rest * (v.param[k] - v.average[k]);
    }
  }
}

// The list for the CPU kernel.
std::vector<UpdateTensor> host_list(std::vector<Values<float>>& values,
                                    const std::vector<std::vector<float>>& grads,
                                    const std::vector<std::vector<float>>& factors) {
  std::vector<UpdateTensor> list;
  for (size_t i = 0; i < kEntries.size(); ++i) {
    const Entry& e = kEntries[i];
    Values<float>& v = values[i];
    list.push_back({v.param.data(), e.grad ? grads[i].data() : nullptr,
                    e.multiplier ? factors[i].data() : nullptr, v.moment.data(), v.square.data(),
                    &v.step, e.average ? v.average.data() : nullptr, e.n, e.group});
  }
  return list;
}

// A tensor's arrays on the device.
struct OnDevice {
  DeviceArray param, moment, square, average, grad, factor;
  DeviceArrayOf<int64_t> step;
  OnDevice(TestGpu& b, const Entry& e, const Values<float>& v, const std::vector<float>& g,
           const std::vector<float>& m)
      : param(b, v.param, e.offset),
        moment(b, v.moment),
        square(b, v.square),
        average(b, v.average),
        grad(b, g),
        factor(b, m),
        step(b, {v.step}) {}
  UpdateTensor entry(const Entry& e) const {
    return {param.data(),
            e.grad ? grad.data() : nullptr,
            e.multiplier ? factor.data() : nullptr,
            moment.data(),
            square.data(),
            step.data(),
            e.average ? average.data() : nullptr,
            e.n,
            e.group};
  }
  Values<float> values() const {
    return {param.values(), moment.values(), square.values(), average.values(), step.values()[0]};
  }
};

UpdateList list_of(const DeviceArrayOf<UpdateTensor>& tensors, int64_t count,
                   const DeviceArrayOf<UpdatePiece>& pieces, size_t piece_count) {
  return {tensors.data(), count, pieces.data(), static_cast<int64_t>(piece_count)};
}

template <class T>
double worst_of(const std::vector<Values<float>>& a, const std::vector<Values<T>>& b) {
  double worst = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    worst =
        std::max({worst, worst_error(a[i].param, b[i].param), worst_error(a[i].moment, b[i].moment),
                  worst_error(a[i].square, b[i].square), worst_error(a[i].average, b[i].average)});
    CHECK(a[i].step == b[i].step);
  }
  return worst;
}

void check_rule(TestGpu& gpu, const Rule& rule) {
  CAPTURE(static_cast<int>(rule.rule), rule.nesterov, rule.decoupled, rule.loss_scale);
  std::vector<Values<float>> device = start_values(), host = device;
  std::vector<Values<double>> ref;
  for (const Values<float>& v : device) {
    const auto wide = [](const std::vector<float>& x) {
      return std::vector<double>(x.begin(), x.end());
    };
    ref.push_back({wide(v.param), wide(v.moment), wide(v.square), wide(v.average), v.step});
  }
  std::vector<std::vector<float>> factors;
  for (size_t i = 0; i < kEntries.size(); ++i) factors.push_back(multiplier(i));
  MultiTensorUpdate p = options(rule);
  for (int step = 0; step < 3; ++step) {
    const bool skip = step == 1;  // an overflow
    std::vector<std::vector<float>> grads;
    for (size_t i = 0; i < kEntries.size(); ++i) grads.push_back(gradient(i, step));
    reference_step(p, rule.loss_scale, skip, step, ref);

    const int32_t flag = skip ? 1 : 0;
    const std::vector<UpdateTensor> list = host_list(host, grads, factors);
    const std::vector<UpdatePiece> pieces = cut_into_pieces(list);
    MultiTensorUpdate on_host = p;
    on_host.list = {list.data(), static_cast<int64_t>(list.size()), pieces.data(),
                    static_cast<int64_t>(pieces.size())};
    on_host.overflow = &flag;
    if (rule.loss_scale > 0) on_host.loss_scale = &rule.loss_scale;
    host_kernels().multi_tensor_update(on_host);

    std::vector<std::unique_ptr<OnDevice>> arrays;
    std::vector<UpdateTensor> entries;
    for (size_t i = 0; i < kEntries.size(); ++i) {
      arrays.push_back(
          std::make_unique<OnDevice>(gpu, kEntries[i], device[i], grads[i], factors[i]));
      entries.push_back(arrays.back()->entry(kEntries[i]));
    }
    const DeviceArrayOf<UpdateTensor> tensors_d(gpu, entries);
    const DeviceArrayOf<UpdatePiece> pieces_d(gpu, pieces);
    const DeviceArrayOf<int32_t> flag_d(gpu, {flag});
    const DeviceArray scale_d(gpu, {rule.loss_scale});
    MultiTensorUpdate on_device = p;
    on_device.list = list_of(tensors_d, on_host.list.count, pieces_d, pieces.size());
    on_device.overflow = flag_d.data();
    if (rule.loss_scale > 0) on_device.loss_scale = scale_d.data();
    start(gpu, cuda::multi_tensor_update, on_device);
    for (size_t i = 0; i < kEntries.size(); ++i) {
      device[i] = arrays[i]->values();
      arrays[i]->grad.require_unchanged();
      arrays[i]->factor.require_unchanged();
      if (!kEntries[i].grad || skip) {
        arrays[i]->param.require_unchanged();
        arrays[i]->moment.require_unchanged();
      }
      if (!kEntries[i].average) arrays[i]->average.require_unchanged();
    }
    tensors_d.require_unchanged();
    pieces_d.require_unchanged();
  }
  CHECK(worst_of(device, ref) < 2e-6);
  CHECK(worst_of(device, host) < 2e-6);
}

bool finds_overflow(TestGpu& gpu, std::vector<std::vector<float>> grads, int64_t offset,
                    int32_t before) {
  std::vector<std::unique_ptr<DeviceArray>> arrays;
  std::vector<UpdateTensor> entries, list;
  for (const std::vector<float>& g : grads) {
    arrays.push_back(std::make_unique<DeviceArray>(gpu, g, offset));
    UpdateTensor t;
    t.n = static_cast<int64_t>(g.size());
    t.grad = arrays.back()->data();
    entries.push_back(t);
    t.grad = g.data();
    list.push_back(t);
  }
  entries.push_back({});  // one without a gradient
  entries.back().n = 7;
  list.push_back(entries.back());
  const std::vector<UpdatePiece> pieces = cut_into_pieces(list);
  int32_t flag = before;
  host_kernels().find_overflow({{list.data(), static_cast<int64_t>(list.size()), pieces.data(),
                                 static_cast<int64_t>(pieces.size())},
                                &flag});
  const DeviceArrayOf<UpdateTensor> tensors_d(gpu, entries);
  const DeviceArrayOf<UpdatePiece> pieces_d(gpu, pieces);
  const DeviceArrayOf<int32_t> flag_d(gpu, {before});
  start(gpu, cuda::find_overflow,
        {list_of(tensors_d, static_cast<int64_t>(entries.size()), pieces_d, pieces.size()),
         flag_d.data()});
  CHECK(flag_d.values()[0] == flag);
  return flag_d.values()[0] != 0;
}

}  // namespace

// Three steps of every rule over a list of tensors, the second one skipped by an overflow.
KERNEL_CASE("optimizer kernels") {
  for (const uint64_t seed : gpu.seeds()) {
    gpu.start(seed);
    for (const Rule& rule : kRules) check_rule(gpu, rule);
  }
}

KERNEL_CASE("loss scaling kernels") {
  const float inf = std::numeric_limits<float>::infinity();
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const float largest = std::numeric_limits<float>::max();
  for (const uint64_t seed : gpu.seeds()) {
    gpu.start(seed);
    const std::vector<std::vector<float>> fine = {
        {largest}, random_values(4101, 1, -1, 1), random_values(17, 2, -1, 1)};
    CHECK_FALSE(finds_overflow(gpu, fine, 0, 0));
    CHECK_FALSE(finds_overflow(gpu, fine, 1, 0));
    CHECK(finds_overflow(gpu, fine, 0, 1));  // found earlier
    for (const float bad : {inf, -inf, nan})
      for (const size_t at : {size_t{0}, size_t{4095}, size_t{4096}, size_t{4100}}) {
        auto grads = fine;
        grads[1][at] = bad;
        CHECK(finds_overflow(gpu, grads, 0, 0));
        CHECK(finds_overflow(gpu, grads, 1, 0));
      }

    // By hand: an overflow, three good steps with an interval of two, growth that would overflow.
    const DeviceArray scale(gpu, {64.0f});
    const DeviceArrayOf<int32_t> good(gpu, {1}), overflow(gpu, {1});
    UpdateLossScale p{scale.data(), good.data(), overflow.data(), 2.0f, 0.5f, 2};
    const auto step = [&](float expected_scale, int32_t expected_good) {
      start(gpu, cuda::update_loss_scale, p);
      CHECK(scale.values()[0] == expected_scale);
      CHECK(good.values()[0] == expected_good);
      CHECK(overflow.values()[0] == 0);
    };
    step(32.0f, 0);
    step(32.0f, 1);
    step(64.0f, 0);
    step(64.0f, 1);
    p.growth = largest;
    step(64.0f, 0);
    float scale_cpu = 3.0f;
    int32_t good_cpu = 5, overflow_cpu = 1;
    host_kernels().update_loss_scale({&scale_cpu, &good_cpu, &overflow_cpu, 2.0f, 0.25f, 2});
    CHECK((scale_cpu == 0.75f && good_cpu == 0 && overflow_cpu == 0));
  }
}

}  // namespace sextant::test
