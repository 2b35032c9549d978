// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/libraries/choose_conv.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <mutex>
#include <optional>

#include "core/device.h"
#include "core/file.h"
#include "core/half.h"
#include "core/rng.h"
#include "kernels/cuda/device/check.h"
#include "kernels/cuda/kernels.h"
#include "kernels/cuda/libraries/cudnn_conv.h"

namespace sextant::kernels::cuda {
namespace {

int current_device() {
  int device = 0;
  SEXTANT_CUDA(cudaGetDevice(&device), "current CUDA device");
  return device;
}

class Handle {
 public:
  Handle() { SEXTANT_CUDNN_CHECK(cudnnCreate(&handle_), "starting"); }
  ~Handle() { static_cast<void>(cudnnDestroy(handle_)); }
  Handle(const Handle&) = delete;
  Handle& operator=(const Handle&) = delete;
  cudnnHandle_t on(Stream stream) const {
    SEXTANT_CUDNN_CHECK(cudnnSetStream(handle_, native(stream)), "a stream");
    return handle_;
  }

 private:
  cudnnHandle_t handle_ = nullptr;
};

// ------------------------------------------------------------------------ what differs by kind
std::optional<cudnn::Plan> plan_of(const ConvForward& p, const cudnn::DeviceProperties& d) {
  return cudnn::plan_conv_forward(p, d);
}
std::optional<cudnn::Plan> plan_of(const ConvBackwardData& p, const cudnn::DeviceProperties& d) {
  return cudnn::plan_conv_backward_data(p, d);
}
std::optional<cudnn::Plan> plan_of(const ConvBackwardWeight& p, const cudnn::DeviceProperties& d) {
  return cudnn::plan_conv_backward_weight(p, d);
}
std::optional<cudnn::Plan> plan_of(const ConvInt8Forward& p, const cudnn::DeviceProperties& d) {
  return cudnn::plan_conv_int8_forward(p, d);
}

void run_ours(const ConvForward& p, void* w, Stream s) { conv_forward(p, w, s); }
void run_ours(const ConvBackwardData& p, void* w, Stream s) { conv_backward_data(p, w, s); }
void run_ours(const ConvBackwardWeight& p, void* w, Stream s) { conv_backward_weight(p, w, s); }
void run_ours(const ConvInt8Forward& p, void* w, Stream s) { conv_int8_forward(p, w, s); }

// Elements of an image whose pixels lie `pitch` apart; 0: dense.
int64_t with_pitch(int64_t elements, int64_t channels, int64_t pitch) {
  return pitch == 0 ? elements : elements / channels * pitch;
}

// Calls f(pointer, elements, type, factor) for each operand, the result last. Values are to be
// drawn from [-factor, factor]; a negative factor asks for positive values.
template <class F>
void operands(ConvForward& p, const F& f) {
  f(p.x, with_pitch(p.shape.x_numel(), p.shape.ic, p.x_pitch), p.dtype, 1.0f);
  f(p.w, p.shape.w_numel(), p.dtype, 1.0f);
  if (p.bias) f(p.bias, p.shape.oc, DType::kF32, 1.0f);
  if (p.residual)
    f(p.residual, with_pitch(p.shape.y_numel(), p.shape.oc, p.residual_pitch), p.dtype, 1.0f);
  f(p.y, with_pitch(p.shape.y_numel(), p.shape.oc, p.y_pitch), p.dtype, 1.0f);
}
template <class F>
void operands(ConvBackwardData& p, const F& f) {
  f(p.dy, p.shape.y_numel(), p.dtype, 1.0f);
  f(p.w, p.shape.w_numel(), p.dtype, 1.0f);
  if (p.bias) f(p.bias, p.shape.ic, DType::kF32, 1.0f);
  f(p.dx, p.shape.x_numel(), p.dtype, 1.0f);
}
template <class F>
void operands(ConvBackwardWeight& p, const F& f) {
  f(p.x, p.shape.x_numel(), p.dtype, 1.0f);
  f(p.dy, p.shape.y_numel(), p.dtype, 1.0f);
  if (p.db) f(p.db, p.shape.oc, DType::kF32, 1.0f);
  f(p.dw, p.shape.w_numel(), DType::kF32, 1.0f);
}
// Sums have a deviation of about 5,300 sqrt(k); the factor brings that to 60 steps, so that some
// results saturate.
template <class F>
void operands(ConvInt8Forward& p, const F& f) {
  const auto k = static_cast<float>(p.shape.kh * p.shape.kw * (p.shape.ic / p.shape.groups));
  f(p.x, with_pitch(p.shape.x_numel(), p.shape.ic, p.x_pitch), p.x_type, 1.0f);
  f(p.w, p.shape.w_numel(), DType::kI8, 1.0f);
  if (p.bias) f(p.bias, p.shape.oc, DType::kF32, 5300.0f * std::sqrt(k));
  f(p.factor, p.shape.oc, DType::kF32, -60.0f / (5300.0f * std::sqrt(k)));
  if (p.residual)
    f(p.residual, with_pitch(p.shape.y_numel(), p.shape.oc, p.residual_pitch), p.y_type, 1.0f);
  f(p.y, with_pitch(p.shape.y_numel(), p.shape.oc, p.y_pitch), p.y_type, 1.0f);
}

// How far two results may be apart: relative to |b| plus the deviation of a sum.
struct Tolerance {
  float relative = 0;
  float deviation = 0;
  float absolute = 0;
};
float of_type(DType t) { return t == DType::kF16 ? 2e-3f : t == DType::kBF16 ? 1.6e-2f : 2e-5f; }
float root(int64_t terms) { return std::sqrt(static_cast<float>(terms)); }
Tolerance tolerance(const ConvForward& p) {
  return {of_type(p.dtype), root(p.shape.kh * p.shape.kw * (p.shape.ic / p.shape.groups))};
}
Tolerance tolerance(const ConvBackwardData& p) {
  return {of_type(p.dtype), root(p.shape.kh * p.shape.kw * (p.shape.oc / p.shape.groups))};
}
// f32 sums of as many products as there are pixels.
Tolerance tolerance(const ConvBackwardWeight& p) {
  return {1e-4f, root(p.shape.n * p.shape.oh() * p.shape.ow())};
}
Tolerance tolerance(const ConvInt8Forward& p) {
  if (p.y_type == DType::kF32) return {1e-5f, 60.0f};
  return {0, 0, traits_of(p.epilogue.activation).exponential ? 1.0f : 0.0f};
}

// ------------------------------------------------------------------------------ the measurement
// Calls f(a T) for the type that holds values of `t`.
template <class F>
auto as_type(DType t, const F& f) {
  switch (t) {
    case DType::kF32:
      return f(float{});
    case DType::kF16:
      return f(Half{});
    case DType::kBF16:
      return f(BFloat16{});
    case DType::kI8:
      return f(int8_t{});
    default:
      return f(uint8_t{});
  }
}

float value(float v) { return v; }
float value(Half v) { return to_float(v); }
float value(BFloat16 v) { return to_float(v); }
float value(int8_t v) { return v; }
float value(uint8_t v) { return v; }

std::vector<std::byte> random_values(int64_t n, DType type, float factor, Rng& rng) {
  std::vector<std::byte> bytes(static_cast<size_t>(n * size_of(type)));
  as_type(type, [&](auto t) {
    using T = decltype(t);
    auto* out = reinterpret_cast<T*>(bytes.data());
    for (int64_t i = 0; i < n; ++i) {
      const auto u = static_cast<float>(rng.uniform(-1.0, 1.0));
      const float v = factor < 0 ? -factor * (0.75f + 0.25f * u) : factor * u;
      if constexpr (std::is_same_v<T, int8_t>)
        out[i] = static_cast<T>(std::lround(u * 127.0f));
      else if constexpr (std::is_same_v<T, uint8_t>)
        out[i] = static_cast<T>(std::lround((u + 1.0f) * 127.5f));
      else if constexpr (std::is_same_v<T, Half>)
        out[i] = to_half(v);
      else if constexpr (std::is_same_v<T, BFloat16>)
        out[i] = to_bfloat16(v);
      else
        out[i] = v;
    }
  });
  return bytes;
}

// The operands of `p`, replaced by device memory with random values.
template <class P>
class Trial {
 public:
  Trial(const P& form, Stream stream) : p(form), stream_(stream) {
    Rng rng(7);
    operands(p, [&](auto*& pointer, int64_t n, DType type, float factor) {
      const std::vector<std::byte> values = random_values(n, type, factor, rng);
      const auto bytes = static_cast<int64_t>(values.size());
      blocks_.push_back(std::make_unique<Workspace>(bytes));
      accelerator().upload(blocks_.back()->data(), values.data(), bytes, stream_);
      pointer = static_cast<std::remove_reference_t<decltype(pointer)>>(blocks_.back()->data());
      result_ = blocks_.back()->data();
      start_ = values;
      type_ = type;
    });
  }
  // The result of one run, whose operands are as at the start.
  template <class F>
  std::vector<std::byte> result_of(const F& run) {
    const auto bytes = static_cast<int64_t>(start_.size());
    accelerator().upload(result_, start_.data(), bytes, stream_);
    run(p);
    std::vector<std::byte> result(start_.size());
    accelerator().download(result.data(), result_, bytes, stream_);
    return result;
  }
  // The largest excess of |a - b| over what is allowed; 0 or less is well.
  float excess(const std::vector<std::byte>& a, const std::vector<std::byte>& b) const {
    const Tolerance t = tolerance(p);
    const int64_t n = static_cast<int64_t>(a.size()) / size_of(type_);
    float worst = -1.0f;
    as_type(type_, [&](auto zero) {
      const auto* x = reinterpret_cast<const decltype(zero)*>(a.data());
      const auto* y = reinterpret_cast<const decltype(zero)*>(b.data());
      for (int64_t i = 0; i < n; ++i) {
        const float u = value(x[i]), v = value(y[i]);
        const float allowed = t.relative * (std::fabs(v) + t.deviation) + t.absolute;
        const float over = std::fabs(u - v) - allowed;
        worst = std::isfinite(over) ? std::max(worst, over) : INFINITY;
      }
    });
    return worst;
  }

