// SPDX-License-Identifier: Apache-2.0
#include "deploy/engine/engine.h"

#include <chrono>
#include <cmath>

#include "core/profile_range.h"
#include "deploy/engine/program.h"
#include "kernels/backend.h"

namespace sextant::deploy {
namespace {

template <class From, class To, class F>
void copy_pixels(const TensorView& view, Tensor& y, const F& f) {
  const auto* x = static_cast<const From*>(view.data);
  const int64_t channels = view.shape[-1];
  const int64_t rows = view.shape.numel() / channels;
  To* out = y.data<To>();
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t c = 0; c < channels; ++c) out[r * channels + c] = f(x[r * view.pitch + c]);
}

template <class To, class F>
Tensor converted(const TensorView& view, const F& f) {
  Tensor y(view.shape, DTypeOf<To>::value);
  if (view.dtype == DType::kU8)
    copy_pixels<uint8_t, To>(view, y, f);
  else if (view.dtype == DType::kI8)
    copy_pixels<int8_t, To>(view, y, f);
  else if (view.dtype == DType::kI32)
    copy_pixels<int32_t, To>(view, y, f);
  else
    copy_pixels<float, To>(view, y, f);
  return y;
}

// What the activations of one image may take. A file of a few kilobytes can ask for any size of image
// and any number of channels; YOLOv6-L6 at 1280 pixels takes a tenth of this.
constexpr int64_t kMaxImageBytes = int64_t{2} << 30;

}  // namespace

Tensor TensorView::values() const {
  if (device != Device::kCpu) {
    const Tensor y(shape, DType::kF32, device);
    const int64_t channels = shape[-1];
    kernels::backend(device).convert_strided({.x = data,
                                              .y = y.raw(),
                                              .x_type = dtype,
                                              .rows = shape.numel() / channels,
                                              .channels = channels,
                                              .x_pitch = pitch,
                                              .y_pitch = channels,
                                              .x_scale = scale});
    return y;
  }
  return converted<float>(*this, [s = scale](auto q) { return static_cast<float>(q) * s; });
}

Tensor TensorView::integers() const {
  check(device == Device::kCpu, "deploy: integers of tensor '{}' asked for on {}", info->name,
        name_of(device));
  check(quantized, "deploy: tensor '{}' is held as f32, it has no integers", info->name);
  return converted<int32_t>(*this, [](auto q) { return static_cast<int32_t>(q); });
}

void TensorView::assign(const Tensor& numbers) const {
  check(device == Device::kCpu, "deploy: tensor '{}' is assigned to on {}", info->name,
        name_of(device));
  check(quantized, "deploy: tensor '{}' is held as f32, it takes no integers", info->name);
  check(numbers.shape() == shape, "deploy: tensor '{}' is {}, not {}", info->name, shape.str(),
        numbers.shape().str());
  const int64_t channels = shape[-1];
  dispatch_type(dtype, [&](auto zero) {
    using T = decltype(zero);
    auto* y = static_cast<T*>(const_cast<void*>(data));
    const int32_t* q = numbers.data<int32_t>();
    for (int64_t i = 0; i < shape.numel(); ++i)
      y[i / channels * pitch + i % channels] = static_cast<T>(q[i]);
  });
  if (original) accelerator().upload(original, copy.raw(), copy.bytes(), compute_stream());
}

namespace {

// What engines over the same weights share.
struct Built {
  Graph graph;
  EngineConfig config;
  Program program;

  Built(const Graph& g, const EngineConfig& c)
      : graph(g), config(c), program(build_program(graph, config)) {
    const auto gigabytes = [&](int64_t bytes) {
      return 1e-9 * static_cast<double>(bytes) / static_cast<double>(config.batch);
    };
    check(program.stats.arena_bytes <= config.batch * kMaxImageBytes,
          "{}: takes {:.1f} GB for an image of {} x {} pixels, more than {:.1f}; choose a smaller "
          "size",
          graph.label(), gigabytes(program.stats.arena_bytes), config.width, config.height,
          gigabytes(config.batch * kMaxImageBytes));
    // the steps have their own copies of the weights
    for (Node& node : graph.nodes) node.weight = node.bias = Tensor();
  }
};

}  // namespace

struct Engine::Impl {
  const std::shared_ptr<const Built> built;
  const Graph& graph = built->graph;
  const EngineConfig& config = built->config;
  const Program& program = built->program;
  Tensor arena;
  Bases bases;
  // On CUDA, where the images come to and the result is left; the steps know these addresses.
  Tensor images_there, result_there;
  // There the steps are started as one piece, from the second run on.
  RecordedWork recorded{[this] { start_steps(); }};

  explicit Impl(std::shared_ptr<const Built> shared) : built(std::move(shared)) {
    arena =
        Tensor(Shape{std::max<int64_t>(program.stats.arena_bytes, 1)}, DType::kU8, config.device);
    bases = bases_in(program, reinterpret_cast<std::byte*>(arena.data<uint8_t>()));
    if (on_cuda()) {
      images_there = Tensor(images_shape(), images_type(), config.device);
      result_there = Tensor(shape_of(graph.output), DType::kF32, config.device);
      bases[kImages] = static_cast<std::byte*>(images_there.raw());
      bases[kResult] = static_cast<std::byte*>(result_there.raw());
    }
  }

