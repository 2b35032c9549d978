// SPDX-License-Identifier: Apache-2.0
// Anchor points, and decoding of the head's outputs to boxes and scores: one warp per anchor.
#include "kernels/cuda/conv/mma.cuh"
#include "kernels/cuda/device/each.cuh"
#include "kernels/detection/decode.h"
#include "kernels/detection/dfl.h"

namespace sextant::kernels::cuda {
namespace {

constexpr int kThreads = 256;

struct Level {
  const void* cls;
  const void* reg;
  const void* obj;  // null: 1
  int64_t cls_pitch, reg_pitch, obj_pitch;
  int height, width;
  float stride;
};
struct Levels {
  Level level[kMaxLevels];
  int count;
};

// The level of position `at`, which becomes the position within it; each is `repeats` times as long
// as its map.
__device__ __forceinline__ const Level& find_level(const Levels& levels, int repeats, int64_t& at) {
  int l = 0;
  while (l + 1 < levels.count) {
    const int64_t size =
        static_cast<int64_t>(levels.level[l].height) * levels.level[l].width * repeats;
    if (at < size) break;
    at -= size;
    ++l;
  }
  return levels.level[l];
}

// --- anchors ------------------------------------------------------------------------------------

template <class T>
struct AnchorOp {
  Levels levels;
  int repeats;
  T cell_offset, cell_size;
  bool pixels;
  T* points;
  T* strides;
  T* boxes;
  __device__ __forceinline__ void operator()(uint32_t a) const {
    int64_t at = a;
    const Level& level = find_level(levels, repeats, at);
    const int64_t cell = at % (static_cast<int64_t>(level.height) * level.width);
    const T cx = static_cast<T>(cell % level.width) + cell_offset;
    const T cy = static_cast<T>(cell / level.width) + cell_offset;
    const T stride = static_cast<T>(level.stride);
    const T unit = pixels ? stride : T(1);
    const int64_t i = a;
    points[2 * i] = cx * unit;
    points[2 * i + 1] = cy * unit;
    if (strides != nullptr) strides[i] = stride;
    if (boxes == nullptr) return;
    const T half = cell_size * stride * T(0.5);
    boxes[4 * i] = cx * stride - half;
    boxes[4 * i + 1] = cy * stride - half;
    boxes[4 * i + 2] = cx * stride + half;
    boxes[4 * i + 3] = cy * stride + half;
  }
};

// --- decode -------------------------------------------------------------------------------------

struct DecodeParams {
  Levels levels;
  int64_t anchors, rows;  // of an image, of all
  int classes, bins;      // bins 1: plain distances
  float cell_offset;
  float* out;  // backward: read
};

constexpr unsigned kAll = 0xffffffffu;
constexpr int kLanes = 8;  // of a side

// A side's distribution: probability exp(z - top) / sum, and the expectation.
struct SideDistribution {
  float top, sum, mean;
};

// Computed by eight lanes.
template <class T>
__device__ __forceinline__ SideDistribution side_distribution(const T* z, int bins) {
  const int lane = static_cast<int>(threadIdx.x) % kLanes;
  float top = as_float(z[0]);
  for (int k = lane; k < bins; k += kLanes) top = fmaxf(top, as_float(z[k]));
  for (int d = kLanes / 2; d > 0; d /= 2) top = fmaxf(top, __shfl_xor_sync(kAll, top, d, kLanes));
  float sum = 0.0f;
  float moment = 0.0f;
  for (int k = lane; k < bins; k += kLanes) {
    const float e = fast_exp(as_float(z[k]) - top);
    sum += e;
    moment += e * static_cast<float>(k);
  }
  for (int d = kLanes / 2; d > 0; d /= 2) {
    sum += __shfl_xor_sync(kAll, sum, d, kLanes);
    moment += __shfl_xor_sync(kAll, moment, d, kLanes);
  }
  return {top, sum, moment / sum};
}

// The row of this warp.
template <int kBlock>
__device__ __forceinline__ int64_t warp_row() {
  return static_cast<int64_t>(blockIdx.x) * (kBlock / warpSize) +
         static_cast<int>(threadIdx.x) / warpSize;
}

// Where a row's anchor lies: cell `cell` of its level's map, pixel `pixel` of that map's batch.
struct Anchor {
  const Level& level;
  int64_t cell, pixel;
};
__device__ __forceinline__ Anchor anchor_of(const DecodeParams& p, int64_t row) {
  int64_t cell = row % p.anchors;
  const Level& level = find_level(p.levels, 1, cell);
  return {level, cell, row / p.anchors * level.height * level.width + cell};
}

template <class T, int kBlock>
__global__ void __launch_bounds__(kBlock) decode_kernel(DecodeParams p) {
  const int lane = static_cast<int>(threadIdx.x) % warpSize;
  const int64_t row = warp_row<kBlock>();
  if (row >= p.rows) return;  // whole warps
  const Anchor anchor = anchor_of(p, row);
  const Level& level = anchor.level;
  const int64_t cell = anchor.cell, pixel = anchor.pixel;
  const T* reg = static_cast<const T*>(level.reg) + pixel * level.reg_pitch;
  const int side = lane / kLanes;
  const float mine =
      p.bins > 1 ? side_distribution(reg + side * p.bins, p.bins).mean : as_float(reg[side]);
  float dist[4], box[4];
  for (int i = 0; i < 4; ++i) dist[i] = __shfl_sync(kAll, mine, kLanes * i);
  dist2bbox(static_cast<float>(cell % level.width) + p.cell_offset,
            static_cast<float>(cell / level.width) + p.cell_offset, dist, box);
  float* out = p.out + row * (5 + p.classes);
  if (lane == 0) {
    out[0] = (box[0] + box[2]) * 0.5f * level.stride;
    out[1] = (box[1] + box[3]) * 0.5f * level.stride;
    out[2] = (box[2] - box[0]) * level.stride;
    out[3] = (box[3] - box[1]) * level.stride;
    const auto* obj = static_cast<const T*>(level.obj);
    out[4] = obj != nullptr ? sigmoid(as_float(obj[pixel * level.obj_pitch])) : 1.0f;
  }
  const T* cls = static_cast<const T*>(level.cls) + pixel * level.cls_pitch;
  for (int c = lane; c < p.classes; c += warpSize) out[5 + c] = sigmoid(as_float(cls[c]));
}

struct BackwardParams {
  DecodeParams forward;
  const float* dy;
  DecodeGradient grad[kMaxLevels];
};

template <int kBlock>
__global__ void __launch_bounds__(kBlock) decode_backward_kernel(BackwardParams params) {
  const DecodeParams& p = params.forward;
  const int lane = static_cast<int>(threadIdx.x) % warpSize;
  const int64_t row = warp_row<kBlock>();
  if (row >= p.rows) return;  // whole warps
  const Anchor anchor = anchor_of(p, row);
  const Level& level = anchor.level;
  const int64_t pixel = anchor.pixel;
  const DecodeGradient& grad = params.grad[&level - p.levels.level];
  const float* out = p.out + row * (5 + p.classes);
  const float* dy = params.dy + row * (5 + p.classes);
  if (grad.reg != nullptr) {
    const int side = lane / kLanes;
    const float d = distance_gradient(dy, side, level.stride);
    float* to = grad.reg + (4 * pixel + side) * p.bins;
    if (p.bins == 1) {
      if (lane % kLanes == 0) *to = d;
    } else {
      const float* z =
          static_cast<const float*>(level.reg) + pixel * level.reg_pitch + side * p.bins;
      const SideDistribution s = side_distribution(z, p.bins);
      for (int k = lane % kLanes; k < p.bins; k += kLanes)
        to[k] = fast_exp(z[k] - s.top) / s.sum * d * (static_cast<float>(k) - s.mean);
    }
  }
  if (grad.obj != nullptr && lane == 0) grad.obj[pixel] = logit_gradient(dy[4], out[4]);
  if (grad.cls == nullptr) return;
  for (int c = lane; c < p.classes; c += warpSize)
    grad.cls[pixel * p.classes + c] = logit_gradient(dy[5 + c], out[5 + c]);
}

DecodeParams params_of(const char* name, const HeadMaps& p) {
  DecodeParams d{};
  d.levels.count = p.levels;
  d.bins = static_cast<int>(p.reg_max) + 1;
  d.classes = static_cast<int>(p.classes);
  for (int l = 0; l < p.levels; ++l) {
    const DecodeLevel& from = p.level[static_cast<size_t>(l)];
    d.levels.level[l] = {from.cls,
                         from.reg,
                         from.obj,
                         from.cls_pitch ? from.cls_pitch : p.classes,
                         from.reg_pitch ? from.reg_pitch : 4 * (p.reg_max + 1),
                         from.obj_pitch ? from.obj_pitch : 1,
                         static_cast<int>(from.height),
                         static_cast<int>(from.width),
                         from.stride};
  }
  d.anchors = p.anchors();
  d.rows = p.batch * d.anchors;
  d.cell_offset = p.cell_offset;
  check(d.rows <= int64_t{0x7FFFFFFF} * (kThreads / kHostWarp), "{}: {} anchors are too many", name,
        d.rows);
  return d;
}
unsigned blocks_of(const DecodeParams& d) {
  return static_cast<unsigned>((d.rows + kThreads / kHostWarp - 1) / (kThreads / kHostWarp));
}

template <class T>
void generate(const AnchorsOf<T>& p, Stream stream) {
  AnchorOp<T> op{{},
                 p.grid.repeats,
                 static_cast<T>(p.grid.cell_offset),
                 static_cast<T>(p.cell_size),
                 p.pixels,
                 p.points,
                 p.strides,
                 p.boxes};
  op.levels.count = p.grid.levels;
  for (int l = 0; l < p.grid.levels; ++l) {
    const GridLevel& from = p.grid.level[static_cast<size_t>(l)];
    op.levels.level[l] = {nullptr,
                          nullptr,
                          nullptr,
                          0,
                          0,
                          0,
                          static_cast<int>(from.height),
                          static_cast<int>(from.width),
                          from.stride};
  }
  for_each_item("generate_anchors", op, p.grid.anchors(), stream);
}

}  // namespace

void generate_anchors(const AnchorsOf<float>& p, void*, Stream stream) { generate(p, stream); }
void generate_anchors(const AnchorsOf<double>& p, void*, Stream stream) { generate(p, stream); }

void decode(const Decode& p, void*, Stream stream) {
  DecodeParams d = params_of("decode", p.maps);
  d.out = p.out;
  if (d.rows <= 0) return;
  if (p.maps.dtype == DType::kF16)
    return launch(SEXTANT_KERNEL(decode_kernel<__half, kThreads>), blocks_of(d), kThreads, 0,
                  stream, d);
  check(p.maps.dtype == DType::kF32, "decode: maps of {}, must be F32 or F16",
        name_of(p.maps.dtype));
  launch(SEXTANT_KERNEL(decode_kernel<float, kThreads>), blocks_of(d), kThreads, 0, stream, d);
}

void decode_backward(const DecodeBackward& p, void*, Stream stream) {
  check(p.maps.dtype == DType::kF32, "decode_backward: maps of {}, must be F32",
        name_of(p.maps.dtype));
  BackwardParams b{params_of("decode_backward", p.maps), p.dy, {}};
  b.forward.out = const_cast<float*>(p.out);
  std::copy(p.grad.begin(), p.grad.end(), b.grad);
  if (b.forward.rows <= 0) return;
  launch(SEXTANT_KERNEL(decode_backward_kernel<kThreads>), blocks_of(b.forward), kThreads, 0,
         stream, b);
}

}  // namespace sextant::kernels::cuda