  P p;

 private:
  Stream stream_;
  std::vector<std::unique_ptr<Workspace>> blocks_;
  void* result_ = nullptr;
  std::vector<std::byte> start_;
  DType type_ = DType::kF32;
};

// Microseconds of one run: the best of some rounds of several.
template <class F>
double microseconds(const F& run, Stream stream) {
  constexpr int kRounds = 5, kRuns = 10;
  const Event start(true), end(true);
  double best = INFINITY;
  for (int round = 0; round < kRounds; ++round) {
    start.record(stream);
    for (int i = 0; i < kRuns; ++i) run();
    end.record(stream);
    best = std::min(best, 1e3 * static_cast<double>(end.since(start)) / kRuns);
  }
  return best;
}

template <class P>
ConvVerdict compare(const P& form, const std::optional<cudnn::Plan>& plan, const Handle& handle,
                    Stream stream) {
  ConvVerdict v;
  Trial<P> trial(form, stream);
  const auto ours = [&](const P& p) {
    const Workspace workspace(workspace_bytes(p));
    run_ours(p, workspace.data(), stream);
  };
  const bool ours_can = form.shape.groups == 1 || is_depthwise(form.shape);
  const auto of_ours = ours_can ? trial.result_of(ours) : std::vector<std::byte>{};
  if (!of_ours.empty()) v.ours_us = microseconds([&] { ours(trial.p); }, stream);
  if (!plan) {
    v.note = "cuDNN has no plan for it";
    return v;
  }
  try {
    const Workspace workspace(plan->workspace_bytes());
    const auto run_theirs = [&](const P& p) {
      cudnn::run(*plan, p, handle.on(stream), workspace.data());
    };
    const auto theirs = trial.result_of(run_theirs);
    if (!of_ours.empty() && trial.excess(theirs, of_ours) > 0) {
      v.note = "cuDNN's result differs from ours";
      return v;
    }
    v.library_us = microseconds([&] { run_theirs(trial.p); }, stream);
  } catch (const Error& e) {
    v.note = e.what();
    return v;
  }
  v.library = of_ours.empty() || v.library_us < v.ours_us;
  return v;
}

template <class P>
ConvVerdict measure_once(const P& p, Stream stream) {
  static const Handle handle;
  static const auto device = cudnn::DeviceProperties::of_device(current_device());
  return compare(p, plan_of(p, device), handle, stream);
}

// ---------------------------------------------------------------------------------- the library
bool recording(Stream stream) {
  cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
  SEXTANT_CUDA(cudaStreamIsCapturing(native(stream), &status), "a stream");
  return status != cudaStreamCaptureStatusNone;
}

template <class P>
bool aligned(P p) {
  bool all = true;
  operands(p, [&](auto*& pointer, int64_t, DType, float) {
    all = all && reinterpret_cast<uintptr_t>(pointer) % 16 == 0;
  });
  return all;
}

// FNV-1a: a file name for a key.
std::string hashed(const std::string& key) {
  uint64_t h = 0xcbf29ce484222325u;
  for (const char c : key) h = (h ^ static_cast<unsigned char>(c)) * 0x100000001b3u;
  return fmt::format("{:016x}", h);
}

class CudnnLibrary final : public ConvLibrary {
 public:
  explicit CudnnLibrary(std::string folder)
      : folder_(std::move(folder)), device_(cudnn::DeviceProperties::of_device(current_device())) {
    if (folder_.empty()) return;
    const std::string path = choices_path();
    attempt(path, [&] {
      if (std::filesystem::exists(path))
        choices_ = ConvChoices::from_json(parse_json(read_text(path), path), path);
    });
  }