  bool on_cuda() const { return config.device == Device::kCuda; }
  const Shape& shape_of(int t) const { return program.shapes[static_cast<size_t>(t)]; }
  Shape images_shape() const { return {config.batch, config.height, config.width, 3}; }
  DType images_type() const { return config.float_images ? DType::kF32 : DType::kU8; }

  // As it lies, or on the host.
  TensorView view(int t, bool there) const {
    TensorView v = view_of(graph, program, bases, t);
    v.device = config.device;
    if (on_cuda() && !there) bring_over(v);
    return v;
  }

  // From the first element to the last, with what lies between the rows.
  static void bring_over(TensorView& v) {
    const int64_t channels = v.shape[-1];
    const int64_t elements = (v.shape.numel() / channels - 1) * v.pitch + channels;
    v.original = const_cast<void*>(v.data);
    v.copy = Tensor(Shape{elements}, v.dtype);
    accelerator().download(v.copy.raw(), v.data, v.copy.bytes(), compute_stream());
    if (v.dtype == DType::kF16) {
      const Tensor wide(Shape{elements});
      kernels::backend(Device::kCpu)
          .cast({v.copy.raw(), DType::kF16, wide.raw(), DType::kF32, elements});
      v.copy = wide;
      v.dtype = DType::kF32;
    }
    v.data = v.copy.raw();
    v.device = Device::kCpu;
  }

  void check_images(const Tensor& images) const {
    const bool fits = images.defined() && images.dtype() == images_type() &&
                      images.shape() == images_shape() &&
                      (on_cuda() || images.device() == Device::kCpu);
    check(fits, "engine: images {} {}{}, expected {} {}",
          images.defined() ? name_of(images.dtype()) : "(empty)",
          images.defined() ? images.shape().str() : "",
          images.defined() && images.device() == Device::kCuda ? " on cuda" : "",
          name_of(images_type()), images_shape().str());
  }

  // Points the outside storages at this run's images and result, or brings the images over.
  Tensor begin(const Tensor& images) {
    check_images(images);
    if (on_cuda()) {
      images_there.copy_from(images);
      return result_there;
    }
    bases[kImages] = static_cast<std::byte*>(images.raw());
    Tensor result;
    if (program.tensors[static_cast<size_t>(graph.output)].storage == kResult) {
      result = Tensor(shape_of(graph.output));
      bases[kResult] = reinterpret_cast<std::byte*>(result.f32());
    }
    return result;
  }

  void start(const Step& step) const {
    const ProfileRange range(graph.nodes[static_cast<size_t>(step.node)].name.c_str());
    step.run(bases);
  }
  // On CUDA the same kernels on the same memory each time.
  void start_steps() const {
    for (const auto& step : program.steps) start(*step);
  }

  void execute_observed(const Observer& observer, bool there) const {
    size_t next = 0;
    for (size_t n = 0; n < graph.nodes.size(); ++n) {
      for (; next < program.steps.size() && program.steps[next]->node == static_cast<int>(n);
           ++next)
        start(*program.steps[next]);
      observer(view(graph.nodes[n].output, there));
    }
  }

  Tensor run(const Tensor& images, const Observer& observer, bool there) {
    const Tensor result = begin(images);
    if (observer)
      execute_observed(observer, there);
    else if (on_cuda())
      recorded.run();
    else
      start_steps();
    return result.defined() ? result : view(graph.output, true).values();
  }
};

Engine::Engine(const Graph& graph, const EngineConfig& config)
    : impl_(std::make_unique<Impl>(std::make_shared<const Built>(graph, config))) {}
Engine::Engine(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Engine::~Engine() = default;
Engine::Engine(Engine&&) noexcept = default;
Engine& Engine::operator=(Engine&&) noexcept = default;

Engine Engine::sibling() const { return Engine(std::make_unique<Impl>(impl_->built)); }

const EngineConfig& Engine::config() const { return impl_->config; }
const Graph& Engine::graph() const { return impl_->graph; }
const EngineStats& Engine::stats() const { return impl_->program.stats; }

Tensor Engine::run(const Tensor& images, const Observer& observer) {
  return impl_->run(images, observer, false).to(Device::kCpu);
}

Tensor Engine::run_on_device(const Tensor& images, const Observer& observer) {
  return impl_->run(images, observer, true);
}

std::vector<StepTime> Engine::profile(const Tensor& images, int runs) {
  Impl& e = *impl_;
  const Tensor result = e.begin(images);
  std::vector<StepTime> times;
  for (const auto& step : e.program.steps)
    times.push_back({e.graph.nodes[static_cast<size_t>(step->node)].name, step->kind,
                     step->implementation, 0.0, step->flops});
  // On CUDA no step writes what it reads: run again it gives the same.
  const int turns = e.on_cuda() ? 1 : runs;
  const int in_a_row = e.on_cuda() ? runs : 1;
  for (int r = 0; r < turns; ++r) {
    for (size_t i = 0; i < times.size(); ++i) {
      if (e.on_cuda()) accelerator().synchronize(compute_stream());
      const auto start = std::chrono::steady_clock::now();
      for (int k = 0; k < in_a_row; ++k) e.program.steps[i]->run(e.bases);
      if (e.on_cuda()) accelerator().synchronize(compute_stream());
      const auto end = std::chrono::steady_clock::now();
      times[i].milliseconds += std::chrono::duration<double, std::milli>(end - start).count();
    }
  }
  return times;
}

}  // namespace sextant::deploy
