// SPDX-License-Identifier: Apache-2.0
#include "kernels/pool.h"

#include <cmath>
#include <limits>
#include <memory>

#include "kernels/branch_sum.h"
#include "kernels/cast.h"
#include "simt/cases/cases.h"
#include "simt/stored.h"

namespace sextant::test {
namespace {

using namespace sextant::kernels;

struct PoolSize {
  int64_t n, h, w, c;
  int64_t count() const { return n * h * w * c; }
};
// One pixel, 1, 3, 4, 16, 17 and 68 channels, one to three images, several tiles of the chained
// pools (21 and 43 pixels), nothing.
const std::vector<PoolSize> kPoolSizes = {{1, 1, 1, 1},  {1, 1, 1, 4},  {3, 5, 7, 17},
                                          {1, 9, 6, 68}, {2, 4, 4, 3},  {1, 21, 43, 8},
                                          {1, 13, 2, 1}, {2, 3, 5, 16}, {0, 4, 4, 4}};
// In 16 bits: one pixel, ragged, packs, and tiles (of 16 channels).
const std::vector<PoolSize> kHalfPoolSizes = {
    {1, 1, 1, 1}, {3, 5, 7, 17}, {2, 3, 5, 16}, {1, 1, 43, 24}};
template <class T>
const std::vector<PoolSize>& sizes_for() {
  return sizeof(T) < 4 ? kHalfPoolSizes : kPoolSizes;
}
struct PoolWindow {
  int64_t kernel, stride, pad;
};
const std::vector<PoolWindow> kPoolWindows = {
    {1, 1, 0}, {2, 2, 0}, {3, 2, 1}, {5, 1, 2}, {2, 3, 1}};

// Few levels, so that windows have several maxima.
std::vector<float> few_levels(int64_t n, uint64_t seed) {
  std::vector<float> out = random_values(n, seed, -6, 6);
  for (float& v : out) v = std::nearbyint(v) / 2;
  return out;
}

std::vector<int32_t> no_index(int64_t n) {
  return std::vector<int32_t>(static_cast<size_t>(n), std::numeric_limits<int32_t>::min());
}

// The maxima and their places, from the definition.
void reference_max(const MaxPoolForward& p, std::vector<float>& y, std::vector<int32_t>& index) {
  const auto* x = static_cast<const float*>(p.x);
  for (int64_t i = 0; i < static_cast<int64_t>(y.size()); ++i) {
    const int64_t c = i % p.c, ox = i / p.c % p.ow(), oy = i / p.c / p.ow() % p.oh(),
                  image = i / p.c / p.ow() / p.oh();
    double best = -std::numeric_limits<double>::infinity();
    for (int64_t k = 0; k < p.kernel * p.kernel; ++k) {
      const int64_t iy = oy * p.stride - p.pad + k / p.kernel;
      const int64_t ix = ox * p.stride - p.pad + k % p.kernel;
      if (iy < 0 || iy >= p.h || ix < 0 || ix >= p.w) continue;
      const double v = x[((image * p.h + iy) * p.w + ix) * p.c + c];
      if (!(v > best)) continue;
      best = v;
      index[static_cast<size_t>(i)] = static_cast<int32_t>(iy * p.w + ix);
    }
    y[static_cast<size_t>(i)] = static_cast<float>(best);
  }
}

template <class T>
void check_max_pool(TestGpu& gpu, const PoolSize& s, const PoolWindow& w, int64_t offset) {
  MaxPoolForward f{s.n, s.h, s.w, s.c, w.kernel, w.stride, w.pad};
  if (f.h + 2 * f.pad < f.kernel || f.w + 2 * f.pad < f.kernel) return;
  CAPTURE(s.n, s.h, s.w, s.c, w.kernel, w.stride, w.pad, offset);
  const int64_t n_out = s.n * f.oh() * f.ow() * s.c;
  const std::vector<float> x = few_levels(s.count(), 31),
                           dy = rounded<T>(random_values(n_out, 32, -1, 1));
  std::vector<float> y = undefined(n_out), y_ref = y;
  std::vector<int32_t> index = no_index(n_out), index_ref = index;
  f.x = x.data();
  reference_max(f, y_ref, index_ref);
  f.y = y.data();
  f.index = index.data();
  host_kernels().max_pool_forward(f);
  CHECK(y == y_ref);
  CHECK(index == index_ref);

  const DeviceArrayOf<T> xd(gpu, pack<T>(x)), yd(gpu, pack<T>(undefined(n_out)), offset),
      plain(gpu, pack<T>(undefined(n_out)));
  const DeviceArrayOf<int32_t> id(gpu, no_index(n_out));
  f.dtype = Stored<T>::kType;
  f.x = xd.data();
  f.y = yd.data();
  f.index = id.data();
  start(gpu, cuda::max_pool_forward, f);
  f.y = plain.data();
  f.index = nullptr;
  start(gpu, cuda::max_pool_forward, f);
  CHECK(same_bits(unpack(yd.values()), y_ref));
  CHECK(same_bits(unpack(plain.values()), y_ref));
  CHECK(id.values() == index_ref);
  xd.require_unchanged();

  for (const bool accumulate : {false, true}) {
    const std::vector<float> before =
        accumulate ? rounded<T>(random_values(s.count(), 33, -1, 1)) : undefined(s.count());
    std::vector<float> dx = before;
    MaxPoolBackward b{s.n,          s.h,       s.w,      s.c,      f.oh(), f.ow(),    dy.data(),
                      index.data(), dx.data(), w.kernel, w.stride, w.pad,  accumulate};
    host_kernels().max_pool_backward(b);
    std::vector<double> ref(before.begin(), before.end());
    if (!accumulate) std::fill(ref.begin(), ref.end(), 0.0);
    for (int64_t i = 0; i < n_out; ++i) {
      const int64_t image = i / s.c / (f.oh() * f.ow());
      ref[static_cast<size_t>((image * s.h * s.w + index[static_cast<size_t>(i)]) * s.c +
                              i % s.c)] += dy[static_cast<size_t>(i)];
    }
    const DeviceArrayOf<T> dyd(gpu, pack<T>(dy)), dxd(gpu, pack<T>(before), offset);
    b.dtype = Stored<T>::kType;
    b.dy = dyd.data();
    b.index = id.data();
    b.dx = dxd.data();
    start(gpu, cuda::max_pool_backward, b);
    CHECK(worst_error_as<T>(unpack(dxd.values()), ref) < 1e-6);
    CHECK(same_bits(unpack(dxd.values()), rounded<T>(dx)));
    dyd.require_unchanged();
  }
}

template <class T>
void check_chain(TestGpu& gpu, const PoolSize& s, int64_t kernel, bool indexed) {
  CAPTURE(s.n, s.h, s.w, s.c, kernel, indexed);
  const std::vector<float> x = few_levels(s.count(), 41);
  ChainedMaxPools p{s.n, s.h, s.w, s.c, kernel, x.data(), {}, {}, DType::kF32};
  std::vector<std::vector<float>> y(3, undefined(s.count()));
  std::vector<std::vector<int32_t>> index(3, no_index(s.count()));
  for (size_t i = 0; i < 3; ++i) {  // the reference, stage after stage
    MaxPoolForward f{s.n, s.h, s.w, s.c, kernel, 1, kernel / 2};
    f.x = i == 0 ? x.data() : y[i - 1].data();
    reference_max(f, y[i], index[i]);
  }
  std::vector<std::vector<float>> twin(3, undefined(s.count()));
  std::vector<std::vector<int32_t>> twin_index(3, no_index(s.count()));
  for (size_t i = 0; i < 3; ++i) {
    p.y[i] = twin[i].data();
    p.index[i] = indexed ? twin_index[i].data() : nullptr;
  }
  host_kernels().chained_max_pools(p);
  const std::vector<T> before = pack<T>(undefined(s.count()));
  const DeviceArrayOf<T> xd(gpu, pack<T>(x)), y0(gpu, before), y1(gpu, before), y2(gpu, before);
  const DeviceArrayOf<int32_t> i0(gpu, no_index(s.count())), i1(gpu, no_index(s.count())),
      i2(gpu, no_index(s.count()));
  p.dtype = Stored<T>::kType;
  p.x = xd.data();
  const DeviceArrayOf<T>* yd[] = {&y0, &y1, &y2};
  const DeviceArrayOf<int32_t>* id[] = {&i0, &i1, &i2};
  for (size_t i = 0; i < 3; ++i) {
    p.y[i] = yd[i]->data();
    p.index[i] = indexed ? id[i]->data() : nullptr;
  }
  start(gpu, cuda::chained_max_pools, p);
  for (size_t i = 0; i < 3; ++i) {
    CHECK(same_bits(twin[i], y[i]));
    CHECK(same_bits(unpack(yd[i]->values()), y[i]));
    if (!indexed) continue;
    CHECK(twin_index[i] == index[i]);
    CHECK(id[i]->values() == index[i]);
  }
  xd.require_unchanged();
}

template <class T>
void check_average(TestGpu& gpu, const PoolSize& s, int64_t kernel, int64_t offset) {
  CAPTURE(s.n, s.h, s.w, s.c, kernel, offset);
  const std::vector<float> x = rounded<T>(random_values(s.count(), 51, -2, 2));
  std::vector<double> ref(x.size(), 0.0);
  for (int64_t i = 0; i < s.count(); ++i) {
    const int64_t c = i % s.c, ox = i / s.c % s.w, oy = i / s.c / s.w % s.h,
                  image = i / s.c / s.w / s.h;
    for (int64_t k = 0; k < kernel * kernel; ++k) {
      const int64_t iy = oy + k / kernel - kernel / 2, ix = ox + k % kernel - kernel / 2;
      if (iy >= 0 && iy < s.h && ix >= 0 && ix < s.w)
        ref[static_cast<size_t>(i)] +=
            x[static_cast<size_t>(((image * s.h + iy) * s.w + ix) * s.c + c)] /
            static_cast<double>(kernel * kernel);
    }
  }
  std::vector<float> twin = undefined(s.count());
  host_kernels().average_pool({s.n, s.h, s.w, s.c, kernel, x.data(), twin.data()});
  const DeviceArrayOf<T> xd(gpu, pack<T>(x), offset), y(gpu, pack<T>(undefined(s.count())));
  start(gpu, cuda::average_pool,
        {s.n, s.h, s.w, s.c, kernel, xd.data(), y.data(), Stored<T>::kType});
  CHECK(worst_error_as<T>(unpack(y.values()), ref) < 1e-6);
  CHECK(same_bits(unpack(y.values()), rounded<T>(twin)));
  xd.require_unchanged();
}

template <class T>
void check_upsample(TestGpu& gpu, const PoolSize& s, int64_t scale, int64_t offset) {
  CAPTURE(s.n, s.h, s.w, s.c, scale, offset);
  const int64_t n_out = s.count() * scale * scale, ow = s.w * scale, oh = s.h * scale;
  const std::vector<float> x = rounded<T>(random_values(s.count(), 61, -2, 2)),
                           dy = rounded<T>(random_values(n_out, 62, -2, 2));
  std::vector<float> y_ref;
  std::vector<double> dx_ref(x.size(), 0.0);
  for (int64_t i = 0; i < n_out; ++i) {
    const int64_t c = i % s.c, ox = i / s.c % ow, oy = i / s.c / ow % oh, image = i / s.c / ow / oh;
    const auto at = static_cast<size_t>(((image * s.h + oy / scale) * s.w + ox / scale) * s.c + c);
    y_ref.push_back(x[at]);
    dx_ref[at] += dy[static_cast<size_t>(i)];
  }
  std::vector<float> y_cpu = undefined(n_out), dx_cpu = undefined(s.count());
  host_kernels().upsample_forward({s.n, s.h, s.w, s.c, scale, x.data(), y_cpu.data()});
  host_kernels().upsample_backward({s.n, s.h, s.w, s.c, scale, dy.data(), dx_cpu.data()});
  const DeviceArrayOf<T> xd(gpu, pack<T>(x), offset), dyd(gpu, pack<T>(dy)),
      y(gpu, pack<T>(undefined(n_out))), dx(gpu, pack<T>(undefined(s.count())), offset);
  constexpr DType kType = Stored<T>::kType;
  start(gpu, cuda::upsample_forward, {s.n, s.h, s.w, s.c, scale, xd.data(), y.data(), kType});
  start(gpu, cuda::upsample_backward, {s.n, s.h, s.w, s.c, scale, dyd.data(), dx.data(), kType});
  CHECK(same_bits(y_cpu, y_ref));
  CHECK(same_bits(unpack(y.values()), y_ref));
  CHECK(worst_error_as<T>(unpack(dx.values()), dx_ref) < 1e-6);
  CHECK(same_bits(unpack(dx.values()), rounded<T>(dx_cpu)));
  xd.require_unchanged();
  dyd.require_unchanged();
}

// Of any type: T stands for those of its size.
template <class T>
void check_copy(TestGpu& gpu, const CopyChannels& shape, DType dtype) {
  CopyChannels p = shape;
  p.dtype = dtype;
  CAPTURE(p.rows, p.channels, p.from_pitch, p.from_offset, p.to_pitch, p.to_offset, name_of(dtype));
  const auto values = [](int64_t n, uint64_t seed) {
    Rng rng(seed);
    std::vector<T> out;
    for (int64_t i = 0; i < n; ++i) out.push_back(static_cast<T>(rng.below(int64_t{1} << 62)));
    return out;
  };
  const std::vector<T> from = values(p.rows * p.from_pitch, 71),
                       before = values(p.rows * p.to_pitch, 72);
  std::vector<T> ref = before, twin = before;
  for (int64_t r = 0; r < p.rows; ++r)
    for (int64_t c = 0; c < p.channels; ++c)
      ref[static_cast<size_t>(r * p.to_pitch + p.to_offset + c)] =
          from[static_cast<size_t>(r * p.from_pitch + p.from_offset + c)];
  p.from = from.data();
  p.to = twin.data();
  host_kernels().copy_channels(p);
  const DeviceArrayOf<T> fd(gpu, from), td(gpu, before);
  p.from = fd.data();
  p.to = td.data();
  start(gpu, cuda::copy_channels, p);
  CHECK(twin == ref);
  CHECK(td.values() == ref);
  fd.require_unchanged();
}

void check_bytes(TestGpu& gpu, int64_t n, int64_t offset) {
  CAPTURE(n, offset);
  std::vector<uint8_t> x;
  std::vector<double> ref;
  for (int64_t i = 0; i < n; ++i) {
    x.push_back(static_cast<uint8_t>(i * 37 % 256));
    ref.push_back(x.back() / 255.0);
  }
  std::vector<float> twin = undefined(n);
  host_kernels().bytes_to_float({x.data(), twin.data(), n});
  const DeviceArrayOf<uint8_t> xd(gpu, x, offset);
  const DeviceArray y(gpu, undefined(n));
  start(gpu, cuda::bytes_to_float, {xd.data(), y.data(), n});
  CHECK(worst_error(y.values(), ref) < 1e-7);
  CHECK(same_bits(y.values(), twin));
  xd.require_unchanged();
}

// --- sums over branches -------------------------------------------------------------------------

template <class T>
void check_branches(TestGpu& gpu, int64_t rows, int64_t channels, int branches, int64_t offset) {
  CAPTURE(rows, channels, branches, offset, name_of(Stored<T>::kType));
  const int64_t n = rows * channels;
  std::vector<double> ref(static_cast<size_t>(n), 0.0);
  std::vector<std::vector<float>> x, scale;
  std::vector<std::unique_ptr<DeviceMemory>> arrays;
  std::vector<float> twin = undefined(n);
  BranchSum p, on_device;
  p.branches = on_device.branches = branches;
  p.rows = on_device.rows = rows;
  p.channels = on_device.channels = channels;
  for (int b = 0; b < branches; ++b) {
    const auto seed = static_cast<uint64_t>(80 + b);
    x.push_back(rounded<T>(random_values(n, seed, -2, 2)));
    scale.push_back(random_values(channels, seed + 10, -2, 2));
  }
  for (size_t b = 0; b < x.size(); ++b) {
    const bool scaled = b != 1;
    for (size_t i = 0; i < ref.size(); ++i)
      ref[i] += double{x[b][i]} * (scaled ? scale[b][i % static_cast<size_t>(channels)] : 1.0f);
    p.x[b] = x[b].data();
    p.scale[b] = scaled ? scale[b].data() : nullptr;
    arrays.push_back(std::make_unique<DeviceArrayOf<T>>(gpu, pack<T>(x[b])));
    on_device.x[b] = arrays.back()->data();
    auto scales = std::make_unique<DeviceArray>(gpu, scale[b], offset);
    on_device.scale[b] = scaled ? scales->data() : nullptr;
    arrays.push_back(std::move(scales));
  }
  p.y = twin.data();
  host_kernels().branch_sum(p);
  const DeviceArrayOf<T> y(gpu, pack<T>(undefined(n)));
  on_device.y = y.data();
  on_device.dtype = Stored<T>::kType;
  start(gpu, cuda::branch_sum, on_device);
  CHECK(worst_error_as<T>(unpack(y.values()), ref) < 1e-6);
  CHECK(worst_error_as<T>(unpack(y.values()), twin) < 1e-6);
  for (const auto& a : arrays) a->require_unchanged();
}

template <class T>
void check_dot(TestGpu& gpu, int64_t rows, int64_t channels) {
  CAPTURE(rows, channels);
  const std::vector<float> a = rounded<T>(random_values(rows * channels, 91, -2, 2)),
                           b = rounded<T>(random_values(rows * channels, 92, -2, 2));
  std::vector<double> ref(static_cast<size_t>(channels), 0.0);
  for (size_t i = 0; i < a.size(); ++i)
    ref[i % static_cast<size_t>(channels)] += double{a[i]} * double{b[i]};
  std::vector<float> twin = undefined(channels);
  host_kernels().channel_dot({a.data(), b.data(), twin.data(), rows, channels});
  const DeviceArrayOf<T> ad(gpu, pack<T>(a)), bd(gpu, pack<T>(b));
  const DeviceArray out(gpu, undefined(channels));
  ChannelDot p{ad.data(), bd.data(), out.data(), rows, channels, Stored<T>::kType};
  start(gpu, cuda::channel_dot, p);
  CHECK(worst_error(out.values(), ref) < 1e-7);
  CHECK(worst_error(out.values(), twin) < 1e-7);

  // Without b: the plain sums.
  std::fill(ref.begin(), ref.end(), 0.0);
  for (size_t i = 0; i < a.size(); ++i) ref[i % static_cast<size_t>(channels)] += double{a[i]};
  host_kernels().channel_dot({a.data(), nullptr, twin.data(), rows, channels});
  p.b = nullptr;
  start(gpu, cuda::channel_dot, p);
  CHECK(worst_error(out.values(), ref) < 1e-7);
  CHECK(worst_error(out.values(), twin) < 1e-7);
  ad.require_unchanged();
  bd.require_unchanged();
}

// --- casts --------------------------------------------------------------------------------------

template <class From, class To>
void check_cast(TestGpu& gpu, DType from, DType to, const std::vector<From>& values,
                int64_t offset) {
  CAPTURE(name_of(from), name_of(to), values.size(), offset);
  std::vector<To> twin(values.size(), To{});
  const auto n = static_cast<int64_t>(values.size());
  host_kernels().cast({values.data(), from, twin.data(), to, n});
  const DeviceArrayOf<From> in(gpu, values, offset);
  const DeviceArrayOf<To> out(gpu, std::vector<To>(values.size(), To{}));
  start(gpu, cuda::cast, {in.data(), from, out.data(), to, n});
  const std::vector<To> got = out.values();
  int wrong = 0;
  for (size_t i = 0; i < got.size(); ++i) {
    const bool nan = to == DType::kF32 && std::isnan(static_cast<float>(twin[i]));
    wrong += nan ? !std::isnan(static_cast<float>(got[i])) : got[i] != twin[i];
  }
  CHECK(wrong == 0);
  in.require_unchanged();
}

}  // namespace

// Max-, chained and average pools, forward and backward.
KERNEL_CASE("pooling kernels") {
  for (const uint64_t seed : gpu.seeds()) {
    gpu.start(seed);
    each_type([&](auto type) {
      using T = decltype(type);
      CAPTURE(name_of(Stored<T>::kType));
      for (const PoolSize& s : sizes_for<T>()) {
        for (const int64_t offset : {0, 1}) {
          for (const PoolWindow& w : kPoolWindows) check_max_pool<T>(gpu, s, w, offset);
          for (const int64_t kernel : {1, 3, 5}) check_average<T>(gpu, s, kernel, offset);
        }
        for (const int64_t kernel : {1, 3, 5})
          for (const bool indexed : {false, true}) check_chain<T>(gpu, s, kernel, indexed);
      }
      // Too much shared memory for one kernel.
      if (sizeof(T) == 4) check_chain<T>(gpu, {1, 45, 47, 1}, 9, true);
    });
  }
}

KERNEL_CASE("upsampling, channel copy and byte kernels") {
  for (const uint64_t seed : gpu.seeds()) {
    gpu.start(seed);
    each_type([&](auto type) {
      CAPTURE(name_of(Stored<decltype(type)>::kType));
      for (const PoolSize& s : sizes_for<decltype(type)>())
        for (const int64_t scale : {1, 2, 3})
          for (const int64_t offset : {0, 1}) check_upsample<decltype(type)>(gpu, s, scale, offset);
    });
    // Whole tensors, slices, joins; in packs and not; nothing.
    const std::vector<CopyChannels> copies = {
        {1, 1, nullptr, 1, 0, nullptr, 1, 0},     {33, 68, nullptr, 68, 0, nullptr, 136, 68},
        {33, 17, nullptr, 20, 3, nullptr, 17, 0}, {9, 8, nullptr, 16, 4, nullptr, 12, 4},
        {700, 4, nullptr, 8, 2, nullptr, 4, 0},   {5, 3, nullptr, 3, 0, nullptr, 85, 82},
        {5, 4, nullptr, 6, 0, nullptr, 8, 4},     {9, 32, nullptr, 48, 16, nullptr, 32, 0},
        {7, 16, nullptr, 24, 8, nullptr, 16, 0},  {0, 4, nullptr, 4, 0, nullptr, 4, 0}};
    for (const CopyChannels& c : copies) {
      check_copy<uint32_t>(gpu, c, DType::kF32);
      check_copy<uint16_t>(gpu, c, DType::kF16);
      check_copy<uint16_t>(gpu, c, DType::kBF16);
      check_copy<uint8_t>(gpu, c, DType::kI8);
      check_copy<uint64_t>(gpu, c, DType::kI64);
    }
    for (const int64_t n : {0, 1, 3, 4, 255, 1027, 20001})
      for (const int64_t offset : {0, 1}) check_bytes(gpu, n, offset);
  }
}

KERNEL_CASE("branch_sum kernels") {
  for (const uint64_t seed : gpu.seeds()) {
    gpu.start(seed);
    each_type([&](auto type) {
      using T = decltype(type);
      for (const int64_t channels : {1, 3, 4, 16, 17, 68})
        for (const int64_t rows : {1, 33, 700}) {
          for (const int branches : {1, 2, 3, 4})
            for (const int64_t offset : {0, 1})
              check_branches<T>(gpu, rows, channels, branches, offset);
          check_dot<T>(gpu, rows, channels);
        }
    });
  }
}

KERNEL_CASE("cast kernels") {
  std::vector<uint16_t> patterns;
  for (int i = 0; i < 65536; ++i) patterns.push_back(static_cast<uint16_t>(i));
  std::vector<float> floats = random_values(1027, 5, -3, 3);
  for (const float v : random_values(300, 6, -1e-7, 1e-7)) floats.push_back(v);
  for (const float v : {0.0f, -0.0f, 65504.0f, 65519.0f, 65520.0f, -1e30f, 3.4e38f, 0x1p-25f,
                        0x1.8p-25f, 0x1p-149f, std::numeric_limits<float>::infinity()})
    floats.push_back(v);
  for (const uint64_t seed : gpu.seeds()) {
    gpu.start(seed);
    for (const int64_t offset : {0, 1})
      for (const DType type : {DType::kF16, DType::kBF16}) {
        check_cast<uint16_t, float>(gpu, type, DType::kF32, patterns, offset);
        check_cast<float, uint16_t>(gpu, DType::kF32, type, floats, offset);
        check_cast<float, uint16_t>(gpu, DType::kF32, type, {1.5f}, offset);
        check_cast<float, uint16_t>(gpu, DType::kF32, type, {}, offset);
      }
    for (const int64_t offset : {0, 1})
      check_cast<double, float>(gpu, DType::kF64, DType::kF32,
                                {1.0 / 3, -2.5, 0.0, 1e300, 1e-60, 16777217.0, 4.0 / 7}, offset);
    CHECK(error_of([&] {
            start(gpu, cuda::cast, {nullptr, DType::kF16, nullptr, DType::kBF16, 4});
          }) == "cast: F16 to BF16, must be F32 and F16 or BF16, or F64 to F32");
  }
}

}  // namespace sextant::test
