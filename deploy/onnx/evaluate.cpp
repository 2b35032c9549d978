// SPDX-License-Identifier: Apache-2.0
#include "deploy/onnx/evaluate.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <set>

#include "core/error.h"
#include "core/half.h"
#include "core/text.h"

namespace sextant::deploy {
namespace {

using Dims = std::vector<int64_t>;

// Limits for one array and for all: a detector for 1280 pixels and 80 classes has arrays of 3
// million values.
constexpr int64_t kMaxElements = int64_t{1} << 24;
constexpr int64_t kMaxAllElements = int64_t{1} << 26;
constexpr int64_t kMaxIntegers = 64;

int64_t product(const Dims& dims, size_t begin = 0, size_t end = 64) {
  int64_t n = 1;
  for (size_t d = begin; d < std::min(end, dims.size()); ++d) {
    check(dims[d] >= 0 && dims[d] <= kMaxElements, "absurd dimension {}", dims[d]);
    n *= dims[d];
    check(n <= kMaxElements, "absurd size");
  }
  return n;
}

// Strides in elements, one per dimension.
Dims strides_of(const Dims& dims) {
  Dims s(dims.size(), 1);
  for (size_t d = dims.size(); d-- > 1;) s[d - 1] = s[d] * dims[d];
  return s;
}

// "To the end" is written as a very large number.
int64_t integer_of(double v) {
  check(!std::isnan(v), "uses NaN as an integer");
  return static_cast<int64_t>(std::clamp(v, -0x1p50, 0x1p50));
}

size_t axis_of(int64_t axis, size_t rank) {
  const int64_t a = axis < 0 ? axis + static_cast<int64_t>(rank) : axis;
  check(a >= 0 && a < static_cast<int64_t>(rank), "axis {} is out of range for {} dimensions", axis,
        rank);
  return static_cast<size_t>(a);
}

// Calls f(i, source) for every element i of `dims`, source = offset + sum of index * stride.
template <class F>
void walk(const Dims& dims, const Dims& strides, int64_t offset, const F& f) {
  const int64_t n = product(dims);
  Dims index(dims.size(), 0);
  int64_t source = offset;
  for (int64_t i = 0; i < n; ++i) {
    f(static_cast<size_t>(i), static_cast<size_t>(source));
    for (size_t d = dims.size(); d-- > 0;) {
      source += strides[d];
      if (++index[d] < dims[d]) break;
      source -= strides[d] * dims[d];
      index[d] = 0;
    }
  }
}

// Gathers the elements of `from` that a walk visits.
OnnxArray taken(const OnnxArray& from, const Dims& dims, const Dims& strides, int64_t offset = 0) {
  OnnxArray y{dims, std::vector<double>(static_cast<size_t>(product(dims))), from.whole};
  walk(dims, strides, offset, [&](size_t i, size_t s) { y.values[i] = from.values[s]; });
  return y;
}

Dims broadcast(const Dims& a, const Dims& b) {
  Dims out(std::max(a.size(), b.size()), 1);
  for (const Dims* dims : {&a, &b})
    for (size_t d = 0; d < dims->size(); ++d) {
      int64_t& o = out[out.size() - dims->size() + d];
      const int64_t v = (*dims)[d];
      check(o == 1 || v == 1 || o == v, "sizes {} and {} differ", o, v);
      if (o == 1) o = v;
    }
  return out;
}

// Strides of `dims` when broadcast to `as`.
Dims repeated(const Dims& dims, const Dims& as) {
  const Dims s = strides_of(dims);
  Dims out(as.size(), 0);
  for (size_t d = 0; d < dims.size(); ++d)
    if (dims[d] != 1) out[as.size() - dims.size() + d] = s[d];
  return out;
}

OnnxArray expanded(const OnnxArray& x, const Dims& as) {
  return x.dims == as ? x : taken(x, as, repeated(x.dims, as));
}

}  // namespace

OnnxArray array_of(const OnnxConstant& c) {
  OnnxArray a{c.dims(), {}, c.integers()};
  check(c.numel() <= kMaxElements, "has {} values, too many to compute with", c.numel());
  if (c.integers())
    for (const int64_t v : c.ints()) a.values.push_back(static_cast<double>(v));
  else
    for (const float v : c.floats()) a.values.push_back(v);
  return a;
}

OnnxArray array_of(std::vector<int64_t> dims, const std::vector<float>& values) {
  check(std::ssize(values) <= kMaxElements, "has {} values, too many to compute with",
        values.size());
  return {std::move(dims), {values.begin(), values.end()}};
}

std::vector<int64_t> part_of_shape(const std::vector<int64_t>& dims, int64_t start, int64_t end) {
  const auto index = [&](int64_t v) {
    return std::clamp<int64_t>(v < 0 ? v + std::ssize(dims) : v, 0, std::ssize(dims));
  };
  if (index(start) >= index(end)) return {};
  return {dims.begin() + index(start), dims.begin() + index(end)};
}

std::vector<int64_t> equal_parts(int64_t size, int64_t parts, bool last_smaller) {
  check(parts > 0 && (last_smaller || size % parts == 0), "{} channels do not split into {} parts",
        size, parts);
  const int64_t each = (size + parts - 1) / parts;
  Dims sizes(static_cast<size_t>(parts), each);
  sizes.back() = size - each * (parts - 1);
  return sizes;
}

OnnxArray zeros_array(std::vector<int64_t> dims) {
  const auto n = static_cast<size_t>(product(dims));
  return {std::move(dims), std::vector<double>(n)};
}

// ---- values, and inputs and attributes of a node

void OnnxEvaluator::set(const std::string& name, OnnxArray array) {
  check(product(array.dims) == std::ssize(array.values), "{} values do not match its shape",
        array.values.size());
  check(std::ssize(array.dims) <= kMaxIntegers, "{} dimensions", array.dims.size());
  elements_ += std::ssize(array.values);
  check(elements_ <= kMaxAllElements, "has more values than the end of a detector needs");
  check(values_.emplace(name, std::move(array)).second, "'{}' is made twice", excerpt(name));
}

void OnnxEvaluator::set(const onnx::TensorProto& constant) {
  set(constant.name(), array_of(OnnxConstant(constant)));
}

const OnnxArray* OnnxEvaluator::find(const std::string& name) const {
  const auto found = values_.find(name);
  return found == values_.end() ? nullptr : &found->second;
}

bool OnnxEvaluator::has(int i) const { return i < now_->input_size() && !now_->input(i).empty(); }

const OnnxArray& OnnxEvaluator::in(int i) const {
  reads_.inputs.insert(i);
  check(has(i), "input {} is missing", i);
  const OnnxArray* found = find(now_->input(i));
  check(found != nullptr, "reads '{}', whose value is unknown", excerpt(now_->input(i)));
  return *found;
}

void OnnxEvaluator::out(OnnxArray array, int i) {
  check(i < now_->output_size(), "output {} is missing", i);
  set(now_->output(i), std::move(array));
}

const onnx::AttributeProto* OnnxEvaluator::attribute(const char* name) const {
  reads_.attributes.insert(name);
  for (const onnx::AttributeProto& a : now_->attribute())
    if (a.name() == name) return &a;
  return nullptr;
}

int64_t OnnxEvaluator::integer(const char* name, int64_t standard) const {
  const onnx::AttributeProto* a = attribute(name);
  return a ? a->i() : standard;
}

Dims OnnxEvaluator::integers_of(const OnnxArray& array) {
  check(std::ssize(array.values) <= kMaxIntegers, "{} integers", array.values.size());
  Dims out;
  for (const double v : array.values) out.push_back(integer_of(v));
  return out;
}

Dims OnnxEvaluator::integers(const char* name, int i) const {
  if (const onnx::AttributeProto* a = attribute(name)) {
    check(a->ints_size() <= kMaxIntegers, "{} has {} integers", name, a->ints_size());
    return {a->ints().begin(), a->ints().end()};
  }
  return has(i) ? integers_of(in(i)) : Dims{};
}

// ---- element by element

template <class F>
void OnnxEvaluator::binary(const F& f) {
  const Dims dims = broadcast(in(0).dims, in(1).dims);
  OnnxArray y = expanded(in(0), dims);
  y.whole = in(0).whole && in(1).whole;
  const OnnxArray& b = in(1);
  walk(dims, repeated(b.dims, dims), 0,
       [&](size_t i, size_t s) { y.values[i] = f(y.values[i], b.values[s]); });
  out(std::move(y));
}

template <class F>
void OnnxEvaluator::unary(const F& f) {
  OnnxArray y = in(0);
  for (double& v : y.values) v = f(v);
  out(std::move(y));
}

void OnnxEvaluator::add() {
  binary([](double a, double b) { return a + b; });
}
void OnnxEvaluator::subtract() {
  binary([](double a, double b) { return a - b; });
}
void OnnxEvaluator::multiply() {
  binary([](double a, double b) { return a * b; });
}
void OnnxEvaluator::divide() {
  const bool whole = in(0).whole && in(1).whole;
  binary([whole](double a, double b) {
    check(b != 0, "divides by zero");
    return whole ? std::trunc(a / b) : a / b;
  });
}
void OnnxEvaluator::power() {
  binary([](double a, double b) { return std::pow(a, b); });
}
void OnnxEvaluator::equal() {
  binary([](double a, double b) { return a == b ? 1.0 : 0.0; });
}
void OnnxEvaluator::minimum() {
  check(now_->input_size() == 2, "is only supported with two inputs");
  binary([](double a, double b) { return std::min(a, b); });
}
void OnnxEvaluator::maximum() {
  check(now_->input_size() == 2, "is only supported with two inputs");
  binary([](double a, double b) { return std::max(a, b); });
}
void OnnxEvaluator::clip() {
  check(now_->input_size() == 3 && in(1).values.size() == 1 && in(2).values.size() == 1,
        "is only supported with both limits as inputs");
  const double low = in(1).values[0], high = in(2).values[0];
  unary([&](double v) { return std::min(std::max(v, low), high); });
}
void OnnxEvaluator::negate() {
  unary([](double v) { return -v; });
}
void OnnxEvaluator::square_root() {
  unary([](double v) { return std::sqrt(v); });
}
void OnnxEvaluator::round_down() {
  unary([](double v) { return std::floor(v); });
}
void OnnxEvaluator::round_up() {
  unary([](double v) { return std::ceil(v); });
}
void OnnxEvaluator::sigmoid() {
  unary([](double v) { return 1 / (1 + std::exp(-v)); });
}
void OnnxEvaluator::exponential() {
  unary([](double v) { return std::exp(v); });
}

void OnnxEvaluator::where() {
  const Dims dims = broadcast(in(0).dims, broadcast(in(1).dims, in(2).dims));
  const OnnxArray choice = expanded(in(0), dims), no = expanded(in(2), dims);
  OnnxArray y = expanded(in(1), dims);
  for (size_t i = 0; i < y.values.size(); ++i)
    if (choice.values[i] == 0) y.values[i] = no.values[i];
  out(std::move(y));
}

void OnnxEvaluator::cast() {
  using onnx::TensorProto;
  const int64_t to = integer("to", 0);
  attribute("saturate");  // of 8-bit floats
  OnnxArray y = in(0);
  y.whole = to == TensorProto::INT64 || to == TensorProto::INT32;
  check(y.whole || to == TensorProto::FLOAT || to == TensorProto::DOUBLE ||
            to == TensorProto::FLOAT16 || to == TensorProto::BOOL,
        "a cast to type {} is not supported", to);
  const double most = to == TensorProto::INT32 ? 0x1p31 : 0x1p62;
  for (double& v : y.values) {
    if (y.whole) {
      v = std::trunc(v);
      check(in(0).whole || (v >= -most && v < most), "casts {} to an integer", v);
    } else if (to == TensorProto::BOOL) {
      v = v != 0;
    } else if (to == TensorProto::FLOAT16) {
      v = to_float(to_half(static_cast<float>(v)));
    } else if (to == TensorProto::FLOAT) {
      v = static_cast<float>(v);
    }
  }
  out(std::move(y));
}

void OnnxEvaluator::identity() { out(in(0)); }

void OnnxEvaluator::softmax() {
  OnnxArray y = in(0);
  const int64_t standard = opset_ < 13 ? 1 : -1;
  const size_t axis = axis_of(integer("axis", standard), y.dims.size());
  check(opset_ >= 13 || axis + 1 == y.dims.size(),
        "a softmax over several dimensions is not supported");
  const size_t n = static_cast<size_t>(y.dims[axis]);
  const size_t inner = static_cast<size_t>(product(y.dims, axis + 1));
  for (size_t begin = 0; begin < y.values.size(); begin += n * inner)
    for (size_t i = begin; i < begin + inner; ++i) {
      double top = y.values[i], sum = 0;
      for (size_t k = 0; k < n; ++k) top = std::max(top, y.values[i + k * inner]);
      for (size_t k = 0; k < n; ++k)
        sum += y.values[i + k * inner] = std::exp(y.values[i + k * inner] - top);
      for (size_t k = 0; k < n; ++k) y.values[i + k * inner] /= sum;
    }
  out(std::move(y));
}

// A product with a vector or a single matrix.
void OnnxEvaluator::matmul() {
  const OnnxArray &a = in(0), &b = in(1);
  check(!a.dims.empty() && (b.dims.size() == 1 || b.dims.size() == 2) && a.dims.back() == b.dims[0],
        "a product of these shapes is not supported");
  const int64_t k = b.dims[0], m = b.dims.size() == 2 ? b.dims[1] : 1;
  OnnxArray y;
  y.dims = a.dims;
  y.dims.pop_back();
  if (b.dims.size() == 2) y.dims.push_back(m);
  check(k > 0 && product(y.dims) * k <= 4 * kMaxElements, "absurd size");
  for (int64_t r = 0; r < std::ssize(a.values) / k; ++r)
    for (int64_t c = 0; c < m; ++c) {
      double sum = 0;
      for (int64_t i = 0; i < k; ++i)
        sum += a.values[static_cast<size_t>(r * k + i)] * b.values[static_cast<size_t>(i * m + c)];
      y.values.push_back(sum);
    }
  out(std::move(y));
}

// A 1x1 convolution to one channel: the projection of a distribution of distances.
void OnnxEvaluator::conv() {
  const OnnxArray &x = in(0), &w = in(1);
  check(!has(2) && x.dims.size() == 4 && w.dims.size() == 4 && w.dims[0] == 1 && w.dims[2] == 1 &&
            w.dims[3] == 1 && w.dims[1] == x.dims[1],
        "a convolution is only supported as the projection of a distribution");
  for (const char* name : {"group", "kernel_shape", "auto_pad"}) attribute(name);  // follow from it
  for (const char* name : {"strides", "dilations"})
    for (const int64_t v : integers(name, 9)) check(v == 1, "{} of {} is not supported", name, v);
  for (const int64_t v : integers("pads", 9)) check(v == 0, "padding of {} is not supported", v);
  const int64_t channels = x.dims[1], pixels = x.dims[2] * x.dims[3];
  OnnxArray y{{x.dims[0], 1, x.dims[2], x.dims[3]}, {}};
  for (int64_t n = 0; n < x.dims[0]; ++n)
    for (int64_t p = 0; p < pixels; ++p) {
      double sum = 0;
      for (int64_t c = 0; c < channels; ++c)
        sum += w.values[static_cast<size_t>(c)] *
               x.values[static_cast<size_t>((n * channels + c) * pixels + p)];
      y.values.push_back(sum);
    }
  out(std::move(y));
}

// ---- shapes

void OnnxEvaluator::reshape() {
  OnnxArray y = in(0);
  const Dims before = y.dims;
  y.dims = integers("shape", 1);
  const bool zeros = integer("allowzero", 0) != 0;
  int64_t open = -1, known = 1;
  for (size_t d = 0; d < y.dims.size(); ++d) {
    if (y.dims[d] == 0 && !zeros) {
      check(d < before.size(), "copies dimension {}, which its input does not have", d);
      y.dims[d] = before[d];
    }
    if (y.dims[d] == -1) {
      check(open < 0, "has two unknown dimensions");
      open = static_cast<int64_t>(d);
      y.dims[d] = 1;
    }
    check(y.dims[d] >= 0 && y.dims[d] <= kMaxElements, "absurd dimension {}", y.dims[d]);
  }
  known = product(y.dims);
  if (open >= 0) {
    check(known > 0 && std::ssize(y.values) % known == 0, "{} values do not fit", y.values.size());
    y.dims[static_cast<size_t>(open)] = std::ssize(y.values) / known;
  }
  out(std::move(y));
}

void OnnxEvaluator::flatten() {
  OnnxArray y = in(0);
  const int64_t axis = integer("axis", 1);
  const size_t a = axis == std::ssize(y.dims) ? y.dims.size() : axis_of(axis, y.dims.size());
  y.dims = {product(y.dims, 0, a), product(y.dims, a)};
  out(std::move(y));
}

void OnnxEvaluator::squeeze() {
  OnnxArray y = in(0);
  std::set<size_t> axes;
  for (const int64_t a : integers("axes", 1)) axes.insert(axis_of(a, y.dims.size()));
  Dims dims;
  for (size_t d = 0; d < y.dims.size(); ++d) {
    const bool drop = axes.empty() ? y.dims[d] == 1 : axes.contains(d);
    check(!drop || y.dims[d] == 1, "drops a dimension of size {}", y.dims[d]);
    if (!drop) dims.push_back(y.dims[d]);
  }
  y.dims = dims;
  out(std::move(y));
}

void OnnxEvaluator::unsqueeze() {
  OnnxArray y = in(0);
  const Dims given = integers("axes", 1);
  const size_t rank = y.dims.size() + given.size();
  std::set<size_t> axes;
  for (const int64_t a : given) axes.insert(axis_of(a, rank));
  check(axes.size() == given.size(), "adds a dimension twice");
  for (const size_t a : axes) y.dims.insert(y.dims.begin() + static_cast<std::ptrdiff_t>(a), 1);
  out(std::move(y));
}

void OnnxEvaluator::transpose() {
  const OnnxArray& x = in(0);
  Dims perm = integers("perm", 9);
  if (perm.empty())
    for (size_t d = x.dims.size(); d-- > 0;) perm.push_back(static_cast<int64_t>(d));
  check(perm.size() == x.dims.size(), "{} dimensions, {} in its order", x.dims.size(), perm.size());
  const Dims s = strides_of(x.dims);
  Dims dims, strides;
  std::set<size_t> seen;
  for (const int64_t p : perm) {
    const size_t d = axis_of(p, x.dims.size());
    check(seen.insert(d).second, "dimension {} appears twice", d);
    dims.push_back(x.dims[d]);
    strides.push_back(s[d]);
  }
  out(taken(x, dims, strides));
}

void OnnxEvaluator::concat() {
  check(now_->input_size() > 0, "has no inputs");
  OnnxArray y{in(0).dims, {}, in(0).whole};
  const size_t axis = axis_of(integer("axis", 0), y.dims.size());
  y.dims[axis] = 0;
  for (int i = 0; i < now_->input_size(); ++i) {
    Dims d = in(i).dims;
    check(d.size() == y.dims.size(), "concatenates tensors of different ranks");
    y.dims[axis] += d[axis];
    d[axis] = y.dims[axis];
    check(d == y.dims, "concatenates shapes that do not match");
    y.whole = y.whole && in(i).whole;
  }
  const int64_t outer = product(y.dims, 0, axis);
  product(y.dims);
  for (int64_t o = 0; o < outer; ++o)
    for (int i = 0; i < now_->input_size(); ++i) {
      const int64_t run = product(in(i).dims, axis);
      const auto begin = in(i).values.begin() + o * run;
      y.values.insert(y.values.end(), begin, begin + run);
    }
  out(std::move(y));
}

void OnnxEvaluator::slice() {
  const OnnxArray& x = in(0);
  const Dims starts = integers("starts", 1), ends = integers("ends", 2);
  Dims axes = integers("axes", 3);
  const Dims steps = has(4) ? integers_of(in(4)) : Dims(starts.size(), 1);
  if (axes.empty())
    for (size_t d = 0; d < starts.size(); ++d) axes.push_back(static_cast<int64_t>(d));
  check(
      starts.size() == ends.size() && starts.size() == axes.size() && starts.size() == steps.size(),
      "starts, ends and axes differ in number");
  Dims dims = x.dims, strides = strides_of(x.dims);
  int64_t offset = 0;
  std::set<size_t> seen;
  for (size_t k = 0; k < axes.size(); ++k) {
    const size_t d = axis_of(axes[k], dims.size());
    check(seen.insert(d).second && steps[k] >= 1,
          "step {} is not supported, or an axis appears twice", steps[k]);
    const int64_t size = x.dims[d];
    const auto index = [&](int64_t v) {
      return std::clamp<int64_t>(v < 0 ? v + size : v, 0, size);
    };
    const int64_t begin = index(starts[k]), end = index(ends[k]);
    dims[d] = std::max<int64_t>(0, (end - begin + steps[k] - 1) / steps[k]);
    offset += begin * strides[d];
    strides[d] *= std::min(steps[k], std::max<int64_t>(size, 1));
  }
  out(taken(x, dims, strides, offset));
}

void OnnxEvaluator::pad() {
  const OnnxArray& x = in(0);
  const onnx::AttributeProto* mode = attribute("mode");
  check(!mode || mode->s() == "constant", "only constant padding is supported");
  const Dims pads = integers("pads", 1);
  check(!has(3) && pads.size() == 2 * x.dims.size(), "{} pads for {} dimensions", pads.size(),
        x.dims.size());
  OnnxArray y{x.dims, {}, x.whole};
  for (size_t d = 0; d < y.dims.size(); ++d) {
    for (const int64_t p : {pads[d], pads[d + y.dims.size()]}) {
      check(p >= 0 && p <= kMaxElements, "pads by {}", p);
      y.dims[d] += p;
    }
  }
  y.values.assign(static_cast<size_t>(product(y.dims)), has(2) ? in(2).values.at(0) : 0.0);
  const Dims strides = strides_of(y.dims);
  int64_t offset = 0;
  for (size_t d = 0; d < y.dims.size(); ++d) offset += pads[d] * strides[d];
  walk(x.dims, strides, offset, [&](size_t i, size_t s) { y.values[s] = x.values[i]; });
  out(std::move(y));
}

void OnnxEvaluator::split() {
  const OnnxArray x = in(0);
  const size_t axis = axis_of(integer("axis", 0), x.dims.size());
  const int64_t parts = now_->output_size();
  Dims sizes = integers("split", 1);
  check(integer("num_outputs", parts) == parts, "num_outputs is {} of {} outputs",
        integer("num_outputs", parts), parts);
  if (sizes.empty()) sizes = equal_parts(x.dims[axis], parts, attribute("num_outputs") != nullptr);
  check(std::ssize(sizes) == parts &&
            std::ranges::all_of(sizes, [](int64_t s) { return s >= 0; }) &&
            std::accumulate(sizes.begin(), sizes.end(), int64_t{0}) == x.dims[axis],
        "the parts do not add up to {}", x.dims[axis]);
  const Dims strides = strides_of(x.dims);
  int64_t begin = 0;
  for (int p = 0; p < parts; ++p) {
    Dims dims = x.dims;
    dims[axis] = sizes[static_cast<size_t>(p)];
    out(taken(x, dims, strides, begin * strides[axis]), p);
    begin += dims[axis];
  }
}

void OnnxEvaluator::expand() { out(expanded(in(0), broadcast(in(0).dims, integers("shape", 1)))); }

void OnnxEvaluator::gather() {
  const OnnxArray &x = in(0), &index = in(1);
  const size_t axis = axis_of(integer("axis", 0), x.dims.size());
  OnnxArray y{x.dims, {}, x.whole};
  y.dims.erase(y.dims.begin() + static_cast<std::ptrdiff_t>(axis));
  y.dims.insert(y.dims.begin() + static_cast<std::ptrdiff_t>(axis), index.dims.begin(),
                index.dims.end());
  product(y.dims);
  const int64_t inner = product(x.dims, axis + 1), size = x.dims[axis];
  for (int64_t o = 0; o < product(x.dims, 0, axis); ++o)
    for (const double v : index.values) {
      const int64_t i = integer_of(v) + (v < 0 ? size : 0);
      check(i >= 0 && i < size, "index {} is out of range for {} values", v, size);
      const auto begin = x.values.begin() + (o * size + i) * inner;
      y.values.insert(y.values.end(), begin, begin + inner);
    }
  out(std::move(y));
}

void OnnxEvaluator::shape() {
  const Dims dims = part_of_shape(in(0).dims, integer("start", 0), integer("end", kMaxIntegers));
  out({{std::ssize(dims)}, {dims.begin(), dims.end()}, true});
}

void OnnxEvaluator::range() {
  for (int i = 0; i < 3; ++i) check(in(i).values.size() == 1, "its inputs must be scalars");
  const double start = in(0).values[0], delta = in(2).values[0];
  check(delta != 0, "has a step of zero");
  const double count = std::ceil((in(1).values[0] - start) / delta);
  check(count <= static_cast<double>(kMaxElements), "absurd size");
  const auto n = static_cast<int64_t>(std::max(count, 0.0));
  OnnxArray y{{}, {}, in(0).whole && in(2).whole};
  for (int64_t i = 0; i < n; ++i) y.values.push_back(start + static_cast<double>(i) * delta);
  y.dims = {std::ssize(y.values)};
  out(std::move(y));
}

void OnnxEvaluator::constant() {
  if (const onnx::AttributeProto* t = attribute("value")) {
    onnx::TensorProto named = t->t();
    named.set_name(now_->output(0));
    return set(named);
  }
  OnnxArray y;
  const auto *f = attribute("value_float"), *fs = attribute("value_floats"),
             *i = attribute("value_int"), *is = attribute("value_ints");
  check(f || fs || i || is, "has no supported value");
  y.whole = i || is;
  if (f) y.values = {f->f()};
  if (i) y.values = {static_cast<double>(i->i())};
  if (fs) y.values.assign(fs->floats().begin(), fs->floats().end());
  if (is) y.values.assign(is->ints().begin(), is->ints().end());
  if (fs || is) y.dims = {std::ssize(y.values)};
  out(std::move(y));
}

void OnnxEvaluator::constant_of_shape() {
  OnnxArray y;
  y.dims = integers_of(in(0));
  double value = 0;
  if (const onnx::AttributeProto* t = attribute("value")) {
    const OnnxConstant c(t->t());
    value = c.item();
    y.whole = c.integers();
  }
  y.values.assign(static_cast<size_t>(product(y.dims)), value);
  out(std::move(y));
}

const std::map<std::string, OnnxEvaluator::Handler>& OnnxEvaluator::handlers() {
  using E = OnnxEvaluator;
  static const std::map<std::string, Handler> table = {
      {"Add", &E::add},
      {"Cast", &E::cast},
      {"Ceil", &E::round_up},
      {"Clip", &E::clip},
      {"Concat", &E::concat},
      {"Constant", &E::constant},
      {"ConstantOfShape", &E::constant_of_shape},
      {"Conv", &E::conv},
      {"Div", &E::divide},
      {"Equal", &E::equal},
      {"Exp", &E::exponential},
      {"Expand", &E::expand},
      {"Flatten", &E::flatten},
      {"Floor", &E::round_down},
      {"Gather", &E::gather},
      {"Identity", &E::identity},
      {"MatMul", &E::matmul},
      {"Max", &E::maximum},
      {"Min", &E::minimum},
      {"Mul", &E::multiply},
      {"Neg", &E::negate},
      {"Pad", &E::pad},
      {"Pow", &E::power},
      {"Range", &E::range},
      {"Reshape", &E::reshape},
      {"Shape", &E::shape},
      {"Sigmoid", &E::sigmoid},
      {"Slice", &E::slice},
      {"Softmax", &E::softmax},
      {"Split", &E::split},
      {"Sqrt", &E::square_root},
      {"Squeeze", &E::squeeze},
      {"Sub", &E::subtract},
      {"Transpose", &E::transpose},
      {"Unsqueeze", &E::unsqueeze},
      {"Where", &E::where},
  };
  return table;
}

bool OnnxEvaluator::knows(const std::string& type) { return handlers().contains(type); }

int OnnxEvaluator::result_type(const onnx::NodeProto& node, std::span<const int> inputs) {
  using onnx::TensorProto;
  const std::string& op = node.op_type();
  for (const onnx::AttributeProto& a : node.attribute()) {
    if (op == "Cast" && a.name() == "to") return static_cast<int>(a.i());
    if (op == "ConstantOfShape" && a.name() == "value") return a.t().data_type();
  }
  if (op == "ConstantOfShape") return TensorProto::FLOAT;
  if (op == "Shape") return TensorProto::INT64;
  if (op == "Equal") return TensorProto::BOOL;
  return inputs[op == "Where" ? 1 : 0];
}

void OnnxEvaluator::run(const onnx::NodeProto& node) {
  now_ = &node;
  reads_ = {};
  const auto handler = handlers().find(node.op_type());
  check((node.domain().empty() || node.domain() == "ai.onnx") && handler != handlers().end(),
        "operator '{}' is not supported here", excerpt(node.op_type()));
  check(node.output_size() >= 1, "has no output");
  (this->*handler->second)();
  reads_.check_all_of(node);
}

}  // namespace sextant::deploy