  bool run(const ConvForward& p, Stream s) override { return !p.gain && take(p, s); }
  bool run(const ConvBackwardData& p, Stream s) override { return take(p, s); }
  bool run(const ConvBackwardWeight& p, Stream s) override { return take(p, s); }
  bool run(const ConvInt8Forward& p, Stream s) override { return !p.gain && take(p, s); }

 private:
  using Plans = std::map<std::string, std::optional<cudnn::Plan>>;

  template <class P>
  bool take(const P& p, Stream stream) {
    if (!aligned(p)) return false;
    const std::string key = conv_key(p);
    const std::lock_guard lock(mutex_);
    const ConvVerdict* known = choices_.find(key);
    if (known && !known->library) return false;
    Plans::iterator plan = plans_.find(key);
    if (plan == plans_.end() || !known) {
      if (recording(stream)) return false;
      if (plan == plans_.end()) plan = plans_.emplace(key, load_or_build(key, p)).first;
      if (!known) {
        choices_.set(key, compare(p, plan->second, handle_, stream));
        known = choices_.find(key);
        if (!folder_.empty())
          attempt(choices_path(),
                  [&] { write_atomically(choices_path(), choices_.to_json().dump(1) + "\n"); });
        if (!known->library) {
          plans_.erase(plan);
          return false;
        }
      }
    }
    if (!plan->second) return false;
    const Workspace workspace(plan->second->workspace_bytes());
    cudnn::run(*plan->second, p, handle_.on(stream), workspace.data());
    return true;
  }

