// SPDX-License-Identifier: Apache-2.0
#include <cmath>

#include "core/parallel.h"
#include "kernels/backend.h"
#include "support/fixture_folder.h"

using namespace sextant;
using namespace sextant::kernels;
using namespace sextant::test;

namespace {

struct ClassLossCase {
  std::vector<float> pred;
  std::vector<int32_t> label;
  std::vector<double> target;
  std::vector<float> grad;
  ClassLoss p;

  ClassLossCase(int64_t rows, int64_t classes, uint64_t seed, double low, double high) {
    Rng rng(seed);
    for (int64_t i = 0; i < rows * classes; ++i)
      pred.push_back(static_cast<float>(rng.uniform(low, high)));
    for (int64_t r = 0; r < rows; ++r) {
      label.push_back(rng.below(3) == 0 ? static_cast<int32_t>(rng.below(classes)) : -1);
      target.push_back(rng.uniform());
    }
    grad.resize(rows * classes);
    p.rows = rows;
    p.classes = classes;
    link();
  }
  void link() {
    p.pred = pred.data();
    p.label = label.data();
    p.target = target.data();
    p.grad = grad.data();
  }
};

double class_loss(ClassLoss p) {
  double sum = -1.0;
  p.sum = &sum;
  backend(Device::kCpu).class_loss(p);
  return sum;
}
double class_loss_logits(ClassLoss p) {
  double sum = -1.0;
  p.sum = &sum;
  backend(Device::kCpu).class_loss_logits(p);
  return sum;
}

constexpr ClassLossType kClassLossTypes[] = {ClassLossType::kVarifocal, ClassLossType::kFocal,
                                             ClassLossType::kQualityFocal, ClassLossType::kPoly};

// The definition on one probability, given both logarithms.
double plain_term(const ClassLoss& p, int64_t r, int64_t c, double prob, double log_p,
                  double log_not_p) {
  const bool own = c == p.label[r];
  const double t = own ? p.target[r] : 0.0;
  const double bce = -t * log_p - (1 - t) * log_not_p;
  const double not_prob = std::exp(log_not_p);
  switch (p.type) {
    case ClassLossType::kVarifocal:
      return own ? t * bce : p.alpha * std::pow(prob, p.gamma) * bce;
    case ClassLossType::kFocal:
      return own ? -p.alpha * std::pow(not_prob, p.gamma) * log_p
                 : -(1 - p.alpha) * std::pow(prob, p.gamma) * log_not_p;
    case ClassLossType::kQualityFocal:
      return std::pow(std::abs(t - prob), p.gamma) * bce;
    case ClassLossType::kPoly:
      break;
  }
  return bce + p.epsilon * (1 - (t * prob + (1 - t) * not_prob));
}

double plain_logits(const ClassLoss& p) {
  double sum = 0;
  for (int64_t r = 0; r < p.rows; ++r)
    for (int64_t c = 0; c < p.classes; ++c) {
      const double z = p.pred[r * p.classes + c];
      const double log_p = z > 0 ? -std::log1p(std::exp(-z)) : z - std::log1p(std::exp(z));
      const double log_not_p = z > 0 ? -z - std::log1p(std::exp(-z)) : -std::log1p(std::exp(z));
      sum += plain_term(p, r, c, std::exp(log_p), log_p, log_not_p);
    }
  return sum;
}

// Central differences of `f` by every prediction against the gradient.
template <class F>
double gradient_error(ClassLossCase& k, float step, const F& f) {
  f(k.p);
  const std::vector<float> grad = k.grad;
  double worst = 0, largest = 0;
  for (size_t i = 0; i < k.pred.size(); ++i) {
    const float x = k.pred[i];
    k.pred[i] = x + step;
    const double up = f(k.p);
    k.pred[i] = x - step;
    const double down = f(k.p);
    k.pred[i] = x;
    const double width = static_cast<double>(x + step) - static_cast<double>(x - step);
    const double numeric = k.p.grad_scale * (up - down) / width;
    worst = std::max(worst, std::abs(numeric - static_cast<double>(grad[i])));
    largest = std::max(largest, std::abs(numeric));
  }
  return worst / largest;
}

}  // namespace

