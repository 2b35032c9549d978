#include "kernels/kl_div.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "core/parallel.h"

namespace sextant::kernels::cpu {
namespace {

// Columns that lie side by side are taken together, so that memory is read in runs.
constexpr int64_t kWidth = 32;
// Groups of columns are summed in blocks of about this many elements, whatever the number of
// threads.
constexpr int64_t kBlockElements = 1 << 12;

double sigmoid(double x) {
  const double e = std::exp(-std::abs(x));
  return (x >= 0.0 ? 1.0 : e) / (1.0 + e);
}

// Works through groups of up to kWidth columns; its memory is kept from group to group.
class Columns {
 public:
  explicit Columns(const KlDiv& p)
      : p_(p),
        student_(p.axis * width()),
        teacher_(p.axis * width()),
        score_(p.sigmoid ? student_.size() : 0) {}

  int64_t width() const { return std::min(kWidth, p_.inner); }

  // Columns first .. first + count - 1 of one outer index.
  double run(int64_t outer, int64_t first, int64_t count) {
    const int64_t start = outer * p_.axis * p_.inner + first;
    read(start, count);
    // exp(x - top) in place, with its sum, and the sum of p_teacher (teacher - student).
    double student_top[kWidth], teacher_top[kWidth];
    std::copy_n(student_.begin(), count, student_top);
    std::copy_n(teacher_.begin(), count, teacher_top);
    for (int64_t a = 1; a < p_.axis; ++a)
      for (int64_t c = 0; c < count; ++c) {
        student_top[c] = std::max(student_top[c], student_[a * count + c]);
        teacher_top[c] = std::max(teacher_top[c], teacher_[a * count + c]);
      }
    double student_sum[kWidth] = {}, teacher_sum[kWidth] = {}, cross[kWidth] = {};
    for (int64_t a = 0; a < p_.axis; ++a)
      for (int64_t c = 0; c < count; ++c) {
        double& s = student_[a * count + c];
        double& t = teacher_[a * count + c];
        const double gap = t - s;
        s = std::exp(s - student_top[c]);
        t = std::exp(t - teacher_top[c]);
        student_sum[c] += s;
        teacher_sum[c] += t;
        cross[c] += t * gap;
      }
    double loss = 0.0;
    for (int64_t c = 0; c < count; ++c) {
      const double kl = cross[c] / teacher_sum[c] + (student_top[c] - teacher_top[c]) +
                        std::log(student_sum[c] / teacher_sum[c]);
      loss += std::max(kl, 0.0);
    }
    if (p_.grad) write(start, count, student_sum, teacher_sum);
    return p_.temperature * p_.temperature * loss;
  }

 private:
  void read(int64_t start, int64_t count) {
    const double inverse = 1.0 / p_.temperature;
    for (int64_t a = 0; a < p_.axis; ++a)
      for (int64_t c = 0; c < count; ++c) {
        const int64_t from = start + a * p_.inner + c, to = a * count + c;
        double s = p_.student[from];
        double t = p_.teacher[from];
        if (p_.sigmoid) {
          score_[to] = s = sigmoid(s);
          t = sigmoid(t);
        }
        student_[to] = s * inverse;
        teacher_[to] = t * inverse;
      }
  }

  void write(int64_t start, int64_t count, const double* student_sum,
             const double* teacher_sum) const {
    const double scale = p_.grad_scale * p_.temperature;
    for (int64_t a = 0; a < p_.axis; ++a)
      for (int64_t c = 0; c < count; ++c) {
        const int64_t i = a * count + c;
        double g = scale * (student_[i] / student_sum[c] - teacher_[i] / teacher_sum[c]);
        if (p_.sigmoid) g *= score_[i] * (1.0 - score_[i]);
        float& out = p_.grad[start + a * p_.inner + c];
        out = static_cast<float>(p_.accumulate ? out + g : g);
      }
  }

  const KlDiv& p_;
  std::vector<double> student_, teacher_;  // [axis, count]: values, then exponentials
  std::vector<double> score_;              // [axis, count]: the student's sigmoids
};

}  // namespace

double kl_div(const KlDiv& p) {
  const int64_t width = std::min(kWidth, p.inner);
  if (p.axis == 0 || width == 0) return 0.0;
  const int64_t per_outer = (p.inner + width - 1) / width;
  const int64_t groups = p.outer * per_outer;
  const int64_t in_block = std::max<int64_t>(1, kBlockElements / (p.axis * width));
  const int64_t blocks = (groups + in_block - 1) / in_block;
  std::vector<double> partial(blocks, 0.0);
  parallel_for(blocks, 1, [&](int64_t begin, int64_t end) {
    Columns columns(p);
    for (int64_t b = begin; b < end; ++b)
      for (int64_t g = b * in_block; g < std::min(groups, (b + 1) * in_block); ++g) {
        const int64_t first = g % per_outer * width;
        partial[b] += columns.run(g / per_outer, first, std::min(width, p.inner - first));
      }
  });
  double sum = 0.0;
  for (const double s : partial) sum += s;
  return sum;
}

}  // namespace sextant::kernels::cpu
