// SPDX-License-Identifier: Apache-2.0
// Batch-norm over the images of several processes.
#include "layers/functional.h"
#include "layers/shared_statistics.h"
#include "support/support.h"
#include "support/thread_processes.h"

namespace {

using namespace sextant;

constexpr int64_t kChannels = 21;  // not a multiple of a vector

// What one process has in the end: of the images [begin, end), and the parameters' gradients.
struct Result {
  Tensor y, dx;
  std::vector<Tensor> parameters;  // gradients
  std::vector<Tensor> running;
};

Tensor images(const Tensor& all, Share s) {
  const int64_t each = all.numel() / all.dim(0);
  Tensor out(Shape{s.size(), all.dim(1), all.dim(2), all.dim(3)});
  std::copy_n(all.f32() + s.begin * each, s.size() * each, out.f32());
  return out;
}

std::vector<BatchNormState> fresh_norms(int n) {
  std::vector<BatchNormState> norms;
  for (int b = 0; b < n; ++b) {
    const auto seed = static_cast<uint64_t>(10 + b);
    norms.push_back({Variable(test::random_tensor(Shape{kChannels}, seed, 0.5, 1.5), true),
                     Variable(test::random_tensor(Shape{kChannels}, seed + 20), true),
                     Tensor::zeros(Shape{kChannels}), Tensor::full(Shape{kChannels}, 1.0f)});
  }
  return norms;
}

Result run_block(const Tensor& x, const Tensor& dy, Communicator* across) {
  const Variable in(x, true);
  const Variable w3(test::random_tensor(Shape{kChannels, 3, 3, kChannels}, 3, -0.1, 0.1), true);
  const Variable w1(test::random_tensor(Shape{kChannels, 1, 1, kChannels}, 4), true);
  const auto norms = fresh_norms(3), after = fresh_norms(1);
  Variable y;
  {
    const SharedStatistics scope(across);
    y = rep_vgg(in, w3, w1, norms, 1, Activation::kSiLU, {});
    y = batch_norm(y, after[0], {});
  }
  backward({{y, dy}});
  Result r{y.data(), in.grad(), {w3.grad(), w1.grad()}, {}};
  for (const auto& list : {norms, after})
    for (const BatchNormState& n : list) {
      r.parameters.push_back(n.gamma.grad());
      r.parameters.push_back(n.beta.grad());
      r.running.push_back(n.running_mean);
      r.running.push_back(n.running_var);
    }
  return r;
}

double difference(const Tensor& part, const Tensor& whole, Share s) {
  return test::max_difference(part, images(whole, s));
}

}  // namespace

TEST_CASE("shared statistics: the parts of a batch are normalized as the whole") {
  const int64_t n = 5;
  const Tensor x = test::random_tensor(Shape{n, 4, 3, kChannels}, 1, -1, 3);
  const Tensor dy = test::random_tensor(Shape{n, 4, 3, kChannels}, 2);
  const Result whole = run_block(x, dy, nullptr);
  for (const int count : {2, 3, 5}) {
    INFO(count << " processes");
    std::vector<Result> parts(static_cast<size_t>(count));
    std::vector<int64_t> sums(static_cast<size_t>(count));
    test::on_processes(count, [&](test::ThreadCommunicator& all) {
      const Share s = share_of(n, all.rank(), count);
      const auto rank = static_cast<size_t>(all.rank());
      parts[rank] = run_block(images(x, s), images(dy, s), &all);
      sums[rank] = all.sums;
    });
    for (int rank = 0; rank < count; ++rank) {
      const Share s = share_of(n, rank, count);
      const Result& part = parts[static_cast<size_t>(rank)];
      CHECK(difference(part.y, whole.y, s) < 1e-5);
      CHECK(difference(part.dx, whole.dx, s) < 1e-4);
      for (size_t i = 0; i < whole.running.size(); ++i)
        CHECK(test::max_difference(part.running[i], whole.running[i]) < 1e-6);
      CHECK(sums[static_cast<size_t>(rank)] == 4);  // one a layer and direction
    }
    for (size_t i = 0; i < whole.parameters.size(); ++i) {
      Tensor sum = Tensor::zeros(whole.parameters[i].shape());
      for (const Result& part : parts)
        for (int64_t k = 0; k < sum.numel(); ++k) sum.f32()[k] += part.parameters[i].f32()[k];
      INFO("parameter " << i);
      CHECK(test::max_difference(sum, whole.parameters[i]) < 1e-3);
    }
  }
}

TEST_CASE("shared statistics: a process without images changes nothing") {
  const Tensor x = test::random_tensor(Shape{3, 4, 3, kChannels}, 1);
  const Tensor dy = test::random_tensor(Shape{3, 4, 3, kChannels}, 2);
  const Result whole = run_block(x, dy, nullptr);
  std::vector<Result> parts(2);
  test::on_processes(2, [&](Communicator& all) {
    WithoutImages without(all);
    parts[static_cast<size_t>(all.rank())] =
        all.rank() == 0 ? run_block(x, dy, &all)
                        : run_block(x, Tensor::zeros(dy.shape()), &without);
  });
  CHECK(test::max_difference(parts[0].y, whole.y) < 1e-6);
  CHECK(test::max_difference(parts[0].dx, whole.dx) < 1e-6);
  for (size_t i = 0; i < whole.running.size(); ++i)
    for (const Result& part : parts)
      CHECK(test::max_difference(part.running[i], whole.running[i]) < 1e-6);
  for (size_t i = 0; i < whole.parameters.size(); ++i)
    CHECK(test::max_difference(parts[0].parameters[i], whole.parameters[i]) < 1e-4);
}

TEST_CASE("shared statistics: a scope of nobody, and one image of one pixel for each") {
  const Tensor x = test::random_tensor(Shape{2, 1, 1, kChannels}, 5);
  const auto normalize = [](const Tensor& part, Communicator* across) {
    const SharedStatistics scope(across);
    return batch_norm(Variable(part), fresh_norms(1)[0], {}).data();
  };
  CHECK(test::error_of([&] {
          normalize(images(x, {0, 1}), nullptr);
        }).find("needs two") != std::string::npos);
  const Tensor whole = normalize(x, nullptr);
  test::on_processes(2, [&](Communicator& all) {
    const Share s = share_of(2, all.rank(), 2);
    const double d = difference(normalize(images(x, s), &all), whole, s);
    check(d < 1e-6, "differs by {}", d);
  });
}