  template <class P>
  std::optional<cudnn::Plan> load_or_build(const std::string& key, const P& p) {
    const std::string path = folder_.empty() ? "" : fmt::format("{}/{}.json", folder_, hashed(key));
    std::optional<cudnn::Plan> plan;
    if (!path.empty())
      attempt(path, [&] {
        if (!std::filesystem::exists(path)) return;
        const auto j = parse_json(read_text(path), path);
        if (j.at("key") == key)
          plan = cudnn::Plan::from_json(j.at("plan").template get<std::string>(), device_);
      });
    if (plan) return plan;
    plan = plan_of(p, device_);
    if (plan && !path.empty())
      attempt(path, [&] {
        const Json j = {{"key", key}, {"plan", plan->json()}};
        write_atomically(path, j.dump() + "\n");
      });
    return plan;
  }

  // The cache is optional: without it everything is measured again.
  template <class F>
  static void attempt(const std::string& path, const F& f) {
    try {
      f();
    } catch (const std::exception& e) {
      fmt::print(stderr, "ignoring {}: {}\n", path, e.what());
    }
  }
  std::string choices_path() const { return folder_ + "/choices.json"; }

  std::string folder_;
  cudnn::DeviceProperties device_;
  Handle handle_;
  std::mutex mutex_;
  ConvChoices choices_;
  Plans plans_;
};

}  // namespace

ConvVerdict measure(const ConvForward& p, Stream s) { return measure_once(p, s); }
ConvVerdict measure(const ConvBackwardData& p, Stream s) { return measure_once(p, s); }
ConvVerdict measure(const ConvBackwardWeight& p, Stream s) { return measure_once(p, s); }
ConvVerdict measure(const ConvInt8Forward& p, Stream s) { return measure_once(p, s); }

std::unique_ptr<ConvLibrary> cudnn_convolutions(const std::string& folder) {
  return std::make_unique<CudnnLibrary>(folder);
}

std::string conv_cache_folder() {
  const auto variable = [](const char* name) {
    const char* value = std::getenv(name);
    return std::string(value ? value : "");
  };
  std::string base = variable("SEXTANT_CACHE");
  if (base.empty() && std::getenv("SEXTANT_CACHE")) return "";
  if (base.empty() && !variable("XDG_CACHE_HOME").empty())
    base = variable("XDG_CACHE_HOME") + "/sextant";
  if (base.empty() && !variable("HOME").empty()) base = variable("HOME") + "/.cache/sextant";
  if (base.empty()) return "";
  std::string device = accelerator().name();
  std::ranges::replace_if(
      device, [](unsigned char c) { return !std::isalnum(c); }, '-');
  return fmt::format("{}/{}-cudnn-{}", base, device, cudnnGetVersion());
}

}  // namespace sextant::kernels::cuda
