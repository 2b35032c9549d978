// The weight gradient as a matrix product: output channels x (tap, input channel), summed over the
// output's pixels. There are few tiles and many pixels, so the pixels are divided into slices; the
// slices' sums go to the workspace and a second kernel adds them in order.
#include "kernels/cuda/conv_launch.cuh"

namespace sextant::kernels::cuda {
namespace {

// From the shape alone, so that sums have one order everywhere.
constexpr int64_t kBlocksWanted = 528;  // four for each of an H200's 132 multiprocessors
constexpr int64_t kSliceAtLeast = 128;  // pixels
constexpr int64_t kSliceMultiple = kTileRowBytes / 2;  // of every type's tile
constexpr int kSumThreads = 256;
constexpr int kBiasChannels = 32, kBiasLanes = 8;  // a block of bias_sums_kernel

struct Slices {
  int64_t pixels, count;
};
Slices slices_of(int64_t pixels, int64_t tiles) {
  const int64_t most = std::max<int64_t>(1, pixels / kSliceAtLeast);
  const int64_t wanted = std::clamp<int64_t>(kBlocksWanted / tiles, 1, most);
  const int64_t each = ceil_div(ceil_div(pixels, wanted), kSliceMultiple) * kSliceMultiple;
  return {each, ceil_div(pixels, each)};
}
int64_t pixels_of(const ConvShape& s) { return s.n * s.oh() * s.ow(); }
Slices weight_slices(const ConvShape& s) {
  return slices_of(pixels_of(s), ceil_div(s.oc, 64) * ceil_div(s.kh * s.kw * s.ic, 64));
}
Slices bias_slices(const ConvShape& s) {
  return slices_of(pixels_of(s), ceil_div(s.oc, kBiasChannels));
}

// out[i] = sum over slices of partial[slice][i]
__global__ void __launch_bounds__(kSumThreads)
    sum_slices_kernel(const float* partial, float* out, int64_t n, int slices) {
  const int64_t i = static_cast<int64_t>(blockIdx.x) * kSumThreads + threadIdx.x;
  if (i >= n) return;
  float sum = partial[i];
  for (int s = 1; s < slices; ++s) sum += partial[s * n + i];
  out[i] = sum;
}

// out[slice][channel] = sum over the slice's rows of dy [rows, channels]
template <class T>
__global__ void __launch_bounds__(kBiasChannels* kBiasLanes)
    bias_sums_kernel(const T* dy, float* out, int64_t rows, int64_t rows_in_slice, int channels) {
  SEXTANT_SHARED(float[kBiasLanes][kBiasChannels], lanes);
  const int channel = static_cast<int>(blockIdx.x * kBiasChannels + threadIdx.x);
  const int64_t begin = blockIdx.y * rows_in_slice;
  const int64_t end = begin + rows_in_slice < rows ? begin + rows_in_slice : rows;
  float sum = 0.0f;
  if (channel < channels) {
#pragma unroll 4
    for (int64_t r = begin + threadIdx.y; r < end; r += kBiasLanes)
      sum += as_float(dy[r * channels + channel]);
  }
  lanes[threadIdx.y][threadIdx.x] = sum;
  __syncthreads();
  if (threadIdx.y != 0 || channel >= channels) return;
  for (int lane = 1; lane < kBiasLanes; ++lane) sum += lanes[lane][threadIdx.x];
  out[static_cast<int64_t>(blockIdx.y) * channels + channel] = sum;
}

void sum_slices(const float* partial, float* out, int64_t n, int64_t slices, Stream stream) {
  const dim3 grid(static_cast<unsigned>(ceil_div(n, kSumThreads)));
  launch(SEXTANT_KERNEL(sum_slices_kernel), grid, kSumThreads, 0, stream, partial, out, n,
         static_cast<int>(slices));
}

template <class Math>
void weight_gradient(const ConvBackwardWeight& p, float* partial, Stream stream) {
  using T = typename Math::Element;
  const ConvShape& s = p.shape;
  const auto* x = static_cast<const T*>(p.x);
  const auto* dy = static_cast<const T*>(p.dy);
  const Slices slices = weight_slices(s);
  const int pixels = static_cast<int>(pixels_of(s)), channels = static_cast<int>(s.oc);
  const int columns = static_cast<int>(s.kh * s.kw * s.ic);
  const Matrix<T, false> a{dy, piece_of(dy, s.oc), channels, pixels, s.oc};
  const TapsByPixels<T> b{{x, piece_of(x, s.ic), input_gather(s)}};
  float* out = slices.count > 1 ? partial : p.dw;
  const PartialEpilogue epilogue{out, s.w_numel(), columns, packs_of_eight(out, columns)};
  run_product<Math>(a, b, epilogue, {channels, columns, pixels, 0, static_cast<int>(slices.pixels)},
                    static_cast<int>(slices.count), stream);
  if (slices.count > 1) sum_slices(partial, p.dw, s.w_numel(), slices.count, stream);
}

template <class T>
void bias_gradient(const ConvBackwardWeight& p, float* partial, Stream stream) {
  const ConvShape& s = p.shape;
  const Slices slices = bias_slices(s);
  launch(SEXTANT_KERNEL(bias_sums_kernel<T>),
         dim3(static_cast<unsigned>(ceil_div(s.oc, kBiasChannels)),
              static_cast<unsigned>(slices.count)),
         dim3(kBiasChannels, kBiasLanes), 0, stream, static_cast<const T*>(p.dy),
         slices.count > 1 ? partial : p.db, pixels_of(s), slices.pixels, static_cast<int>(s.oc));
  if (slices.count > 1) sum_slices(partial, p.db, s.oc, slices.count, stream);
}

}  // namespace

int64_t conv_backward_weight_workspace(const ConvShape& s) {
  check_conv_shape("conv_backward_weight", s);
  // The two follow each other in the stream, so they share it.
  const auto floats = [](const Slices& slices, int64_t n) {
    return slices.count > 1 ? slices.count * n : 0;
  };
  return std::max(floats(weight_slices(s), s.w_numel()), floats(bias_slices(s), s.oc)) *
         static_cast<int64_t>(sizeof(float));
}

void conv_backward_weight(const ConvBackwardWeight& p, void* workspace, Stream stream) {
  check_conv_shape("conv_backward_weight", p.shape);
  dispatch_math("conv_backward_weight", p.dtype, p.precision, [&](auto math) {
    using Math = decltype(math);
    auto* partial = static_cast<float*>(workspace);
    weight_gradient<Math>(p, partial, stream);
    if (p.db) bias_gradient<typename Math::Element>(p, partial, stream);
  });
}

}  // namespace sextant::kernels::cuda
