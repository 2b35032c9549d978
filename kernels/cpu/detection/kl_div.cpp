// SPDX-License-Identifier: Apache-2.0
#include "kernels/detection/kl_div.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <vector>

#include "core/parallel.h"
#include "kernels/cpu/namespace.h"

namespace sextant::kernels::SEXTANT_CPU {
namespace {

// Columns are processed in groups, copied side by side into separate memory, so that the
// exponentials form one long loop for any shape.
constexpr int64_t kWidth = 32;
// Groups are summed in blocks of about this many elements, whatever the number of threads.
constexpr int64_t kBlockElements = 1 << 12;

// The positions of the columns: element a of column c of batch o is at o * axis * columns + c *
// column_step + a * axis_step. With inner 1 all columns form one batch.
struct ColumnLayout {
  int64_t batches;
  int64_t columns;
  int64_t column_step;
  int64_t axis_step;
  explicit ColumnLayout(const KlDiv& p)
      : batches(p.inner == 1 ? 1 : p.outer),
        columns(p.inner == 1 ? p.outer : p.inner),
        column_step(p.inner == 1 ? p.axis : 1),
        axis_step(p.inner) {}
  int64_t width() const { return std::min(kWidth, columns); }
};

// exp(x) for x <= 0 to about 2 ulp, as arithmetic that vectorises; below -708 as there. Cody-Waite
// reduction by ln 2 and a Taylor polynomial, which at |r| <= ln 2 / 2 ends below 2e-16.
inline double exp_nonpositive(double x) {
  constexpr double kRound = 0x1.8p52;  // its sum with a small number rounds that to an integer
  x = x < -708.0 ? -708.0 : x;
  const double shifted = x * 1.4426950408889634 + kRound;
  const double n = shifted - kRound;
  const double r = (x - n * 0x1.62e42fee00000p-1) - n * 0x1.a39ef35793c76p-33;
  double p = 1.0 / 479001600.0;
  p = p * r + 1.0 / 39916800.0;
  p = p * r + 1.0 / 3628800.0;
  p = p * r + 1.0 / 362880.0;
  p = p * r + 1.0 / 40320.0;
  p = p * r + 1.0 / 5040.0;
  p = p * r + 1.0 / 720.0;
  p = p * r + 1.0 / 120.0;
  p = p * r + 1.0 / 24.0;
  p = p * r + 1.0 / 6.0;
  p = p * r + 0.5;
  p = p * r + 1.0;
  p = p * r + 1.0;
  return p * std::bit_cast<double>((std::bit_cast<uint64_t>(shifted) + 1023) << 52);
}

void sigmoids(double* x, int64_t n) {
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) {
    const double e = exp_nonpositive(-std::abs(x[i]));
    x[i] = (x[i] >= 0.0 ? 1.0 : e) / (1.0 + e);
  }
}

void exponentials_of_nonpositive(double* x, int64_t n) {
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) x[i] = exp_nonpositive(x[i]);
}

// Processes groups of columns; its memory is reused for the next group.
class Columns {
 public:
  Columns(const KlDiv& p, const ColumnLayout& layout)
      : p_(p),
        layout_(layout),
        student_(p.axis * layout.width()),
        teacher_(p.axis * layout.width()),
        score_(p.sigmoid ? student_.size() : 0) {}

