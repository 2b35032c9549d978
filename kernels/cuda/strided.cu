// SPDX-License-Identifier: Apache-2.0
// Rows with a pitch: moved in pieces of up to 16 bytes, worked on in groups of neighbouring
// channels as wide as sizes, pitches and addresses allow.
#include "kernels/cuda/conv/mma.cuh"
#include "kernels/cuda/device/each.cuh"
#include "kernels/strided.h"

namespace sextant::kernels::cuda {
namespace {

// Whether every size and address is a multiple of `bytes`.
bool all_multiples(int64_t bytes, std::initializer_list<int64_t> sizes,
                   std::initializer_list<const void*> addresses) {
  for (const int64_t s : sizes)
    if (s % bytes != 0) return false;
  for (const void* a : addresses)
    if (reinterpret_cast<uintptr_t>(a) % static_cast<uintptr_t>(bytes) != 0) return false;
  return true;
}

// --- moving -------------------------------------------------------------------------------------

template <int kBytes>
struct alignas(kBytes) Piece {
  uint32_t v[kBytes / 4];
};
template <>
struct Piece<2> {
  uint16_t v;
};
template <>
struct Piece<1> {
  uint8_t v;
};

// Calls f(Piece{}) with the widest piece.
template <class F>
void dispatch_piece(std::initializer_list<int64_t> sizes,
                    std::initializer_list<const void*> addresses, F&& f) {
  if (all_multiples(16, sizes, addresses)) return f(Piece<16>{});
  if (all_multiples(8, sizes, addresses)) return f(Piece<8>{});
  if (all_multiples(4, sizes, addresses)) return f(Piece<4>{});
  if (all_multiples(2, sizes, addresses)) return f(Piece<2>{});
  f(Piece<1>{});
}

template <class P>
struct CopyRowsOp {
  const P* source;
  P* destination;
  int64_t source_pitch, destination_pitch;  // pieces
  Divider<uint32_t> pieces;
  __device__ __forceinline__ void operator()(uint32_t i) const {
    const uint32_t row = pieces.quotient(i);
    const uint32_t k = i - row * pieces.divisor;
    destination[row * destination_pitch + k] = source[row * source_pitch + k];
  }
};

template <class T>
struct GatherOp {
  const T* source;
  T* destination;
  const int32_t* channels;
  int64_t source_pitch, destination_pitch;
  Divider<uint32_t> count;
  __device__ __forceinline__ void operator()(uint32_t i) const {
    const uint32_t row = count.quotient(i);
    const uint32_t c = i - row * count.divisor;
    destination[row * destination_pitch + c] = source[row * source_pitch + channels[c]];
  }
};

// An item of the destination comes from pixel (y / scale, x / scale) of the source.
template <class P>
struct UpsampleRowsOp {
  const P* source;
  P* destination;
  int64_t source_pitch, destination_pitch;  // pieces
  int height, width;                        // of the source
  Divider<uint32_t> scale;
  PixelItems items;
  __device__ __forceinline__ void operator()(uint32_t i) const {
    const auto [image, oy, ox, k] = items.place(i);
    const auto y = static_cast<int>(scale.quotient(static_cast<uint32_t>(oy)));
    const auto x = static_cast<int>(scale.quotient(static_cast<uint32_t>(ox)));
    const int64_t from = (static_cast<int64_t>(image) * height + y) * width + x;
    const int64_t to = items.pieces.quotient(i);
    destination[to * destination_pitch + k] = source[from * source_pitch + k];
  }
};

// An item of the destination comes from tap (y % scale, x % scale) of pixel (y / scale, x / scale).
template <class P>
struct ScatterRowsOp {
  const P* source;
  P* destination;
  int64_t pieces, destination_pitch;
  int height, width;  // of the source
  Divider<uint32_t> rows, columns;
  PixelItems items;
  __device__ __forceinline__ void operator()(uint32_t i) const {
    const auto [image, y, x, k] = items.place(i);
    const auto sh = static_cast<int>(rows.divisor);
    const auto sw = static_cast<int>(columns.divisor);
    const auto h = static_cast<int>(rows.quotient(static_cast<uint32_t>(y)));
    const auto w = static_cast<int>(columns.quotient(static_cast<uint32_t>(x)));
    const int64_t pixel = (static_cast<int64_t>(image) * height + h) * width + w;
    const int64_t from = (pixel * sh + y - h * sh) * sw + x - w * sw;
    const int64_t to = items.pieces.quotient(i);
    destination[to * destination_pitch + k] = source[from * pieces + k];
  }
};

// --- arithmetic ---------------------------------------------------------------------------------

template <class T, int kWidth>
struct alignas(kWidth * sizeof(T)) Group {
  T v[kWidth];
};
template <int kWidth, class T>
__device__ __forceinline__ Group<T, kWidth> load_group(const T* p) {
  return *reinterpret_cast<const Group<T, kWidth>*>(p);
}
template <int kWidth, class T>
__device__ __forceinline__ void store_group(T* p, const Group<T, kWidth>& group) {
  *reinterpret_cast<Group<T, kWidth>*>(p) = group;
}

template <class T>
__device__ __forceinline__ float number(T v) {
  if constexpr (std::is_integral_v<T>)
    return static_cast<float>(v);
  else
    return as_float(v);
}
template <class T>
__device__ __forceinline__ T stored(float v) {
  if constexpr (std::is_integral_v<T>)
    return static_cast<T>(static_cast<int>(v));
  else
    return from_float<T>(v);
}

// Calls f with a value of the element type.
template <class F>
void dispatch(const char* name, DType type, F&& f) {
  if (type == DType::kU8) return f(uint8_t{});
  if (type == DType::kI8) return f(int8_t{});
  if (type == DType::kF16) return f(__half{});
  check(type == DType::kF32, "{}: a tensor of {}, must be F32, F16, U8 or I8", name, name_of(type));
  f(0.0f);
}
// Calls f(std::integral_constant<int, width>{}): 16 bytes of T, 4 bytes, or one element.
template <class T, class F>
void dispatch_width(std::initializer_list<int64_t> elements,
                    std::initializer_list<const void*> addresses, F&& f) {
  constexpr int kSize = static_cast<int>(sizeof(T));
  const auto fits = [&](int width) {
    for (const int64_t e : elements)
      if (e % width != 0) return false;
    return all_multiples(width * kSize, {}, addresses);
  };
  if (fits(16 / kSize)) return f(std::integral_constant<int, 16 / kSize>{});
  if constexpr (kSize < 4) {
    if (fits(4 / kSize)) return f(std::integral_constant<int, 4 / kSize>{});
  }
  f(std::integral_constant<int, 1>{});
}

__device__ __forceinline__ int at_least(int a, int low) { return a > low ? a : low; }
__device__ __forceinline__ int at_most(int a, int high) { return a < high ? a : high; }

// The windows of a pool: item i is `kWidth` channels of a pixel of the result.
template <class T, int kWidth>
struct PoolWindows {
  const T* source;
  T* destination;
  int64_t source_pitch, destination_pitch;
  int height, width, kernel_height, kernel_width, stride, top, left;
  PixelItems items;
  explicit PoolWindows(const MaxPoolStrided& p)
      : PoolWindows(p, p.kernel, p.kernel, p.padding, p.padding) {}
  explicit PoolWindows(const AveragePoolStrided& p)
      : PoolWindows(p, p.kernel_height, p.kernel_width, p.top, p.left) {}