TEST_CASE("varifocal loss matches the official one") {
  for (const std::string& name : fixtures_of(kLossFixtures, "varifocal_")) {
    CAPTURE(name);
    SEXTANT_REQUIRE_FIXTURE(f, name);
    // Labels of the fixture are dense, so each element is a row of one class.
    const Tensor& pred = f.at("input.pred_score");
    const Tensor& label = f.at("input.label");
    const Tensor& score = f.at("input.gt_score");
    std::vector<int32_t> labels;
    std::vector<double> targets;
    for (int64_t i = 0; i < pred.numel(); ++i) {
      labels.push_back(label.f32()[i] > 0 ? 0 : -1);
      targets.push_back(score.f32()[i]);
    }
    Tensor grad(pred.shape());
    ClassLoss p;
    p.pred = pred.f32();
    p.label = labels.data();
    p.target = targets.data();
    p.grad = grad.f32();
    p.rows = pred.numel();
    p.classes = 1;
    p.alpha = std::stod(f.meta("alpha"));
    p.gamma = std::stod(f.meta("gamma"));
    const double loss = class_loss(p);
    const double expected = f.at("output.loss").item();
    REQUIRE(std::abs(loss - expected) < 1e-6 * expected);
    // Gradients range over 40 decades in the extreme case, so each is compared by itself; below
    // 1e-20 the official log(1 - p) has lost its digits.
    const Tensor& want = f.at("grad.pred_score");
    for (int64_t i = 0; i < grad.numel(); ++i) {
      const double w = want.f32()[i];
      REQUIRE(std::abs(static_cast<double>(grad.f32()[i]) - w) <= 2e-6 * std::abs(w) + 1e-27);
    }
  }
}

TEST_CASE("class loss gradients are those of the losses") {
  for (const ClassLossType type : kClassLossTypes)
    for (const double gamma : {2.0, 1.5}) {
      CAPTURE(name_of(type), gamma);
      ClassLossCase scores(9, 5, 1, 0.05, 0.95);
      ClassLossCase logits(9, 5, 2, -4, 4);
      for (ClassLossCase* k : {&scores, &logits}) {
        k->p.type = type;
        k->p.gamma = gamma;
        k->p.alpha = 0.3;
        k->p.epsilon = 0.7;
        k->p.grad_scale = 0.25;
      }
      REQUIRE(gradient_error(scores, 0x1p-12f, class_loss) < 1e-5);
      REQUIRE(gradient_error(logits, 0x1p-7f, class_loss_logits) < 1e-4);
    }
}

TEST_CASE("class weights multiply the terms of their class and their gradients") {
  const std::vector<float> weights = {2.5f, 1.0f, 0.0f, 0.25f};
  for (const ClassLossType type : kClassLossTypes)
    for (const bool logits : {false, true}) {
      CAPTURE(name_of(type), logits);
      const auto loss = [&](const ClassLoss& p) {
        return logits ? class_loss_logits(p) : class_loss(p);
      };
      // A weight of one class alone is what it adds to the loss.
      ClassLossCase k(120, 4, 9, logits ? -6 : 0.05, logits ? 6 : 0.95);
      k.p.type = type;
      const double plain = loss(k.p);
      const std::vector<float> grad = k.grad;
      double want = 0;
      for (size_t c = 0; c < weights.size(); ++c) {
        std::vector<float> one(4, 0.0f);
        one[c] = 1;
        k.p.class_weights = one.data();
        const double part = loss(k.p);
        REQUIRE(part > 0);
        want += static_cast<double>(weights[c]) * part;
      }
      k.p.class_weights = weights.data();
      REQUIRE(loss(k.p) == Approx(want).epsilon(1e-6));
      REQUIRE(std::abs(want - plain) > 0.01 * plain);
      for (size_t i = 0; i < grad.size(); ++i)
        REQUIRE(k.grad[i] == Approx(weights[i % 4] * grad[i]).epsilon(1e-5).margin(1e-12));
      k.p.grad = nullptr;
      REQUIRE(loss(k.p) == Approx(want).epsilon(1e-6));
    }
}

