// SPDX-License-Identifier: Apache-2.0
// rep_bn_act on the device: shapes of the launches; the kernels are in rep_bn_act.cuh.
//
// Memory traffic, in passes over one [rows, channels] tensor for k branches: forward k (moments) +
// k + 1, backward (k + 1) + (k + 1) + k; nothing in between is stored but the chunks' partials.
#include <limits>

#include "kernels/cuda/device/each.cuh"
#include "kernels/cuda/rep_bn_act.cuh"
#include "kernels/rep_bn_act.h"

namespace sextant::kernels::cuda {
namespace {

using namespace rep;

// Chunks come from the shape alone, never from the device, so that sums have one order everywhere.
constexpr int64_t kBlocksWanted = 528;  // four for each of an H200's 132 multiprocessors
constexpr int64_t kRowsPerThreadAtLeast = 4;

struct Layout {
  int width;      // channels a thread owns
  int lanes;      // blockDim.x; blockDim.y = kThreads / lanes
  int64_t tiles;  // gridDim.x
  int64_t row_lanes() const { return kThreads / lanes; }
  Size size;
};

int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

// Threads across the channels: at least a 128-byte line wide with packs where there are as many
// channels, and as few idle threads as that allows (68 channels: 17 packs in 3 tiles of 8).
int channel_lanes(int64_t groups) {
  if (groups < 8) {
    int lanes = 1;
    while (lanes < groups) lanes *= 2;
    return lanes;
  }
  int best = 32;
  for (const int lanes : {16, 8})
    if (ceil_div(groups, lanes) * lanes < ceil_div(groups, best) * best) best = lanes;
  return best;
}

Layout layout_of(int64_t rows, int64_t channels, int width) {
  Layout l{};
  l.width = width;
  const int64_t groups = ceil_div(channels, width);
  l.lanes = channel_lanes(groups);
  l.tiles = ceil_div(groups, l.lanes);
  const int64_t most = ceil_div(rows, l.row_lanes() * kRowsPerThreadAtLeast);
  const int64_t chunks =
      std::clamp<int64_t>(kBlocksWanted / l.tiles, 1, std::max<int64_t>(most, 1));
  l.size.rows = rows;
  l.size.channels = static_cast<int>(channels);
  l.size.rows_per_chunk = ceil_div(rows, chunks);
  l.size.chunks = static_cast<int>(ceil_div(rows, std::max<int64_t>(l.size.rows_per_chunk, 1)));
  return l;
}

dim3 block_of(const Layout& l) {
  return dim3(static_cast<unsigned>(l.lanes), static_cast<unsigned>(l.row_lanes()));
}
dim3 reduce_grid(const Layout& l) {
  return dim3(static_cast<unsigned>(l.tiles), static_cast<unsigned>(l.size.chunks));
}
dim3 finish_grid(const Layout& l, int values) {
  return dim3(static_cast<unsigned>(ceil_div(l.size.channels, kFinishChannels)),
              static_cast<unsigned>(values));
}
// Two rows a thread and turn; as many blocks as the device holds at once.
dim3 apply_grid(const Layout& l) {
  const int64_t resident = int64_t{multiprocessors()} * (2048 / kThreads);
  const int64_t blocks = std::clamp<int64_t>(ceil_div(l.size.rows, 2 * l.row_lanes()), 1,
                                             std::max<int64_t>(1, resident / l.tiles));
  return dim3(static_cast<unsigned>(l.tiles), static_cast<unsigned>(blocks));
}
const dim3 kFinishBlock(kFinishChannels, kFinishLanes);

template <class P>
void check_shape(const char* name, const P& p, int64_t rows_at_least) {
  check(p.branches >= 1 && p.branches <= kMaxBranches, "{}: {} branches, must be 1 to {}", name,
        p.branches, kMaxBranches);
  check(p.channels >= 1 && p.channels <= std::numeric_limits<int>::max(),
        "{}: {} channels, must be 1 or more", name, p.channels);
  check(p.rows >= rows_at_least, "{}: {} rows, must be {} or more", name, p.rows, rows_at_least);
}

// Calls f with a value of the tensors' type, and the number of branches and the pack width as
// constants.
template <class P, class F>
void dispatch_shape(const char* name, const P& p, bool aligned, F&& f) {
  dispatch_float(name, p.dtype, [&](auto type) {
    constexpr int kWidth = kPackOf<decltype(type)>;
    const auto with_width = [&](auto b) {
      if (aligned && p.channels % kWidth == 0)
        f(type, b, std::integral_constant<int, kWidth>{});
      else
        f(type, b, std::integral_constant<int, 1>{});
    };
    if (p.branches == 1) return with_width(std::integral_constant<int, 1>{});
    if (p.branches == 2) return with_width(std::integral_constant<int, 2>{});
    return with_width(std::integral_constant<int, 3>{});
  });
}

template <class T, int B>
Branches<T, B> branches_of(const RepBnActForward& p) {
  Branches<T, B> out{};
  for (int b = 0; b < B; ++b) {
    const auto& from = p.branch[static_cast<size_t>(b)];
    out.x[b] = static_cast<const T*>(from.x);
    out.gamma[b] = from.gamma;
    out.beta[b] = from.beta;
    out.mean[b] = p.training ? from.mean : from.running_mean;
    out.spread[b] = p.training ? from.inv_std : from.running_var;
  }
  out.spread_is_variance = !p.training;
  out.eps = p.eps;
  return out;
}

template <class T, int B>
Branches<T, B> branches_of(const RepBnActBackward& p) {
  Branches<T, B> out{};
  for (int b = 0; b < B; ++b) {
    const auto& from = p.branch[static_cast<size_t>(b)];
    out.x[b] = static_cast<const T*>(from.x);
    out.gamma[b] = from.gamma;
    out.beta[b] = from.beta;
    out.mean[b] = from.mean;
    out.spread[b] = from.inv_std;
  }
  return out;
}

// The running statistics of a branch as backward takes them.
struct KeepOp {
  const float* running_mean;
  const float* running_var;
  float* mean;
  float* inv_std;
  double eps;
  __device__ __forceinline__ void operator()(uint32_t c) const {
    mean[c] = running_mean[c];
    inv_std[c] = static_cast<float>(1.0 / sqrt(static_cast<double>(running_var[c]) + eps));
  }
};

// What the processes add up lies before the partials: the sums of either direction, and the number of
// rows; then, in backward, the totals as f32.
int64_t shared_doubles(int branches, int64_t channels) { return 2 * branches * channels + 1; }
template <class P>
int64_t shared_bytes(const P& p) {
  if (!p.across || !p.training) return 0;
  const int64_t bytes = shared_doubles(p.branches, p.channels) * int64_t{sizeof(double)} +
                        (p.branches + 1) * p.channels * int64_t{sizeof(float)};
  return (bytes + 255) / 256 * 256;
}

template <class T, int B, int kWidth>
void forward(const RepBnActForward& p, void* workspace, Stream stream) {
  auto* partial = reinterpret_cast<float*>(static_cast<char*>(workspace) + shared_bytes(p));
  const Layout l = layout_of(p.rows, p.channels, kWidth);
  const Branches<T, B> in = branches_of<T, B>(p);
  if (p.training) {
    Statistics<B> out{};
    for (int b = 0; b < B; ++b) {
      const auto& to = p.branch[static_cast<size_t>(b)];
      out.mean[b] = to.mean;
      out.inv_std[b] = to.inv_std;
      out.running_mean[b] = to.running_mean;
      out.running_var[b] = to.running_var;
    }
    out.eps = p.eps;
    out.momentum = p.momentum;
    out.sums = p.across ? static_cast<double*>(workspace) : nullptr;
    constexpr size_t kShared = (2 * B * kWidth + 1) * kThreads * sizeof(float);
    launch(SEXTANT_KERNEL(moments_kernel<T, B, kWidth>), reduce_grid(l), block_of(l), kShared,
           stream, in, partial, l.size);
    launch(SEXTANT_KERNEL(finish_moments_kernel<B>), finish_grid(l, B), kFinishBlock, 0, stream,
           partial, out, l.size);
    if (p.across) {
      p.across->sum(out.sums, 2 * B * p.channels + 1, DType::kF64, Device::kCuda);
      for_each_item("rep_bn_act_forward", SharedStatisticsOp<B>{out, static_cast<int>(p.channels)},
                    B * p.channels, stream);
    }
  } else if (p.branch[0].mean) {
    for (int b = 0; b < B; ++b) {
      const auto& f = p.branch[static_cast<size_t>(b)];
      for_each_item("rep_bn_act_forward",
                    KeepOp{f.running_mean, f.running_var, f.mean, f.inv_std, p.eps}, p.channels,
                    stream);
    }
  }
  dispatch_activation(p.activation, [&](auto act) {
    constexpr Activation kAct = decltype(act)::value;
    launch(SEXTANT_KERNEL(apply_kernel<T, kAct, B, kWidth>), apply_grid(l), block_of(l), 0, stream,
           in, static_cast<T*>(p.y), l.size);
  });
}

template <class T, int B, int kWidth>
void backward(const RepBnActBackward& p, void* workspace, Stream stream) {
  auto* partial = reinterpret_cast<float*>(static_cast<char*>(workspace) + shared_bytes(p));
  const Layout l = layout_of(p.rows, p.channels, kWidth);
  const Branches<T, B> in = branches_of<T, B>(p);
  Sums<B> sums{};
  InputGradients<T, B> out{};
  bool wanted = false;
  for (int b = 0; b < B; ++b) {
    const auto& to = p.branch[static_cast<size_t>(b)];
    sums.inv_std[b] = to.inv_std;
    sums.dgamma[b] = to.dgamma;
    sums.dbeta[b] = to.dbeta;
    out.dgamma[b] = to.dgamma;
    out.dx[b] = static_cast<T*>(to.dx);
    wanted = wanted || to.dx != nullptr;
  }
  out.dy = static_cast<const T*>(p.dy);
  out.dbeta = p.branch[0].dbeta;
  out.training = p.training;
  const bool shared = p.across && p.training && wanted;
  if (shared) {
    sums.sums = static_cast<double*>(workspace);
    auto* all = reinterpret_cast<float*>(sums.sums + shared_doubles(B, p.channels));
    for (int b = 0; b < B; ++b) out.dgamma[b] = all + b * p.channels;
    out.dbeta = all + B * p.channels;
    out.rows = sums.sums + (B + 1) * p.channels;
  }
  dispatch_activation(p.activation, [&](auto act) {
    constexpr Activation kAct = decltype(act)::value;
    constexpr size_t kShared = (B + 1) * kWidth * kThreads * sizeof(float);
    launch(SEXTANT_KERNEL(gradient_sums_kernel<T, kAct, B, kWidth>), reduce_grid(l), block_of(l),
           kShared, stream, in, out.dy, partial, l.size);
    launch(SEXTANT_KERNEL(finish_sums_kernel<B>), finish_grid(l, B + 1), kFinishBlock, 0, stream,
           partial, sums, l.size);
    if (shared) {
      SharedSumsOp<B> totals{
          sums.sums, {}, const_cast<float*>(out.dgamma[0]), static_cast<int>(p.channels)};
      for (int b = 0; b < B; ++b) totals.inv_std[b] = sums.inv_std[b];
      p.across->sum(sums.sums, (B + 1) * p.channels + 1, DType::kF64, Device::kCuda);
      for_each_item("rep_bn_act_backward", totals, p.channels, stream);
    }
    if (wanted)
      launch(SEXTANT_KERNEL(input_gradient_kernel<T, kAct, B, kWidth>), apply_grid(l), block_of(l),
             0, stream, in, out, l.size);
  });
}

// Enough for either direction (2 k values a channel forward, k + 1 backward) and any pack width,
// which the alignment decides later.
template <class P>
int64_t partial_bytes(const P& p) {
  if (p.rows <= 0 || p.channels <= 0) return 0;
  int64_t chunks = 0;
  for (const int width : {1, kPackOf<float>, kPackOf<__half>})
    chunks = std::max<int64_t>(chunks, layout_of(p.rows, p.channels, width).size.chunks);
  return shared_bytes(p) + chunks * 2 * p.branches * p.channels * int64_t{sizeof(float)};
}

}  // namespace

int64_t workspace_bytes(const RepBnActForward& p) { return partial_bytes(p); }
int64_t workspace_bytes(const RepBnActBackward& p) { return partial_bytes(p); }

void rep_bn_act_forward(const RepBnActForward& p, void* workspace, Stream stream) {
  check_shape("rep_bn_act_forward", p, p.training ? (p.across ? 1 : 2) : 0);
  if (p.rows == 0) return;
  bool aligned = aligned_to_pack({p.y});
  for (int b = 0; b < p.branches; ++b)
    aligned = aligned && aligned_to_pack({p.branch[static_cast<size_t>(b)].x});
  dispatch_shape("rep_bn_act_forward", p, aligned, [&](auto type, auto branches, auto width) {
    forward<decltype(type), branches(), width()>(p, workspace, stream);
  });
}

void rep_bn_act_backward(const RepBnActBackward& p, void* workspace, Stream stream) {
  check_shape("rep_bn_act_backward", p, p.training && !p.across ? 2 : 1);
  bool aligned = aligned_to_pack({p.dy});
  for (int b = 0; b < p.branches; ++b) {
    const auto& branch = p.branch[static_cast<size_t>(b)];
    aligned = aligned && aligned_to_pack({branch.x, branch.dx});
  }
  dispatch_shape("rep_bn_act_backward", p, aligned, [&](auto type, auto branches, auto width) {
    backward<decltype(type), branches(), width()>(p, workspace, stream);
  });
}

}  // namespace sextant::kernels::cuda
