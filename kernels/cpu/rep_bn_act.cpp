// SPDX-License-Identifier: Apache-2.0
// Memory traffic, in passes over one [rows, channels] tensor for k branches: forward k (statistics)
// + k + 1, backward (k + 1) + (k + 1) + k. No intermediate tensor is stored.
#include "kernels/rep_bn_act.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "core/parallel.h"
#include "kernels/cpu/f32_only.h"
#include "kernels/cpu/rep_bn_act_rows.h"

namespace sextant::kernels::cpu {
namespace {

void moments(const RepBnActForward& p, Rows rows, double* sums) {
  SEXTANT_CALL_F32_ISA(bn_moments, p, rows, sums);
}
void apply(const RepBnActForward& p, const FoldedNorms& norms, Rows rows) {
  SEXTANT_CALL_F32_ISA(bn_apply, p, norms, rows);
}
void gradient_sums(const RepBnActBackward& p, const FoldedNorms& norms, Rows rows, double* sums) {
  SEXTANT_CALL_F32_ISA(bn_gradient_sums, p, norms, rows, sums);
}
void input_gradients(const RepBnActBackward& p, const FoldedNorms& norms, const InputSlopes& in,
                     Rows rows) {
  SEXTANT_CALL_F32_ISA(bn_input_gradients, p, norms, in, rows);
}

// Rows are cut into chunks by the shape alone, and the chunks' sums are added in order: the result
// does not depend on the threads. The chunks of all branches fit a second cache together.
struct Chunks {
  Chunks(int64_t rows_, int64_t channels)
      : rows(rows_),
        count(std::clamp<int64_t>(rows * channels / kValues, 1, std::min<int64_t>(rows, 512))) {}
  Rows at(int64_t i) const { return {rows * i / count, rows * (i + 1) / count}; }

  // Calls f(rows) for each, from first to last.
  template <class F>
  void each(const F& f) const {
    parallel_jobs(count, [&](int64_t i) { f(at(i)); });
  }
  // The sums [size] that f(rows, double* sums) makes of each, added. From last to first: what has
  // been written last is still in a cache, and what is read last here is what each() reads first.
  template <class F>
  std::vector<double> sum(int64_t size, const F& f) const {
    std::vector<double> parts(static_cast<size_t>(count * size));
    parallel_jobs(count, [&](int64_t job) {
      const int64_t i = count - 1 - job;
      f(at(i), parts.data() + i * size);
    });
    std::vector<double> sums(static_cast<size_t>(size), 0.0);
    for (auto part = parts.begin(); part != parts.end(); part += size)
      std::transform(sums.begin(), sums.end(), part, sums.begin(), std::plus<>());
    return sums;
  }

  static constexpr int64_t kValues = 1 << 14;  // of a branch
  int64_t rows, count;
};

// With several processes: adds up what they have summed, and the number of rows, which it returns.
double sum_across(Communicator* across, int64_t rows, std::vector<double>& sums) {
  if (across == nullptr) return static_cast<double>(rows);
  sums.push_back(static_cast<double>(rows));
  across->sum(sums.data(), std::ssize(sums), DType::kF64, Device::kCpu);
  return sums.back();
}

void batch_statistics(const RepBnActForward& p, const RepBnActForward::Branch& br,
                      const double* sums, double n) {
  for (int64_t c = 0; c < p.channels; ++c) {
    const double sum = sums[c], square = sums[p.channels + c], mean = sum / n;
    const double var = std::max(0.0, (square - sum * sum / n) / n);
    br.mean[c] = static_cast<float>(mean);
    br.inv_std[c] = static_cast<float>(1.0 / std::sqrt(var + p.eps));
    if (br.running_mean) {
      const double m = p.momentum;
      br.running_mean[c] = static_cast<float>((1 - m) * br.running_mean[c] + m * mean);
      br.running_var[c] = static_cast<float>((1 - m) * br.running_var[c] + m * var * n / (n - 1.0));
    }
  }
}

void keep_running_statistics(const RepBnActForward& p, const RepBnActForward::Branch& br) {
  for (int64_t c = 0; c < p.channels; ++c) {
    br.mean[c] = br.running_mean[c];
    br.inv_std[c] = static_cast<float>(1.0 / std::sqrt(double{br.running_var[c]} + p.eps));
  }
}

// The vectors behind FoldedNorms.
struct Folded {
  std::array<std::vector<float>, kMaxBranches> scale, mean;
  std::vector<float> shift;