  // Columns first .. first + count - 1 of a batch.
  double run(int64_t batch, int64_t first, int64_t count) {
    const int64_t n = p_.axis * count;
    const int64_t start = batch * p_.axis * layout_.columns + first * layout_.column_step;
    each(start, count, [&](int64_t from, int64_t to, int64_t) {
      student_[to] = p_.student[from];
      teacher_[to] = p_.teacher[from];
    });
    if (p_.sigmoid) {
      sigmoids(student_.data(), n);
      sigmoids(teacher_.data(), n);
      std::copy_n(student_.begin(), n, score_.begin());
    }
    // Turns x into exp((x - top) / T) and sums it, and the teacher's (teacher - student) / T.
    double student_top[kWidth], teacher_top[kWidth];
    std::copy_n(student_.begin(), count, student_top);
    std::copy_n(teacher_.begin(), count, teacher_top);
    each(start, count, [&](int64_t, int64_t i, int64_t c) {
      student_top[c] = std::max(student_top[c], student_[i]);
      teacher_top[c] = std::max(teacher_top[c], teacher_[i]);
    });
    const double inverse = 1.0 / p_.temperature;
    gap_.resize(n);
    each(start, count, [&](int64_t, int64_t i, int64_t c) {
      gap_[i] = (teacher_[i] - student_[i]) * inverse;
      student_[i] = (student_[i] - student_top[c]) * inverse;
      teacher_[i] = (teacher_[i] - teacher_top[c]) * inverse;
    });
    exponentials_of_nonpositive(student_.data(), n);
    exponentials_of_nonpositive(teacher_.data(), n);
    double student_sum[kWidth] = {}, teacher_sum[kWidth] = {}, cross[kWidth] = {};
    each(start, count, [&](int64_t, int64_t i, int64_t c) {
      student_sum[c] += student_[i];
      teacher_sum[c] += teacher_[i];
      cross[c] += teacher_[i] * gap_[i];
    });
    double loss = 0.0;
    for (int64_t c = 0; c < count; ++c) {
      const double kl = cross[c] / teacher_sum[c] + (student_top[c] - teacher_top[c]) * inverse +
                        std::log(student_sum[c] / teacher_sum[c]);
      loss += std::max(kl, 0.0);
      student_sum[c] = 1.0 / student_sum[c];
      teacher_sum[c] = 1.0 / teacher_sum[c];
    }
    if (p_.grad) {
      const double scale = p_.grad_scale * p_.temperature;
      each(start, count, [&](int64_t to, int64_t i, int64_t c) {
        double g = scale * (student_[i] * student_sum[c] - teacher_[i] * teacher_sum[c]);
        if (p_.sigmoid) g *= score_[i] * (1.0 - score_[i]);
        p_.grad[to] = static_cast<float>(p_.accumulate ? p_.grad[to] + g : g);
      });
    }
    return p_.temperature * p_.temperature * loss;
  }

 private:
  // Calls f(place in the tensor, place in the group, column) for all elements.
  template <class F>
  void each(int64_t start, int64_t count, const F& f) const {
    for (int64_t a = 0; a < p_.axis; ++a)
      for (int64_t c = 0; c < count; ++c)
        f(start + a * layout_.axis_step + c * layout_.column_step, a * count + c, c);
  }

  const KlDiv& p_;
  const ColumnLayout& layout_;
  std::vector<double> student_, teacher_, gap_;  // [axis, count]
  std::vector<double> score_;                    // [axis, count]: the student's sigmoids
};

}  // namespace

void kl_div(const KlDiv& p) {
  *p.sum = 0.0;
  const ColumnLayout layout(p);
  const int64_t width = layout.width();
  if (p.axis == 0 || width == 0) return;
  const int64_t in_batch = (layout.columns + width - 1) / width;
  const int64_t groups = layout.batches * in_batch;
  const int64_t in_block = std::max<int64_t>(1, kBlockElements / (p.axis * width));
  const int64_t blocks = (groups + in_block - 1) / in_block;
  std::vector<double> partial(blocks, 0.0);
  parallel_for(blocks, 1, [&](int64_t begin, int64_t end) {
    Columns columns(p, layout);
    for (int64_t b = begin; b < end; ++b)
      for (int64_t g = b * in_block; g < std::min(groups, (b + 1) * in_block); ++g) {
        const int64_t first = g % in_batch * width;
        partial[b] += columns.run(g / in_batch, first, std::min(width, layout.columns - first));
      }
  });
  for (const double s : partial) *p.sum += s;
}

}  // namespace sextant::kernels::SEXTANT_CPU
