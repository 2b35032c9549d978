#include "deploy/engine.h"

#include <chrono>
#include <cmath>

#include "deploy/builder.h"

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

}  // namespace

Tensor TensorView::values() const {
  return converted<float>(*this, [s = scale](auto q) { return static_cast<float>(q) * s; });
}

Tensor TensorView::integers() const {
  check(quantized, "deploy: tensor '{}' is held as f32, it has no integers", info->name);
  return converted<int32_t>(*this, [](auto q) { return static_cast<int32_t>(q); });
}

void TensorView::assign(const Tensor& numbers) const {
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
}

struct Engine::Impl {
  Graph graph;
  EngineConfig config;
  Program program;
  Tensor arena;
  Bases bases;

  Impl(const Graph& g, const EngineConfig& c) : graph(g), config(c) {
    program = build_program(graph, config);
    arena = Tensor(Shape{std::max<int64_t>(program.stats.arena_bytes, 1)}, DType::kU8);
    auto* start = reinterpret_cast<std::byte*>(arena.data<uint8_t>());
    for (const int64_t offset : program.offsets) bases.push_back(start + offset);
    // the engine keeps its own copies of the weights
    for (Node& node : graph.nodes) node.weight = node.bias = Tensor();
  }

  TensorView view(int t) const {
    const size_t i = static_cast<size_t>(t);
    TensorView v;
    v.id = t;
    v.info = &graph.tensors[i];
    v.shape = program.shapes[i];
    v.data = program.tensors[i].at(bases);
    v.dtype = program.tensors[i].dtype;
    v.pitch = program.tensors[i].pitch;
    v.quantized = program.quantized[i];
    v.scale = program.scales[i];
    return v;
  }

  // Points the outside storages at this run's images and result.
  Tensor begin(const Tensor& images) {
    const Shape expected{config.batch, config.height, config.width, 3};
    const DType type = config.float_images ? DType::kF32 : DType::kU8;
    check(images.defined() && images.dtype() == type && images.shape() == expected,
          "engine: images {} {}, expected {} {}",
          images.defined() ? name_of(images.dtype()) : "(empty)",
          images.defined() ? images.shape().str() : "", name_of(type), expected.str());
    bases[kImages] = static_cast<std::byte*>(images.raw());
    Tensor result;
    if (program.tensors[static_cast<size_t>(graph.output)].storage == kResult) {
      result = Tensor(program.shapes[static_cast<size_t>(graph.output)]);
      bases[kResult] = reinterpret_cast<std::byte*>(result.f32());
    }
    return result;
  }
};

Engine::Engine(const Graph& graph, const EngineConfig& config)
    : impl_(std::make_unique<Impl>(graph, config)) {}
Engine::~Engine() = default;
Engine::Engine(Engine&&) noexcept = default;
Engine& Engine::operator=(Engine&&) noexcept = default;

const EngineConfig& Engine::config() const { return impl_->config; }
const Graph& Engine::graph() const { return impl_->graph; }
const EngineStats& Engine::stats() const { return impl_->program.stats; }

Tensor Engine::run(const Tensor& images, const Observer& observer) {
  Impl& e = *impl_;
  const Tensor result = e.begin(images);
  const auto& steps = e.program.steps;
  size_t next = 0;
  for (size_t n = 0; n < e.graph.nodes.size(); ++n) {
    for (; next < steps.size() && steps[next]->node == static_cast<int>(n); ++next)
      steps[next]->run(e.bases);
    if (observer) observer(e.view(e.graph.nodes[n].output));
  }
  return result.defined() ? result : e.view(e.graph.output).values();
}

std::vector<StepTime> Engine::profile(const Tensor& images, int runs) {
  Impl& e = *impl_;
  const Tensor result = e.begin(images);
  std::vector<StepTime> times;
  for (const auto& step : e.program.steps)
    times.push_back({e.graph.nodes[static_cast<size_t>(step->node)].name, step->kind,
                     step->implementation, 0.0, step->flops});
  for (int r = 0; r < runs; ++r) {
    for (size_t i = 0; i < times.size(); ++i) {
      const auto start = std::chrono::steady_clock::now();
      e.program.steps[i]->run(e.bases);
      const auto end = std::chrono::steady_clock::now();
      times[i].milliseconds += std::chrono::duration<double, std::milli>(end - start).count();
    }
  }
  return times;
}

}  // namespace sextant::deploy