TEST_CASE("class losses on logits equal their definition in double") {
  for (const ClassLossType type : kClassLossTypes)
    for (const double gamma : {2.0, 1.5})
      for (const int64_t classes : {1, 3, 80}) {
        CAPTURE(name_of(type), gamma, classes);
        ClassLossCase k(700, classes, 3, -12, 12);
        k.p.type = type;
        k.p.gamma = gamma;
        const double want = plain_logits(k.p);
        REQUIRE(std::abs(class_loss_logits(k.p) - want) < 1e-6 * want);
        k.p.grad = nullptr;
        REQUIRE(std::abs(class_loss_logits(k.p) - want) < 1e-6 * want);
      }
}

TEST_CASE("poly without its polynomial is binary cross-entropy") {
  ClassLossCase k(40, 3, 8, -5, 5);
  k.p.type = ClassLossType::kPoly;
  k.p.epsilon = 0.0;
  class_loss_logits(k.p);
  for (int64_t r = 0; r < 40; ++r)
    for (int64_t c = 0; c < 3; ++c) {
      const double prob = 1 / (1 + std::exp(-static_cast<double>(k.pred[r * 3 + c])));
      const double want = prob - (k.label[r] == c ? k.target[r] : 0.0);
      REQUIRE(static_cast<double>(k.grad[r * 3 + c]) == Approx(want).margin(1e-6));
    }
}

TEST_CASE("class losses have names") {
  for (const ClassLossType type : kClassLossTypes)
    REQUIRE(from_name<ClassLossType>(name_of(type)) == type);
  REQUIRE(test::error_of([] { from_name<ClassLossType>("hinge"); }).find("hinge") !=
          std::string::npos);
}

TEST_CASE("class losses on logits agree with the form on probabilities") {
  for (const ClassLossType type : kClassLossTypes) {
    CAPTURE(name_of(type));
    ClassLossCase logits(50, 4, 4, -6, 6);
    logits.p.type = type;
    ClassLossCase scores(50, 4, 4, -6, 6);
    scores.p.type = type;
    for (float& v : scores.pred) v = 1.0f / (1.0f + std::exp(-v));
    const double a = class_loss_logits(logits.p);
    const double b = class_loss(scores.p);
    REQUIRE(std::abs(a - b) < 1e-5 * b);
    for (size_t i = 0; i < logits.pred.size(); ++i) {
      const double s = scores.pred[i];
      const double chained = static_cast<double>(scores.grad[i]) * s * (1 - s);
      REQUIRE(std::abs(static_cast<double>(logits.grad[i]) - chained) <
              1e-4 * (1 + std::abs(chained)));
    }
  }
}

TEST_CASE("class losses stay finite at certainty") {
  for (const ClassLossType type : kClassLossTypes) {
    CAPTURE(name_of(type));
    ClassLossCase k(2, 8, 5, 0, 1);
    k.p.type = type;
    k.label = {1, -1};
    k.target = {0.5, 0.0};
    k.pred = {0, 1, 1, 0, 1e-38f, 0, 1, 0, 0, 1, 0, 1, 0, 1, 0, 1};
    k.link();
    REQUIRE(std::isfinite(class_loss(k.p)));
    for (const float g : k.grad) REQUIRE(std::isfinite(g));

    std::vector<float> z = {-1000, -200, -100, -88, 88, 100, 200, 1000};
    z.insert(z.end(), z.begin(), z.end());
    k.pred = z;
    k.label = {7, 0};
    k.target = {1.0, 0.25};
    k.link();
    const double loss = class_loss_logits(k.p);
    const double want = plain_logits(k.p);
    REQUIRE(std::abs(loss - want) < 1e-6 * want);
    for (const float g : k.grad) REQUIRE(std::isfinite(g));
    // For the wrong class varifocal grows along the logit and its gradient tends to alpha.
    if (type != ClassLossType::kVarifocal) continue;
    REQUIRE(k.grad[14] == Approx(0.75));
    REQUIRE(k.grad[0] == 0.0f);
  }
}

TEST_CASE("class losses do not depend on the number of threads") {
  ClassLossCase k(6000, 7, 6, -5, 5);
  const int before = num_threads();
  set_num_threads(1);
  const double one = class_loss_logits(k.p);
  const std::vector<float> grad = k.grad;
  set_num_threads(3);
  const double three = class_loss_logits(k.p);
  set_num_threads(before);
  REQUIRE(one == three);
  REQUIRE(grad == k.grad);
}
