// SPDX-License-Identifier: Apache-2.0
// Sums with a factor, including subtraction: folded into one convolution, turned into a residual or
// left alone, with the right sign, in floats and integers; and imported from ONNX.
#include "deploy/engine/engine.h"
#include "deploy/networks.h"
#include "deploy/onnx/export.h"
#include "deploy/onnx/import.h"

using namespace sextant;
using namespace sextant::deploy;

namespace {

class Sums;

// A sum of what the layers give, with the factor on its second part.
struct Form {
  const char* name;
  Variable (*sum)(const Sums&, const Variable& y, const Variable& factor);
  size_t nodes;            // of the fused graph, image and stem included
  bool never_negative;     // for a factor above 0
  bool rectified = false;  // never negative for any factor
};

class Sums : public Module {
 public:
  explicit Sums(const Form& form, float factor) : form_(form), factor_(factor) {
    Rng rng(3);
    const auto conv = [&](const char* name, int64_t in, int64_t kernel) {
      return register_module(
          name, std::make_shared<Conv2d>(in, 6, kernel, ConvParams{1, kernel / 2, 1}, true, rng));
    };
    stem_ = conv("stem", 3, 3);
    small = conv("small", 6, 1);
    large = conv("large", 6, 3);
    test::randomize(*this, 5);
    train(false);
  }
  Variable predict(const Variable& image) const {
    return form_.sum(*this, relu(stem_->forward(image)), Variable(Tensor::full(Shape{1}, factor_)));
  }
  std::shared_ptr<Conv2d> small, large;

 private:
  Form form_;
  float factor_;
  std::shared_ptr<Conv2d> stem_;
};

using V = const Variable&;
const std::vector<Form> kForms = {
    {"x + f conv(x)", [](const Sums& s, V y, V f) { return add(y, s.large->forward(y), f); }, 3,
     false},
    {"conv(x) + f x", [](const Sums& s, V y, V f) { return add(s.large->forward(y), y, f); }, 3,
     false},
    {"conv(x) + f conv(x)",
     [](const Sums& s, V y, V f) { return add(s.small->forward(y), s.large->forward(y), f); }, 3,
     false},
    {"conv(a) + f b",
     [](const Sums& s, V y, V f) { return add(s.small->forward(y), relu(s.large->forward(y)), f); },
     4, false},
    {"relu(conv(a) + f b)",
     [](const Sums& s, V y, V f) {
       return relu(add(s.small->forward(y), relu(s.large->forward(y)), f));
     },
     4, true, true},
    {"relu(conv(a)) + f b",
     [](const Sums& s, V y, V f) {
       return add(relu(s.small->forward(y)), relu(s.large->forward(y)), f);
     },
     4, true},
    {"a + f conv(b)",
     [](const Sums& s, V y, V f) { return add(y, s.small->forward(relu(s.large->forward(y))), f); },
     5, false},
    {"a + f b, both read twice",
     [](const Sums& s, V y, V f) {
       const Variable z = relu(s.large->forward(y));
       return concat({add(y, z, f), y, z});
     },
     5, true}};

Tensor value_of(const Sums& net, const Tensor& images) {
  const NoGrad no_grad;
  return net.predict(Variable(test::as_float_images(images))).data();
}

const Tensor& sum_images() {
  static const Tensor t = test::random_images({1, 8, 10, 3}, 7);
  return t;
}

}  // namespace

TEST_CASE("sums keep the sign of their factor when they are folded, and in integers") {
  const float factor = GENERATE(-1.0f, -0.4f, 0.7f);
  for (const Form& form : kForms) {
    CAPTURE(form.name, factor);
    const Sums net(form, factor);
    const Tensor expected = value_of(net, sum_images());
    const Graph g = fuse(test::traced(net, {1, 8, 10, 3}));
    CHECK(g.nodes.size() == form.nodes);
    CHECK(test::relative_difference(Engine(g, {1, 8, 10}).run(sum_images()), expected) < 1e-5);
    Engine int8(test::with_ranges(g, sum_images()), {1, 8, 10, Precision::kInt8});
    CHECK(test::relative_difference(int8.run(sum_images()), expected) < 0.03);
  }
}

TEST_CASE("a sum is unsigned only if all terms are never negative and have positive factors") {
  const float factor = GENERATE(-1.0f, -0.4f, 0.0f, 0.7f);
  for (const Form& form : kForms) {
    CAPTURE(form.name, factor);
    Graph g = fuse(test::traced(Sums(form, factor), {1, 8, 10, 3}));
    const bool expected = form.rectified || (form.never_negative && factor >= 0);
    const auto is_unsigned = [&] { return g.tensors[static_cast<size_t>(g.output)].is_unsigned; };
    unify_ranges(g);
    CHECK(is_unsigned() == expected);
    separate_ranges(g);
    CHECK(is_unsigned() == expected);
  }
}

TEST_CASE("a subtraction in an ONNX file, of a convolution and from one") {
  for (const Form& form : kForms) {
    if (form.nodes == 3) continue;  // nothing is left to subtract
    CAPTURE(form.name);
    OnnxOptions options;
    options.height = 8, options.width = 10;
    std::string bytes = to_onnx(fuse(test::traced(Sums(form, 1.0f), {1, 8, 10, 3})), options);
    // The operator's type: the field of number 4, three bytes long.
    const std::string from = "\x22\x03" + std::string("Add"), to = "\x22\x03" + std::string("Sub");
    const size_t at = bytes.find(from);
    REQUIRE(at != std::string::npos);
    REQUIRE(bytes.find(from, at + 1) == std::string::npos);
    bytes.replace(at, from.size(), to);
    const Graph g = from_onnx(bytes, "sub.onnx");
    CHECK(test::relative_difference(Engine(g, {1, 8, 10}).run(sum_images()),
                                    value_of(Sums(form, -1.0f), sum_images())) < 1e-5);
  }
}