  struct Window {
    int y0, y1, x0, x1;  // without padding
    const T* in;         // these channels of the image's first pixel
    T* out;
  };
  __device__ __forceinline__ Window window(uint32_t i) const {
    const auto [image, oy, ox, channel] = items.place(i);
    const int up = oy * stride - top, before = ox * stride - left;
    return {
        at_least(up, 0),
        at_most(up + kernel_height, height),
        at_least(before, 0),
        at_most(before + kernel_width, width),
        source + static_cast<int64_t>(image) * height * width * source_pitch + channel,
        destination + static_cast<int64_t>(items.pieces.quotient(i)) * destination_pitch + channel};
  }
  __device__ __forceinline__ Group<T, kWidth> load(const Window& w, int y, int x) const {
    return load_group<kWidth>(w.in + static_cast<int64_t>(y * width + x) * source_pitch);
  }

 private:
  template <class P>
  PoolWindows(const P& p, int64_t kh, int64_t kw, int64_t up, int64_t before)
      : source(static_cast<const T*>(p.source)),
        destination(static_cast<T*>(p.destination)),
        source_pitch(p.source_pitch),
        destination_pitch(p.destination_pitch),
        height(static_cast<int>(p.height)),
        width(static_cast<int>(p.width)),
        kernel_height(static_cast<int>(kh)),
        kernel_width(static_cast<int>(kw)),
        stride(static_cast<int>(p.stride)),
        top(static_cast<int>(up)),
        left(static_cast<int>(before)),
        items(p.out_height, p.out_width, p.channels, kWidth) {}
};

template <class T, int kWidth>
struct PoolRowsOp {
  PoolWindows<T, kWidth> windows;
  explicit PoolRowsOp(const MaxPoolStrided& p) : windows(p) {}
  __device__ __forceinline__ void operator()(uint32_t i) const {
    const auto w = windows.window(i);
    Group<T, kWidth> best = windows.load(w, w.y0, w.x0);
    for (int y = w.y0; y < w.y1; ++y)
      for (int x = w.x0; x < w.x1; ++x) {
        const auto value = windows.load(w, y, x);
#pragma unroll
        for (int v = 0; v < kWidth; ++v)
          if (number(value.v[v]) > number(best.v[v])) best.v[v] = value.v[v];
      }
    store_group<kWidth>(w.out, best);
  }
};

template <class T, class Acc, int kWidth>
struct AverageRowsOp {
  PoolWindows<T, kWidth> windows;
  explicit AverageRowsOp(const AveragePoolStrided& p) : windows(p) {}
  __device__ __forceinline__ void operator()(uint32_t i) const {
    const auto w = windows.window(i);
    Acc sum[kWidth] = {};
    for (int y = w.y0; y < w.y1; ++y)
      for (int x = w.x0; x < w.x1; ++x) {
        const auto value = windows.load(w, y, x);
#pragma unroll
        for (int v = 0; v < kWidth; ++v) sum[v] += static_cast<Acc>(number(value.v[v]));
      }
    const int count = (w.y1 - w.y0) * (w.x1 - w.x0);
    Group<T, kWidth> out;
#pragma unroll
    for (int v = 0; v < kWidth; ++v) {
      if constexpr (std::is_same_v<Acc, int>)
        out.v[v] = stored<T>(static_cast<float>(rounded_quotient(sum[v], count)));
      else
        out.v[v] = stored<T>(sum[v] / static_cast<Acc>(count));
    }
    store_group<kWidth>(w.out, out);
  }
};

// Item i is `kWidth` channels of a row.
struct RowItems {
  Divider<uint32_t> pieces;
  int width;
  RowItems(int64_t channels, int width_of_item)
      : pieces(channels / width_of_item), width(width_of_item) {}
  struct Place {
    int64_t row;
    int channel;
  };
  __device__ __forceinline__ Place place(uint32_t i) const {
    const uint32_t row = pieces.quotient(i);
    return {row, static_cast<int>(i - row * pieces.divisor) * width};
  }
};

template <class T, int kWidth>
struct AddRowsOp {
  const T* a;
  const T* b;
  T* y;
  int64_t a_pitch, b_pitch, y_pitch;
  float factor, low, high;
  bool round;
  RowItems items;
  explicit AddRowsOp(const AddStrided& p)
      : a(static_cast<const T*>(p.a)),
        b(static_cast<const T*>(p.b)),
        y(static_cast<T*>(p.y)),
        a_pitch(p.a_pitch),
        b_pitch(p.b_pitch),
        y_pitch(p.y_pitch),
        factor(p.factor),
        low(p.low),
        high(p.high),
        round(p.low < p.high),
        items(p.channels, kWidth) {
    if constexpr (std::is_integral_v<T>) {
      low = std::is_signed_v<T> ? -128.0f : 0.0f;
      high = std::is_signed_v<T> ? 127.0f : 255.0f;
      round = true;
    }
  }
  __device__ __forceinline__ void operator()(uint32_t i) const {
    const auto [row, channel] = items.place(i);
    const auto x = load_group<kWidth>(a + row * a_pitch + channel);
    const auto z = load_group<kWidth>(b + row * b_pitch + channel);
    Group<T, kWidth> out;
#pragma unroll
    for (int k = 0; k < kWidth; ++k) {
      float v = fmaf(factor, number(z.v[k]), number(x.v[k]));
      if (round) {
        v = rintf(v);
        v = v < low ? low : (v > high ? high : v);
      }
      out.v[k] = stored<T>(v);
    }
    store_group<kWidth>(y + row * y_pitch + channel, out);
  }
};

// Element i of y. Bytes are read by their own types.
template <class T>
struct MultiplyOp {
  MultiplyStrided p;
  bool a_signed, b_signed;
  Divider<uint32_t> channels, pixels;
  explicit MultiplyOp(const MultiplyStrided& from)
      : p(from),
        a_signed(from.a_type == DType::kI8),
        b_signed(from.b_type == DType::kI8),
        channels(from.channels),
        pixels(from.pixels) {}
  __device__ __forceinline__ static float at(const void* x, bool is_signed, int64_t i) {
    const T v = static_cast<const T*>(x)[i];
    if constexpr (std::is_integral_v<T>)
      if (is_signed) return number(static_cast<int8_t>(v));
    return number(v);
  }
  __device__ __forceinline__ void operator()(uint32_t i) const {
    const uint32_t row = channels.quotient(i);
    const uint32_t c = i - row * channels.divisor;
    const uint32_t b_row = p.b_per_image ? pixels.quotient(row) : row;
    const float x = at(p.a, a_signed, row * p.a_pitch + c);
    const float z = at(p.b, b_signed, b_row * p.b_pitch + c);
    float v = __fmul_rn(__fmul_rn(x, z), p.factor);
    if (std::is_integral_v<T> || p.round) {
      v = rintf(v);
      v = v < p.low ? p.low : (v > p.high ? p.high : v);
    }
    T& y = static_cast<T*>(p.y)[row * p.y_pitch + c];
    if constexpr (std::is_integral_v<T>)
      y = static_cast<T>(static_cast<int>(v));
    else
      y = stored<T>(v);
  }
};

template <class From, class To, int kWidth>
struct MapRowsOp {
  const From* x;
  To* y;
  int64_t x_pitch, y_pitch;
  float x_scale, y_scale, low, high;
  Activation activation;
  bool round;
  RowItems items;
  explicit MapRowsOp(const ConvertStrided& p)
      : x(static_cast<const From*>(p.x)),
        y(static_cast<To*>(p.y)),
        x_pitch(p.x_pitch),
        y_pitch(p.y_pitch),
        x_scale(p.x_scale),
        y_scale(p.y_scale),
        low(p.low),
        high(p.high),
        activation(p.activation),
        round(p.round),
        items(p.channels, kWidth) {}
  __device__ __forceinline__ void operator()(uint32_t i) const {
    const auto [row, channel] = items.place(i);
    const auto in = load_group<kWidth>(x + row * x_pitch + channel);
    Group<To, kWidth> out;
#pragma unroll
    for (int k = 0; k < kWidth; ++k) {
      // Not contracted with what the activation adds: the CPU rounds the product.
      float v = activate(activation, __fmul_rn(number(in.v[k]), x_scale));
      if (round) {
        v = rintf(v / y_scale);
        v = v >= low ? (v <= high ? v : high) : low;
      }
      out.v[k] = stored<To>(v);
    }
    store_group<kWidth>(y + row * y_pitch + channel, out);
  }
};

template <int kWidth>
struct TableOp {
  const uint8_t* x;
  uint8_t* y;
  const uint8_t* table;
  int64_t x_pitch, y_pitch;
  RowItems items;
  __device__ __forceinline__ void operator()(uint32_t i) const {
    const auto [row, channel] = items.place(i);
    const auto in = load_group<kWidth>(x + row * x_pitch + channel);
    Group<uint8_t, kWidth> out;
#pragma unroll
    for (int k = 0; k < kWidth; ++k) out.v[k] = table[in.v[k]];
    store_group<kWidth>(y + row * y_pitch + channel, out);
  }
};

template <class From, class To>
void map_typed(const ConvertStrided& p, Stream stream) {
  constexpr int kWidth = 4;
  const int64_t n = p.rows * p.channels;
  const bool grouped = p.channels % kWidth == 0 && p.x_pitch % kWidth == 0 &&
                       p.y_pitch % kWidth == 0 &&
                       all_multiples(kWidth * static_cast<int64_t>(sizeof(From)), {}, {p.x}) &&
                       all_multiples(kWidth * static_cast<int64_t>(sizeof(To)), {}, {p.y});
  if (grouped)
    for_each_item("convert_strided", MapRowsOp<From, To, kWidth>(p), n / kWidth, stream);
  else
    for_each_item("convert_strided", MapRowsOp<From, To, 1>(p), n, stream);
}

void map_by_table(const ConvertStrided& p, Stream stream) {
  check(p.table != nullptr, "convert_strided: {} to {} without a table", name_of(p.x_type),
        name_of(p.y_type));
  dispatch_width<uint8_t>({p.channels, p.x_pitch, p.y_pitch}, {p.x, p.y}, [&](auto width) {
    constexpr int kWidth = decltype(width)::value;
    const TableOp<kWidth> op{
        static_cast<const uint8_t*>(p.x), static_cast<uint8_t*>(p.y), p.table, p.x_pitch, p.y_pitch,
        RowItems(p.channels, kWidth)};
    for_each_item("convert_strided", op, p.rows * p.channels / kWidth, stream);
  });
}

// --- sums over many elements --------------------------------------------------------------------

constexpr int kMeanChannels = 32;
constexpr int kMeanSlices = 8;
constexpr int kSoftmaxThreads = 128;

// A block for 32 channels of an image: each slice adds every eighth pixel, the slices in order.
template <class X, class Y>
__global__ void __launch_bounds__(kMeanChannels* kMeanSlices) mean_kernel(GlobalAverageStrided p) {
  using Sum = std::conditional_t<std::is_integral_v<X>, int64_t, double>;
  SEXTANT_SHARED(Sum[kMeanSlices][kMeanChannels], sums);
  const int lane = static_cast<int>(threadIdx.x) % kMeanChannels;
  const int slice = static_cast<int>(threadIdx.x) / kMeanChannels;
  const int64_t c = static_cast<int64_t>(blockIdx.x) * kMeanChannels + lane;
  const int64_t image = blockIdx.y;
  Sum sum = 0;
  if (c < p.channels)
    for (int64_t i = slice; i < p.pixels; i += kMeanSlices)
      sum += static_cast<Sum>(
          number(static_cast<const X*>(p.x)[(image * p.pixels + i) * p.x_pitch + c]));
  sums[slice][lane] = sum;
  __syncthreads();
  if (slice != 0 || c >= p.channels) return;
  for (int s = 1; s < kMeanSlices; ++s) sum += sums[s][lane];
  static_cast<Y*>(p.y)[image * p.y_pitch + c] = stored<Y>(average_of(sum, p));
}

// A warp a row.
template <class T>
__global__ void __launch_bounds__(kSoftmaxThreads) softmax_kernel(SoftmaxStrided p) {
  constexpr unsigned kAll = 0xffffffffu;
  const int lane = static_cast<int>(threadIdx.x) % warpSize;
  const int64_t row = static_cast<int64_t>(blockIdx.x) * (kSoftmaxThreads / warpSize) +
                      static_cast<int>(threadIdx.x) / warpSize;
  if (row >= p.rows) return;  // whole warps
  const T* x = static_cast<const T*>(p.x) + row * p.x_pitch;
  T* y = static_cast<T*>(p.y) + row * p.y_pitch;
  float top = number(x[0]);
  for (int64_t c = lane; c < p.channels; c += warpSize) top = fmaxf(top, number(x[c]));
  for (int d = warpSize / 2; d > 0; d /= 2) top = fmaxf(top, __shfl_xor_sync(kAll, top, d));
  float sum = 0.0f;
  for (int64_t c = lane; c < p.channels; c += warpSize) sum += fast_exp(number(x[c]) - top);
  for (int d = warpSize / 2; d > 0; d /= 2) sum += __shfl_xor_sync(kAll, sum, d);
  for (int64_t c = lane; c < p.channels; c += warpSize)
    y[c] = stored<T>(fast_exp(number(x[c]) - top) / sum);
}

}  // namespace

void copy_strided(const CopyStrided& p, void*, Stream stream) {
  if (p.rows * p.bytes <= 0) return;
  dispatch_piece(
      {p.bytes, p.source_pitch, p.destination_pitch}, {p.source, p.destination}, [&](auto piece) {
        using P = decltype(piece);
        constexpr auto kSize = static_cast<int64_t>(sizeof(P));
        const CopyRowsOp<P> op{static_cast<const P*>(p.source), static_cast<P*>(p.destination),
                               p.source_pitch / kSize, p.destination_pitch / kSize,
                               Divider<uint32_t>(p.bytes / kSize)};
        for_each_item("copy_strided", op, p.rows * p.bytes / kSize, stream);
      });
}

void depth_to_space(const DepthToSpace& p, void*, Stream stream) {
  check(p.scale >= 1 && p.crop_bottom >= 0 && p.crop_bottom < p.scale && p.crop_right >= 0 &&
            p.crop_right < p.columns(),
        "depth_to_space: scale {}, {}, crop {}, {}", p.scale, p.columns(), p.crop_bottom,
        p.crop_right);
  const int64_t pixels = p.batch * p.out_height() * p.out_width();
  if (pixels * p.bytes <= 0) return;
  dispatch_piece({p.bytes, p.destination_pitch}, {p.source, p.destination}, [&](auto piece) {
    using P = decltype(piece);
    constexpr auto kSize = static_cast<int64_t>(sizeof(P));
    const ScatterRowsOp<P> op{static_cast<const P*>(p.source),
                              static_cast<P*>(p.destination),
                              p.bytes / kSize,
                              p.destination_pitch / kSize,
                              static_cast<int>(p.height),
                              static_cast<int>(p.width),
                              Divider<uint32_t>(p.scale),
                              Divider<uint32_t>(p.columns()),
                              PixelItems(p.out_height(), p.out_width(), p.bytes / kSize, 1)};
    for_each_item("depth_to_space", op, pixels * p.bytes / kSize, stream);
  });
}

void upsample_strided(const UpsampleStrided& p, void*, Stream stream) {
  check(p.scale >= 1, "upsample_strided: scale {}", p.scale);
  const int64_t pixels = p.batch * p.height * p.width * p.scale * p.scale;
  if (pixels * p.bytes <= 0) return;
  dispatch_piece({p.bytes, p.source_pitch, p.destination_pitch}, {p.source, p.destination},
                 [&](auto piece) {
                   using P = decltype(piece);
                   constexpr auto kSize = static_cast<int64_t>(sizeof(P));
                   const UpsampleRowsOp<P> op{
                       static_cast<const P*>(p.source),
                       static_cast<P*>(p.destination),
                       p.source_pitch / kSize,
                       p.destination_pitch / kSize,
                       static_cast<int>(p.height),
                       static_cast<int>(p.width),
                       Divider<uint32_t>(p.scale),
                       PixelItems(p.height * p.scale, p.width * p.scale, p.bytes / kSize, 1)};
                   for_each_item("upsample_strided", op, pixels * p.bytes / kSize, stream);
                 });
}

void gather_channels(const GatherChannels& p, void*, Stream stream) {
  check(p.bytes == 1 || p.bytes == 2 || p.bytes == 4,
        "gather_channels: elements of {} bytes, must be 1, 2 or 4", p.bytes);
  if (p.rows * p.count <= 0) return;
  const auto run = [&](auto zero) {
    using T = decltype(zero);
    const GatherOp<T> op{static_cast<const T*>(p.source),
                         static_cast<T*>(p.destination),
                         p.channels,
                         p.source_pitch,
                         p.destination_pitch,
                         Divider<uint32_t>(p.count)};
    for_each_item("gather_channels", op, p.rows * p.count, stream);
  };
  if (p.bytes == 1) return run(uint8_t{});
  p.bytes == 2 ? run(uint16_t{}) : run(uint32_t{});
}

void max_pool_strided(const MaxPoolStrided& p, void*, Stream stream) {
  check(p.kernel >= 1 && p.stride >= 1 && p.padding >= 0 && 2 * p.padding <= p.kernel,
        "max_pool_strided: kernel {}, stride {}, padding {}", p.kernel, p.stride, p.padding);
  check(p.height * p.width < (int64_t{1} << 31), "max_pool_strided: {} x {} pixels, at most 2^31",
        p.height, p.width);
  dispatch("max_pool_strided", p.dtype, [&](auto zero) {
    using T = decltype(zero);
    dispatch_width<T>({p.channels, p.source_pitch, p.destination_pitch}, {p.source, p.destination},
                      [&](auto width) {
                        constexpr int kWidth = decltype(width)::value;
                        for_each_item("max_pool_strided", PoolRowsOp<T, kWidth>(p),
                                      p.batch * p.out_height * p.out_width * p.channels / kWidth,
                                      stream);
                      });
  });
}

void average_pool_strided(const AveragePoolStrided& p, void*, Stream stream) {
  if (p.batch * p.out_height * p.out_width <= 0) return;
  check_average_pool(p);
  check(p.height * p.width < (int64_t{1} << 31),
        "average_pool_strided: {} x {} pixels, at most 2^31", p.height, p.width);
  const auto run = [&](auto op, int width) {
    for_each_item("average_pool_strided", op,
                  p.batch * p.out_height * p.out_width * p.channels / width, stream);
  };
  dispatch("average_pool_strided", p.dtype, [&](auto zero) {
    using T = decltype(zero);
    dispatch_width<T>({p.channels, p.source_pitch, p.destination_pitch}, {p.source, p.destination},
                      [&](auto width) {
                        constexpr int kWidth = decltype(width)::value;
                        if (std::is_integral_v<T> || p.round)
                          run(AverageRowsOp<T, int, kWidth>(p), kWidth);
                        else
                          run(AverageRowsOp<T, float, kWidth>(p), kWidth);
                      });
  });
}

void add_strided(const AddStrided& p, void*, Stream stream) {
  dispatch("add_strided", p.dtype, [&](auto zero) {
    using T = decltype(zero);
    dispatch_width<T>({p.channels, p.a_pitch, p.b_pitch, p.y_pitch}, {p.a, p.b, p.y},
                      [&](auto width) {
                        constexpr int kWidth = decltype(width)::value;
                        for_each_item("add_strided", AddRowsOp<T, kWidth>(p),
                                      p.rows * p.channels / kWidth, stream);
                      });
  });
}

void multiply_strided(const MultiplyStrided& p, void*, Stream stream) {
  const bool bytes = check_product(p);
  const int64_t n = p.batch * p.pixels * p.channels;
  if (n <= 0) return;
  if (bytes) return for_each_item("multiply_strided", MultiplyOp<uint8_t>(p), n, stream);
  dispatch_float("multiply_strided", p.y_type, [&](auto zero) {
    for_each_item("multiply_strided", MultiplyOp<decltype(zero)>(p), n, stream);
  });
}

void convert_strided(const ConvertStrided& p, void*, Stream stream) {
  dispatch("convert_strided", p.x_type, [&](auto x) {
    dispatch("convert_strided", p.y_type, [&](auto y) {
      using From = decltype(x);
      using To = decltype(y);
      if constexpr (sizeof(From) == 1 && sizeof(To) == 1)
        map_by_table(p, stream);
      else
        map_typed<From, To>(p, stream);
    });
  });
}

void global_average_strided(const GlobalAverageStrided& p, void*, Stream stream) {
  const bool bytes = check_average(p);
  if (p.batch * p.channels <= 0) return;
  check(p.batch <= 65535, "global_average_strided: batch {}, at most 65535", p.batch);
  const auto run = [&](auto x, auto y) {
    GlobalAverageStrided each = p;
    each.round = p.round || std::is_integral_v<decltype(y)>;
    const dim3 grid(static_cast<unsigned>((p.channels + kMeanChannels - 1) / kMeanChannels),
                    static_cast<unsigned>(p.batch));
    launch(SEXTANT_KERNEL(mean_kernel<decltype(x), decltype(y)>), grid, kMeanChannels * kMeanSlices,
           0, stream, each);
  };
  if (!bytes)
    return dispatch_float("global_average_strided", p.x_type, [&](auto zero) { run(zero, zero); });
  const auto from = [&](auto x) { p.y_type == DType::kU8 ? run(x, uint8_t{}) : run(x, int8_t{}); };
  p.x_type == DType::kU8 ? from(uint8_t{}) : from(int8_t{});
}

void softmax_strided(const SoftmaxStrided& p, void*, Stream stream) {
  if (p.rows * p.channels <= 0) return;
  constexpr int64_t kRows = kSoftmaxThreads / kHostWarp;
  const int64_t blocks = (p.rows + kRows - 1) / kRows;
  check(blocks <= 0x7FFFFFFF, "softmax_strided: {} rows are too many", p.rows);
  dispatch_float("softmax_strided", p.dtype, [&](auto zero) {
    launch(SEXTANT_KERNEL(softmax_kernel<decltype(zero)>), static_cast<unsigned>(blocks),
           kSoftmaxThreads, 0, stream, p);
  });
}

}  // namespace sextant::kernels::cuda