  FoldedNorms pointers() const {
    FoldedNorms norms{.scale = {}, .mean = {}, .shift = shift.data()};
    for (size_t b = 0; b < scale.size(); ++b) {
      norms.scale[b] = scale[b].data();
      norms.mean[b] = mean[b].data();
    }
    return norms;
  }
};

template <class Branches, class GetMean, class GetInvStd>
Folded fold(const Branches& branch, int branches, int64_t channels, const GetMean& mean,
            const GetInvStd& inv_std) {
  Folded a;
  const auto n = static_cast<size_t>(channels);
  a.shift.assign(n, 0.0f);
  for (size_t b = 0; b < static_cast<size_t>(branches); ++b) {
    a.scale[b].resize(n);
    a.mean[b].resize(n);
    for (size_t c = 0; c < n; ++c) {
      a.scale[b][c] = static_cast<float>(branch[b].gamma[c] * inv_std(branch[b], c));
      a.mean[b][c] = mean(branch[b], c);
      a.shift[c] += branch[b].beta[c];
    }
  }
  return a;
}

}  // namespace
}  // namespace sextant::kernels::cpu

namespace sextant::kernels::SEXTANT_CPU {
using namespace cpu;

void rep_bn_act_forward(const RepBnActForward& p) {
  check_f32("rep_bn_act_forward", p.dtype);
  const Chunks chunks(p.rows, p.channels);
  std::vector<double> sums;
  double n = 0;
  if (p.training) {
    sums = chunks.sum(2 * p.branches * p.channels,
                      [&](Rows rows, double* to) { moments(p, rows, to); });
    n = sum_across(p.across, p.rows, sums);
    check(n >= 2, "rep_bn_act: training on one value per channel, needs two");
  }
  for (int b = 0; b < p.branches; ++b) {
    const auto& br = p.branch[static_cast<size_t>(b)];
    if (p.training)
      batch_statistics(p, br, sums.data() + 2 * b * p.channels, n);
    else if (br.mean)
      keep_running_statistics(p, br);
  }
  const Folded folded = fold(
      p.branch, p.branches, p.channels,
      [&](const auto& br, size_t c) { return p.training ? br.mean[c] : br.running_mean[c]; },
      [&](const auto& br, size_t c) {
        return p.training ? double{br.inv_std[c]}
                          : 1.0 / std::sqrt(static_cast<double>(br.running_var[c]) + p.eps);
      });
  const FoldedNorms norms = folded.pointers();
  chunks.each([&](Rows rows) { apply(p, norms, rows); });
}

void rep_bn_act_backward(const RepBnActBackward& p) {
  check_f32("rep_bn_act_backward", p.dtype);
  const int64_t channels = p.channels;
  const Folded folded = fold(
      p.branch, p.branches, channels, [](const auto& br, size_t c) { return br.mean[c]; },
      [](const auto& br, size_t c) { return double{br.inv_std[c]}; });
  const FoldedNorms norms = folded.pointers();
  const Chunks chunks(p.rows, channels);
  std::vector<double> sums = chunks.sum((p.branches + 1) * channels, [&](Rows rows, double* to) {
    gradient_sums(p, norms, rows, to);
  });
  bool wanted = false;
  for (size_t b = 0; b < static_cast<size_t>(p.branches); ++b) {
    const auto& br = p.branch[b];
    wanted |= br.dx != nullptr;
    for (size_t c = 0; c < static_cast<size_t>(channels); ++c) {
      br.dgamma[c] =
          static_cast<float>(sums[(b + 1) * static_cast<size_t>(channels) + c] * br.inv_std[c]);
      br.dbeta[c] = static_cast<float>(sums[c]);
    }
  }
  if (!wanted) return;
  const double n = p.training ? sum_across(p.across, p.rows, sums) : 1;
  std::array<std::vector<float>, kMaxBranches> slope, offset;
  InputSlopes in{};
  for (size_t b = 0; b < static_cast<size_t>(p.branches); ++b) {
    const auto& br = p.branch[b];
    slope[b].assign(static_cast<size_t>(channels), 0.0f);
    offset[b].assign(static_cast<size_t>(channels), 0.0f);
    in.slope[b] = slope[b].data();
    in.offset[b] = offset[b].data();
    if (!p.training) continue;
    for (size_t c = 0; c < static_cast<size_t>(channels); ++c) {
      const double g = sums[c], gx = sums[(b + 1) * static_cast<size_t>(channels) + c];
      const double inv_std = br.inv_std[c], scale = br.gamma[c] * inv_std;
      slope[b][c] = static_cast<float>(-scale * inv_std * inv_std * gx / n);
      offset[b][c] = static_cast<float>(-scale * g / n);
    }
  }
  chunks.each([&](Rows rows) { input_gradients(p, norms, in, rows); });
}

}  // namespace sextant::kernels::SEXTANT_CPU
