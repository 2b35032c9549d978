// SPDX-License-Identifier: Apache-2.0
#include "kernels/rep_bn_act.h"

#include <cmath>
#include <memory>

#include "simt/cases/cases.h"
#include "simt/cases/rep_bn_act_reference.h"
#include "simt/cases/twin_processes.h"

namespace sextant::test {
namespace {

using namespace sextant::kernels;
using Array = std::unique_ptr<DeviceArray>;

struct RepBnOptions {
  int64_t dy_offset = 0;
  int64_t x_offset = 0;    // floats, of the last branch's x
  int64_t out_offset = 0;  // of y and dx
  bool running = true;  // running statistics wanted in training, those for backward in evaluation
  int dx_wanted = (1 << kMaxBranches) - 1;  // bit b: branch b
  Communicator* across = nullptr;
};

struct RepBnResults {
  std::vector<float> y;
  std::array<std::vector<float>, kMaxBranches> mean, inv_std, running_mean, running_var, dx, dgamma,
      dbeta;
};

size_t at(int b) { return static_cast<size_t>(b); }

RepBnResults run_on_cpu(const RepBnProblem& p, Communicator* across = nullptr) {
  RepBnResults r;
  const int64_t c = p.channels, n = p.rows * c;
  RepBnActForward f;
  RepBnActBackward g;
  r.y = undefined(n);
  for (int b = 0; b < p.branches; ++b) {
    r.running_mean[at(b)] = p.running_mean[at(b)];
    r.running_var[at(b)] = p.running_var[at(b)];
    r.mean[at(b)] = undefined(c);
    r.inv_std[at(b)] = undefined(c);
    r.dx[at(b)] = undefined(n);
    r.dgamma[at(b)] = undefined(c);
    r.dbeta[at(b)] = undefined(c);
    f.branch[at(b)] = {p.x[at(b)].data(),           p.gamma[at(b)].data(),
                       p.beta[at(b)].data(),        r.running_mean[at(b)].data(),
                       r.running_var[at(b)].data(), r.mean[at(b)].data(),
                       r.inv_std[at(b)].data()};
    g.branch[at(b)] = {p.x[at(b)].data(),      p.gamma[at(b)].data(),   p.beta[at(b)].data(),
                       r.mean[at(b)].data(),   r.inv_std[at(b)].data(), r.dx[at(b)].data(),
                       r.dgamma[at(b)].data(), r.dbeta[at(b)].data()};
  }
  f.branches = g.branches = p.branches;
  f.rows = g.rows = p.rows;
  f.channels = g.channels = c;
  f.activation = g.activation = p.act;
  f.training = g.training = p.training;
  f.eps = p.eps;
  f.momentum = p.momentum;
  f.across = g.across = across;
  f.y = r.y.data();
  g.dy = p.dy.data();
  host_kernels().rep_bn_act_forward(f);
  host_kernels().rep_bn_act_backward(g);
  return r;
}

template <class T>
RepBnResults run_on(TestGpu& gpu, const RepBnProblem& p, const RepBnOptions& o) {
  using Tensors = std::unique_ptr<DeviceArrayOf<T>>;
  const int64_t c = p.channels, n = p.rows * c;
  RepBnActForward f;
  RepBnActBackward g;
  std::vector<std::unique_ptr<DeviceMemory>> inputs;
  const auto parameter = [&](const std::vector<float>& v, int64_t offset = 0) {
    auto array = std::make_unique<DeviceArray>(gpu, v, offset);
    const float* data = array->data();
    inputs.push_back(std::move(array));
    return data;
  };
  const auto input = [&](const std::vector<float>& v, int64_t offset) {
    inputs.push_back(std::make_unique<DeviceArrayOf<T>>(gpu, pack<T>(v), offset));
    return inputs.back()->data();
  };
  const auto output = [&](Array& a, const std::vector<float>& v, int64_t offset = 0) {
    a = std::make_unique<DeviceArray>(gpu, v, offset);
    return a->data();
  };
  const auto result = [&](Tensors& a, int64_t offset) {
    a = std::make_unique<DeviceArrayOf<T>>(gpu, pack<T>(undefined(n)), offset);
    return a->data();
  };
  std::array<Array, kMaxBranches> mean, inv_std, running_mean, running_var, dgamma, dbeta;
  std::array<Tensors, kMaxBranches> dx;
  Tensors y;
  for (int b = 0; b < p.branches; ++b) {
    const void* x = input(p.x[at(b)], b == p.branches - 1 ? o.x_offset : 0);
    auto& fb = f.branch[at(b)];
    fb.x = x;
    fb.gamma = parameter(p.gamma[at(b)], 1);
    fb.beta = parameter(p.beta[at(b)]);
    if (!p.training || o.running) {
      fb.running_mean = output(running_mean[at(b)], p.running_mean[at(b)]);
      fb.running_var = output(running_var[at(b)], p.running_var[at(b)]);
    }
    const float* m;
    const float* s;
    if (p.training || o.running) {
      m = fb.mean = output(mean[at(b)], undefined(c));
      s = fb.inv_std = output(inv_std[at(b)], undefined(c));
    } else {
      m = fb.running_mean;
      s = parameter(p.running_inv_std(b));
    }
    T* d = (o.dx_wanted >> b & 1) != 0 ? result(dx[at(b)], o.out_offset) : nullptr;
    g.branch[at(b)] = {x,
                       fb.gamma,
                       fb.beta,
                       m,
                       s,
                       d,
                       output(dgamma[at(b)], undefined(c)),
                       output(dbeta[at(b)], undefined(c))};
  }
  f.branches = g.branches = p.branches;
  f.rows = g.rows = p.rows;
  f.channels = g.channels = c;
  f.activation = g.activation = p.act;
  f.training = g.training = p.training;
  f.eps = p.eps;
  f.momentum = p.momentum;
  f.dtype = g.dtype = Stored<T>::kType;
  f.across = g.across = o.across;
  f.y = result(y, o.out_offset);
  g.dy = input(p.dy, o.dy_offset);
  start(gpu, cuda::rep_bn_act_forward, f);
  start(gpu, cuda::rep_bn_act_backward, g);

  for (const auto& a : inputs) a->require_unchanged();
  RepBnResults r;
  r.y = unpack(y->values());
  for (int b = 0; b < p.branches; ++b) {
    const auto get = [&](const Array& a) { return a ? a->values() : std::vector<float>(); };
    r.mean[at(b)] = get(mean[at(b)]);
    r.inv_std[at(b)] = get(inv_std[at(b)]);
    r.running_mean[at(b)] = get(running_mean[at(b)]);
    r.running_var[at(b)] = get(running_var[at(b)]);
    if (dx[at(b)]) r.dx[at(b)] = unpack(dx[at(b)]->values());
    r.dgamma[at(b)] = get(dgamma[at(b)]);
    r.dbeta[at(b)] = get(dbeta[at(b)]);
  }
  return r;
}

// Float32 against double, relative to 1 + |value|: what stands in front is the sum over at most
// 1,025 rows, and 1 / std, up to 31 where two rows lie close together.
constexpr double kForward = 5e-6;
constexpr double kBackward = 4e-5;

template <class T, class Expected>
void check_close(const RepBnProblem& p, const RepBnOptions& o, const RepBnResults& r,
                 const Expected& e) {
  CHECK(worst_error_as<T>(r.y, e.y) < kForward);
  for (int b = 0; b < p.branches; ++b) {
    CAPTURE(b);
    if (p.training || o.running) {
      CHECK(worst_error(r.mean[at(b)], e.mean[at(b)]) < 1e-6);
      CHECK(worst_error(r.inv_std[at(b)], e.inv_std[at(b)]) < kForward);
      if (p.training && o.running) {
        CHECK(worst_error(r.running_mean[at(b)], e.running_mean[at(b)]) < 1e-6);
        CHECK(worst_error(r.running_var[at(b)], e.running_var[at(b)]) < 1e-6);
      }
    }
    CHECK(worst_error(r.dgamma[at(b)], e.dgamma[at(b)]) < kBackward);
    CHECK(worst_error(r.dbeta[at(b)], e.dbeta[at(b)]) < kBackward);
    if ((o.dx_wanted >> b & 1) != 0) CHECK(worst_error_as<T>(r.dx[at(b)], e.dx[at(b)]) < kBackward);
  }
  if (!p.training)  // read only
    for (int b = 0; b < p.branches; ++b) {
      CHECK(same_bits(r.running_mean[at(b)], p.running_mean[at(b)]));
      CHECK(same_bits(r.running_var[at(b)], p.running_var[at(b)]));
    }
}

bool identical(const RepBnResults& a, const RepBnResults& b) {
  bool same = same_bits(a.y, b.y);
  for (size_t i = 0; i < kMaxBranches; ++i)
    same = same && same_bits(a.mean[i], b.mean[i]) && same_bits(a.inv_std[i], b.inv_std[i]) &&
           same_bits(a.running_mean[i], b.running_mean[i]) &&
           same_bits(a.running_var[i], b.running_var[i]) && same_bits(a.dx[i], b.dx[i]) &&
           same_bits(a.dgamma[i], b.dgamma[i]) && same_bits(a.dbeta[i], b.dbeta[i]);
  return same;
}

template <class T>
void check_as(TestGpu& gpu, const RepBnProblem& p, const RepBnOptions& o) {
  CAPTURE(p.rows, p.channels, p.branches, name_of(p.act), p.training, name_of(p.dtype), o.dy_offset,
          o.x_offset, o.out_offset, o.running, o.dx_wanted);
  const RepBnReference reference(p);
  const RepBnResults twin = run_on_cpu(p);
  RepBnResults first;
  for (const uint64_t seed : gpu.seeds()) {
    gpu.start(seed);
    const RepBnResults r = run_on<T>(gpu, p, o);
    if (first.y.empty()) {
      first = r;
      check_close<T>(p, o, r, reference);
      check_close<T>(p, o, r, twin);
    } else {
      CHECK(identical(r, first));  // no schedule changes a bit
    }
  }
}

void check_rep_bn_act(TestGpu& gpu, const RepBnProblem& p, const RepBnOptions& o = {}) {
  with_type(p.dtype, [&](auto type) { check_as<decltype(type)>(gpu, p, o); });
}

}  // namespace

// Forward and backward in training and eval over channels x rows x branches x activations.
KERNEL_CASE("rep_bn_act kernels") {
  const std::vector<Activation> acts = {
      Activation::kReLU,    Activation::kSiLU,      Activation::kMish,     Activation::kIdentity,
      Activation::kSigmoid, Activation::kHardswish, Activation::kLeakyReLU};
  size_t turn = 0;
  for (const int64_t channels : {1, 3, 17, 68, 64})
    for (const int64_t rows : {2, 33, 1025})
      for (const int branches : {1, 2, 3})
        for (const bool training : {true, false})
          check_rep_bn_act(
              gpu, RepBnProblem(branches, rows, channels, acts[turn++ % acts.size()], training));
  for (const Activation act : acts)
    for (const bool training : {true, false})
      check_rep_bn_act(gpu, RepBnProblem(3, 33, 8, act, training));
  for (const int branches : {1, 2, 3})  // eval: one row
    check_rep_bn_act(gpu, RepBnProblem(branches, 1, 5, Activation::kSiLU, false));
}

// The same in f16 and bf16.
KERNEL_CASE("rep_bn_act kernels in 16 bits") {
  for (const DType type : {DType::kF16, DType::kBF16}) {
    for (const int64_t channels : {1, 3, 17, 68, 64})
      for (const int64_t rows : {2, 33, 261})
        for (const int branches : {1, 2, 3})
          check_rep_bn_act(gpu, RepBnProblem(branches, rows, channels, Activation::kSiLU,
                                             rows != 33 || branches == 2, type));
    const RepBnProblem p(3, 131, 16, Activation::kReLU, true, type);
    check_rep_bn_act(gpu, p, {.dy_offset = 1});
    check_rep_bn_act(gpu, p, {.x_offset = 4, .out_offset = 3});
    check_rep_bn_act(gpu, p, {.dx_wanted = 0b101});
  }
}

// Which gradients and running statistics are wanted, pointers without alignment.
KERNEL_CASE("rep_bn_act kernels: alignment and optional outputs") {
  for (const int branches : {1, 3})
    for (const bool training : {true, false}) {
      const RepBnProblem p(branches, 131, 16, Activation::kSiLU, training);
      check_rep_bn_act(gpu, p, {.dy_offset = 1});
      check_rep_bn_act(gpu, p, {.x_offset = 1});
      check_rep_bn_act(gpu, p, {.out_offset = 1});
      check_rep_bn_act(gpu, p, {.x_offset = 2, .out_offset = 3});
      check_rep_bn_act(gpu, p, {.running = false});
      check_rep_bn_act(gpu, p, {.dx_wanted = 0});
      check_rep_bn_act(gpu, p, {.dx_wanted = 0b101});
    }
}

// The rows are one process's of three, which have the same.
KERNEL_CASE("rep_bn_act kernels: statistics of several processes") {
  for (const int branches : {1, 2, 3})
    for (const int64_t channels : {3, 64})
      for (const int64_t rows : {1, 2, 261})
        for (const DType type : {DType::kF32, DType::kBF16}) {
          const RepBnProblem p(branches, rows, channels, Activation::kSiLU, true, type);
          CAPTURE(branches, channels, rows, name_of(type));
          TwinProcesses three(gpu, 3);
          const RepBnResults twin = run_on_cpu(p, &three);
          CHECK(three.sums == 2);
          with_type(type, [&](auto t) {
            using T = decltype(t);
            const RepBnOptions o{.across = &three};
            for (const uint64_t seed : gpu.seeds()) {
              gpu.start(seed);
              check_close<T>(p, o, run_on<T>(gpu, p, o), twin);
            }
          });
        }
  // The batch of three times the rows, in one process.
  RepBnProblem part(2, 40, 17, Activation::kReLU, true);
  RepBnProblem whole(2, 120, 17, Activation::kReLU, true);
  const auto thrice = [](const std::vector<float>& v) {
    std::vector<float> out = v;
    for (int i = 0; i < 2; ++i) out.insert(out.end(), v.begin(), v.end());
    return out;
  };
  whole = part;
  whole.rows = 3 * part.rows;
  for (size_t b = 0; b < 2; ++b) whole.x[b] = thrice(part.x[b]);
  whole.dy = thrice(part.dy);
  TwinProcesses three(gpu, 3);
  gpu.start(gpu.seeds().front());
  const RepBnResults shared = run_on<float>(gpu, part, {.across = &three}), one = run_on_cpu(whole);
  const auto first = [](std::vector<float> v, size_t n) {
    v.resize(n);
    return v;
  };
  CHECK(worst_error(shared.y, first(one.y, shared.y.size())) < kForward);
  for (size_t b = 0; b < 2; ++b) {
    CHECK(worst_error(shared.running_var[b], one.running_var[b]) < 1e-6);
    CHECK(worst_error(shared.dx[b], first(one.dx[b], shared.dx[b].size())) < kBackward);
    for (size_t c = 0; c < 17; ++c)
      CHECK(std::abs(3 * shared.dgamma[b][c] - one.dgamma[b][c]) <
            kBackward * (1 + std::abs(one.dgamma[b][c])));
  }
}

// A mean far from zero, an outlier in the first row, a constant channel.
KERNEL_CASE("rep_bn_act kernels: means far from zero, outliers, constant channels") {
  const int64_t rows = 1025, channels = 8;
  RepBnProblem p(1, rows, channels, Activation::kIdentity, true);
  for (int64_t r = 0; r < rows; ++r) {
    float* row = p.x[0].data() + r * channels;
    row[0] += 1000.0f;                         // mean far above the deviation
    if (r == 0) row[1] = 1e4f;                 // an outlier where shifted sums take their shift
    row[2] = 3.25f;                            // constant
    row[3] = r == 0 ? 1e4f : 3.25f;            // constant but for that
    row[4] *= 1e-4f;                           // variance far below eps
    row[5] = r % 2 == 0 ? -2000.0f : 2000.0f;  // large
  }
  const RepBnReference reference(p);
  for (const uint64_t seed : gpu.seeds()) {
    gpu.start(seed);
    for (const int64_t offset : {0, 1}) {
      const RepBnResults r = run_on<float>(gpu, p, {.x_offset = offset});
      for (size_t c = 0; c < static_cast<size_t>(channels); ++c) {
        CAPTURE(c, offset, seed);
        // The chunks' means are float32: off by half a unit in their last place, or in that of the
        // deviation.
        CHECK(std::abs(r.mean[0][c] - reference.mean[0][c]) <
              1e-6 * (std::abs(reference.mean[0][c]) + 1.0 / reference.inv_std[0][c]));
        CHECK(std::abs(r.inv_std[0][c] / reference.inv_std[0][c] - 1.0) < 5e-6);
        CHECK(std::abs(r.running_var[0][c] / reference.running_var[0][c] - 1.0) < 1e-5);
      }
      CHECK(worst_error(r.y, reference.y) < 2e-4);
    }
  }
}

// Bad parameters give an Error that names them.
KERNEL_CASE("kernels refuse bad parameters") {
  gpu.start(gpu.seeds().front());
  RepBnActForward f;
  RepBnActBackward b;
  f.rows = b.rows = 1;
  f.channels = b.channels = 4;
  const auto forward = [&] { return error_of([&] { start(gpu, cuda::rep_bn_act_forward, f); }); };
  const auto backward = [&] { return error_of([&] { start(gpu, cuda::rep_bn_act_backward, b); }); };
  CHECK(forward() == "rep_bn_act_forward: 1 rows, must be 2 or more");
  CHECK(backward() == "rep_bn_act_backward: 1 rows, must be 2 or more");
  f.branches = 4;
  b.branches = 0;
  CHECK(forward() == "rep_bn_act_forward: 4 branches, must be 1 to 3");
  CHECK(backward() == "rep_bn_act_backward: 0 branches, must be 1 to 3");
  f.branches = 1;
  f.training = false;
  f.rows = 0;
  CHECK(forward() == "no error");
}

}  // namespace sextant::test
