// Anchor points, and the head's outputs as boxes and scores: a warp an anchor.
#include "kernels/cuda/each.cuh"
#include "kernels/cuda/mma.cuh"
#include "kernels/decode.h"
#include "kernels/dfl.h"

namespace sextant::kernels::cuda {
namespace {

constexpr int kThreads = 256;

struct Level {
  const void* cls;
  const void* reg;
  int64_t cls_pitch, reg_pitch;
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

struct AnchorOp {
  Levels levels;
  int repeats;
  float cell_offset, cell_size;
  bool pixels;
  float* points;
  float* strides;
  float* boxes;
  __device__ __forceinline__ void operator()(uint32_t a) const {
    int64_t at = a;
    const Level& level = find_level(levels, repeats, at);
    const int64_t cell = at % (static_cast<int64_t>(level.height) * level.width);
    const float cx = static_cast<float>(cell % level.width) + cell_offset;
    const float cy = static_cast<float>(cell / level.width) + cell_offset;
    const float unit = pixels ? level.stride : 1.0f;
    const int64_t i = a;
    points[2 * i] = cx * unit;
    points[2 * i + 1] = cy * unit;
    if (strides != nullptr) strides[i] = level.stride;
    if (boxes == nullptr) return;
    const float half = cell_size * level.stride * 0.5f;
    boxes[4 * i] = cx * level.stride - half;
    boxes[4 * i + 1] = cy * level.stride - half;
    boxes[4 * i + 2] = cx * level.stride + half;
    boxes[4 * i + 3] = cy * level.stride + half;
  }
};

// --- decode -------------------------------------------------------------------------------------

struct DecodeParams {
  Levels levels;
  int64_t anchors, rows;  // of an image, of all
  int classes, bins;      // bins 1: plain distances
  float cell_offset;
  float* out;
};

// The expectation of a side's distribution, by eight lanes.
template <class T>
__device__ __forceinline__ float side_distance(const T* z, int bins) {
  constexpr unsigned kAll = 0xffffffffu;
  constexpr int kLanes = 8;
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
  return moment / sum;
}

template <class T, int kBlock>
__global__ void __launch_bounds__(kBlock) decode_kernel(DecodeParams p) {
  const int lane = static_cast<int>(threadIdx.x) % warpSize;
  const int64_t row = static_cast<int64_t>(blockIdx.x) * (kBlock / warpSize) +
                      static_cast<int>(threadIdx.x) / warpSize;
  if (row >= p.rows) return;  // whole warps
  const int64_t image = row / p.anchors;
  int64_t cell = row % p.anchors;
  const Level& level = find_level(p.levels, 1, cell);
  const int64_t pixel = image * level.height * level.width + cell;
  const T* reg = static_cast<const T*>(level.reg) + pixel * level.reg_pitch;
  const int side = lane / 8;
  const float mine = p.bins > 1 ? side_distance(reg + side * p.bins, p.bins) : as_float(reg[side]);
  float dist[4], box[4];
  for (int i = 0; i < 4; ++i) dist[i] = __shfl_sync(0xffffffffu, mine, 8 * i);
  dist2bbox(static_cast<float>(cell % level.width) + p.cell_offset,
            static_cast<float>(cell / level.width) + p.cell_offset, dist, box);
  float* out = p.out + row * (5 + p.classes);
  if (lane == 0) {
    out[0] = (box[0] + box[2]) * 0.5f * level.stride;
    out[1] = (box[1] + box[3]) * 0.5f * level.stride;
    out[2] = (box[2] - box[0]) * level.stride;
    out[3] = (box[3] - box[1]) * level.stride;
    out[4] = 1.0f;
  }
  const T* cls = static_cast<const T*>(level.cls) + pixel * level.cls_pitch;
  for (int c = lane; c < p.classes; c += warpSize) out[5 + c] = sigmoid(as_float(cls[c]));
}

}  // namespace

void generate_anchors(const GenerateAnchors& p, Stream stream) {
  AnchorOp op{{},       p.grid.repeats, p.grid.cell_offset, p.cell_size,
              p.pixels, p.points,       p.strides,          p.boxes};
  op.levels.count = p.grid.levels;
  for (int l = 0; l < p.grid.levels; ++l) {
    const GridLevel& from = p.grid.level[static_cast<size_t>(l)];
    op.levels.level[l] = {
        nullptr,    nullptr, 0, 0, static_cast<int>(from.height), static_cast<int>(from.width),
        from.stride};
  }
  for_each_item("generate_anchors", op, p.grid.anchors(), stream);
}

void decode(const Decode& p, float* out, Stream stream) {
  DecodeParams d{};
  d.levels.count = p.levels;
  d.bins = static_cast<int>(p.reg_max) + 1;
  d.classes = static_cast<int>(p.classes);
  for (int l = 0; l < p.levels; ++l) {
    const DecodeLevel& from = p.level[static_cast<size_t>(l)];
    d.levels.level[l] = {from.cls,
                         from.reg,
                         from.cls_pitch ? from.cls_pitch : p.classes,
                         from.reg_pitch ? from.reg_pitch : 4 * (p.reg_max + 1),
                         static_cast<int>(from.height),
                         static_cast<int>(from.width),
                         from.stride};
  }
  d.anchors = p.anchors();
  d.rows = p.batch * d.anchors;
  d.cell_offset = p.cell_offset;
  d.out = out;
  if (d.rows <= 0) return;
  const int64_t blocks = (d.rows + kThreads / kHostWarp - 1) / (kThreads / kHostWarp);
  check(blocks <= 0x7FFFFFFF, "decode: {} anchors are too many", d.rows);
  if (p.dtype == DType::kF16)
    return launch(SEXTANT_KERNEL(decode_kernel<__half, kThreads>), static_cast<unsigned>(blocks),
                  kThreads, 0, stream, d);
  check(p.dtype == DType::kF32, "decode: maps of {}, must be F32 or F16", name_of(p.dtype));
  launch(SEXTANT_KERNEL(decode_kernel<float, kThreads>), static_cast<unsigned>(blocks), kThreads, 0,
         stream, d);
}

}  // namespace sextant::kernels::cuda
