// SPDX-License-Identifier: Apache-2.0
// Tests of the SIMT runner: its results, and the mistakes that it has to catch.
#include <sys/wait.h>
#include <unistd.h>

#include <cmath>
#include <set>

#include "kernels/cuda/device/launch.h"
#include "simt/cases/cases.h"

namespace sextant::test {
namespace {

using kernels::cuda::launch;

constexpr unsigned kAll = 0xffffffffu;
constexpr int kSeeds = 16;

// Runs `work` in a child process; its exit status and what it wrote to stderr.
struct ChildOutcome {
  int status = 0;
  std::string output;
  bool mentions(const std::string& text) const { return output.find(text) != std::string::npos; }
};
ChildOutcome in_child(const std::function<void()>& work) {
  int ends[2];
  REQUIRE(::pipe(ends) == 0);
  const pid_t child = ::fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    ::dup2(ends[1], STDERR_FILENO);
    ::close(ends[0]);
    work();
    ::_exit(0);
  }
  ::close(ends[1]);
  ChildOutcome outcome;
  char buffer[4096];
  for (ssize_t n; (n = ::read(ends[0], buffer, sizeof buffer)) > 0;)
    outcome.output.append(buffer, static_cast<size_t>(n));
  ::close(ends[0]);
  int status = 0;
  ::waitpid(child, &status, 0);
  outcome.status = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  return outcome;
}

// --- a block sum, right and with mistakes -------------------------------------------------------

enum class Mistake { kNone, kNoBarrier, kNoBarrierBeforeReuse };

// out[block] = sum of the block's slice of x, then (through the same shared memory) its maximum.
template <Mistake kMistake>
__global__ void block_sum(const float* x, float* sum, float* maximum) {
  SEXTANT_SHARED(float[64], lanes);
  const unsigned t = threadIdx.x;
  const float mine = x[blockIdx.x * blockDim.x + t];
  lanes[t] = mine;
  for (unsigned half = blockDim.x / 2; half > 0; half /= 2) {
    if (kMistake != Mistake::kNoBarrier) __syncthreads();
    if (t < half) lanes[t] += lanes[t + half];
  }
  __syncthreads();
  const float total = lanes[0];
  if (kMistake != Mistake::kNoBarrierBeforeReuse) __syncthreads();
  lanes[t] = mine;
  for (unsigned half = blockDim.x / 2; half > 0; half /= 2) {
    __syncthreads();
    if (t < half) lanes[t] = fmaxf(lanes[t], lanes[t + half]);
  }
  if (t == blockDim.x - 1) sum[blockIdx.x] = total;  // not the thread that writes lanes[0]
  if (t == 0) maximum[blockIdx.x] = lanes[0];
}

// The number of seeds with which block_sum gives a wrong result.
template <Mistake kMistake>
int seeds_wrong() {
  const int blocks = 3, threads = 64;
  const std::vector<float> x = random_values(blocks * threads, 1, 0, 1);
  int wrong = 0;
  for (int seed = 0; seed < kSeeds; ++seed) {
    simt::set_seed(static_cast<uint64_t>(seed));
    std::vector<float> sum = undefined(blocks), maximum = undefined(blocks);
    launch(SEXTANT_KERNEL(block_sum<kMistake>), blocks, threads, 0, {}, x.data(), sum.data(),
           maximum.data());
    bool right = true;
    for (size_t b = 0; b < blocks; ++b) {
      double s = 0, m = 0;
      for (size_t i = 0; i < threads; ++i) {
        s += x[b * threads + i];
        m = std::max<double>(m, x[b * threads + i]);
      }
      right = right && std::abs(sum[b] - s) < 1e-4 && maximum[b] == static_cast<float>(m);
    }
    wrong += !right;
  }
  return wrong;
}

TEST_CASE("runner: a block sum with its barriers is right with every seed") {
  CHECK(seeds_wrong<Mistake::kNone>() == 0);
}
TEST_CASE("runner: a missing barrier shows") {
  CHECK(seeds_wrong<Mistake::kNoBarrier>() == kSeeds);
}
TEST_CASE("runner: a missing barrier before shared memory is reused shows") {
  CHECK(seeds_wrong<Mistake::kNoBarrierBeforeReuse>() > 0);
}

// --- barrier divergence -------------------------------------------------------------------------

__global__ void half_exit() {
  if (threadIdx.x >= 40) return;
  __syncthreads();
}
__global__ void two_barriers() {
  if (threadIdx.x % 2 == 0)
    __syncthreads();
  else
    __syncthreads();
}
__global__ void barrier_and_vote() {
  if (threadIdx.x < 32)
    __syncthreads();
  else if (threadIdx.x < 48)
    __ballot_sync(kAll, 1);
  else
    __syncwarp(0xffff0000u), __syncthreads();
}
// Threads stay behind in a loop whose length differs.
__global__ void uneven_loop() {
  for (unsigned i = 0; i < 1 + threadIdx.x % 2; ++i) __syncthreads();
}

template <class Kernel>
std::string divergence(const Kernel& kernel) {
  std::set<std::string> messages;
  for (uint64_t seed = 0; seed < 4; ++seed) {
    simt::set_seed(seed);
    messages.insert(error_of([&] { launch(kernel, 1, 64, 0, {}); }));
  }
  CHECK(messages.size() == 1);  // the report does not depend on the order
  return *messages.begin();
}

TEST_CASE("runner: barrier divergence is reported") {
  CHECK_THAT(divergence(SEXTANT_KERNEL(half_exit)),
             Contains("half_exit, block (0,0,0): barrier divergence: of 64 threads 24 exited; 40 "
                      "wait at __syncthreads (test_runner.cpp:"));
  CHECK_THAT(divergence(SEXTANT_KERNEL(two_barriers)),
             Contains("0 exited; 32 wait at __syncthreads") &&
                 Contains("thread (0,0,0) among them; 32 wait at __syncthreads") &&
                 Contains("thread (1,0,0) among them"));
  CHECK_THAT(divergence(SEXTANT_KERNEL(barrier_and_vote)),
             Contains("48 wait at __syncthreads") || Contains("32 wait at __syncthreads"));
  CHECK_THAT(divergence(SEXTANT_KERNEL(barrier_and_vote)), Contains("16 wait at vote"));
  CHECK_THAT(divergence(SEXTANT_KERNEL(uneven_loop)),
             Contains("32 exited; 32 wait at __syncthreads"));
  // Ready again afterwards.
  CHECK(seeds_wrong<Mistake::kNone>() == 0);
}

// --- warp functions -----------------------------------------------------------------------------

__global__ void shuffles(int* out) {
  const int lane = static_cast<int>(threadIdx.x % 32);
  int* row = out + threadIdx.x * 8;
  row[0] = __shfl_down_sync(kAll, lane, 1);
  row[1] = __shfl_up_sync(kAll, lane, 3);
  row[2] = __shfl_xor_sync(kAll, lane, 16);
  row[3] = __shfl_sync(kAll, lane, 5);
  row[4] = __shfl_down_sync(kAll, lane, 2, 8);
  row[5] = __shfl_sync(kAll, lane, 9, 8);
  row[6] = static_cast<int>(__ballot_sync(kAll, lane % 3 == 0));
  row[7] = __any_sync(kAll, lane == 31) + 2 * __all_sync(kAll, lane < 32) +
           4 * __any_sync(kAll, lane > 31) + 8 * __all_sync(kAll, lane != 7);
}
__global__ void half_warp_sum(double* out) {
  // Both halves shuffle on their own, in branches.
  double v = threadIdx.x;
  if (threadIdx.x < 16) {
    for (int d = 8; d > 0; d /= 2)
      v += __shfl_down_sync(0x0000ffffu, v, static_cast<unsigned>(d), 16);
  } else {
    for (int d = 8; d > 0; d /= 2) v += __shfl_xor_sync(0xffff0000u, v, d);
  }
  if (threadIdx.x % 16 == 0) out[threadIdx.x / 16] = v;
}
__global__ void lane_exited(int* out) {
  if (threadIdx.x == 7) return;
  out[threadIdx.x] = __shfl_down_sync(kAll, 1, 1);
}
__global__ void caller_left_out(int* out) { out[threadIdx.x] = __shfl_sync(0x7fffffffu, 1, 0); }
__global__ void source_left_out(int* out) {
  if (threadIdx.x < 16) out[threadIdx.x] = __shfl_down_sync(0xffffu, 1, 1);
}
__global__ void wrong_width(int* out) { out[threadIdx.x] = __shfl_sync(kAll, 1, 0, 12); }
__global__ void ragged_warp(int* out) { out[threadIdx.x] = __any_sync(kAll, 1); }

TEST_CASE("runner: shuffles and votes") {
  for (uint64_t seed = 0; seed < 4; ++seed) {
    simt::set_seed(seed);
    std::vector<int> out(64 * 8);
    launch(SEXTANT_KERNEL(shuffles), 1, 64, 0, {}, out.data());
    int wrong = 0;
    for (int t = 0; t < 64; ++t) {
      const int lane = t % 32;
      const int* row = out.data() + t * 8;
      wrong += row[0] != std::min(lane + 1, 31);
      wrong += row[1] != (lane < 3 ? lane : lane - 3);
      wrong += row[2] != (lane ^ 16);
      wrong += row[3] != 5;
      wrong += row[4] != (lane % 8 < 6 ? lane + 2 : lane);
      wrong += row[5] != lane / 8 * 8 + 1;
      wrong += static_cast<unsigned>(row[6]) != 0x49249249u;
      wrong += row[7] != 1 + 2;
    }
    CHECK(wrong == 0);
    std::vector<double> sums(2);
    launch(SEXTANT_KERNEL(half_warp_sum), 1, 32, 0, {}, sums.data());
    CHECK(sums == std::vector<double>{120, 376});
  }
}

TEST_CASE("runner: wrong masks are reported") {
  std::vector<int> out(64);
  const auto message = [&](const auto& kernel, unsigned threads) {
    return error_of([&] { launch(kernel, 1, threads, 0, {}, out.data()); });
  };
  for (uint64_t seed = 0; seed < 8; ++seed) {
    simt::set_seed(seed);
    // Seen when lane 7 has exited already, or when all others wait.
    CHECK_THAT(message(SEXTANT_KERNEL(lane_exited), 32),
               Contains("lane 7 has exited") || Contains("1 exited; 31 wait at shuffle"));
    CHECK_THAT(message(SEXTANT_KERNEL(caller_left_out), 32),
               Contains("mask 0x7fffffff") && Contains("the mask leaves out the caller"));
    CHECK_THAT(message(SEXTANT_KERNEL(source_left_out), 32),
               Contains("lane 15 reads from lane 16, which mask 0x0000ffff leaves out"));
    CHECK_THAT(message(SEXTANT_KERNEL(wrong_width), 32), Contains("width 12"));
    CHECK_THAT(message(SEXTANT_KERNEL(ragged_warp), 40), Contains("lane 8 does not exist"));
  }
}

// --- memory -------------------------------------------------------------------------------------

__global__ void write_past_end(float* p, int n) {
  p[static_cast<int>(threadIdx.x) + (static_cast<int>(threadIdx.x) == n - 1 ? 1 : 0)] = 1.0f;
}
__global__ void read_past_end(const float* p, float* out, int n) {
  out[threadIdx.x] = p[threadIdx.x] + p[static_cast<int>(threadIdx.x) == n - 1 ? n : 0];
}
__global__ void past_dynamic(float* out) {
  SEXTANT_DYNAMIC_SHARED(float, buffer);
  buffer[threadIdx.x] = 1.0f;
  __syncthreads();
  out[threadIdx.x] = buffer[threadIdx.x + 1];
}
__global__ void past_static(float* out) {
  SEXTANT_SHARED(float[32], buffer);
  float* p = buffer;
  p[threadIdx.x + 1] = 1.0f;
  __syncthreads();
  out[threadIdx.x] = p[threadIdx.x];
}
__global__ void misaligned(const float* p, float* out) {
  out[threadIdx.x] = reinterpret_cast<const float4*>(p + 1)[threadIdx.x].x;
}
__global__ void uninitialised(float* out) {
  SEXTANT_SHARED(float[32], a);
  SEXTANT_DYNAMIC_SHARED(int, b);
  out[threadIdx.x * 2] = a[threadIdx.x];
  out[threadIdx.x * 2 + 1] = static_cast<float>(b[threadIdx.x]);
  a[threadIdx.x] = 0.0f;  // must not reach the next block
  b[threadIdx.x] = 0;
}

TEST_CASE("runner: accesses out of bounds end the process with a report") {
  const int n = 32;
  const ChildOutcome write = in_child([&] {
    const std::unique_ptr<float[]> p(new float[n]);
    launch(SEXTANT_KERNEL(write_past_end), 1, n, 0, {}, p.get(), n);
  });
  CHECK(write.status != 0);
  CHECK(write.mentions("heap-buffer-overflow"));
  CHECK(write.mentions("write_past_end"));
  const ChildOutcome read = in_child([&] {
    const std::unique_ptr<float[]> p(new float[n]()), out(new float[n]);
    launch(SEXTANT_KERNEL(read_past_end), 1, n, 0, {}, p.get(), out.get(), n);
  });
  CHECK(read.status != 0);
  CHECK(read.mentions("heap-buffer-overflow"));
  std::vector<float> out(n);
  const ChildOutcome dynamic = in_child(
      [&] { launch(SEXTANT_KERNEL(past_dynamic), 1, n, n * sizeof(float), {}, out.data()); });
  CHECK(dynamic.status != 0);
  CHECK(dynamic.mentions("heap-buffer-overflow"));
  CHECK(dynamic.mentions("past_dynamic"));
  const ChildOutcome fixed =
      in_child([&] { launch(SEXTANT_KERNEL(past_static), 1, n, 0, {}, out.data()); });
  CHECK(fixed.status != 0);
  CHECK(fixed.mentions("past_static"));
  const ChildOutcome pack = in_child([&] {
    alignas(16) static float p[4 * (n + 1)] = {};
    launch(SEXTANT_KERNEL(misaligned), 1, n, 0, {}, p, out.data());
  });
  CHECK(pack.status != 0);
  CHECK(pack.mentions("misaligned"));
  // The same child does end well when the kernel is right.
  CHECK(in_child([&] { static_cast<void>(seeds_wrong<Mistake::kNone>()); }).status == 0);
}

TEST_CASE("runner: shared memory starts as garbage in every block") {
  std::vector<float> out(64);
  launch(SEXTANT_KERNEL(uninitialised), 3, 32, 32 * sizeof(int), {}, out.data());
  for (size_t i = 0; i < 32; ++i) {
    CHECK(std::isnan(out[2 * i]));
    CHECK(out[2 * i + 1] == -1.0f);
  }
}

// --- order, atomics, limits ---------------------------------------------------------------------

__global__ void record(int* next, int* order) {
  order[atomicAdd(next, 1)] = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
}
__global__ void atomics(float* sum, int* maximum, unsigned* bits, int* count) {
  atomicAdd(sum, 0.5f);
  atomicMax(maximum, static_cast<int>(threadIdx.x + 64 * blockIdx.y));
  atomicOr(bits, 1u << threadIdx.x % 32);
  if (atomicCAS(count + 1, -1, 7) == -1) atomicExch(count, 1);
  const int odd = __syncthreads_count(threadIdx.x % 2 == 1);
  if (threadIdx.x == 0) atomicAdd(count + 2, odd);
}
__global__ void nothing() {}
__global__ void trap(int thread) {
  if (static_cast<int>(threadIdx.x) == thread) __trap();
  __syncthreads();
}
__global__ void nested() { launch(SEXTANT_KERNEL(nothing), 1, 1, 0, {}); }

TEST_CASE("runner: each seed has its own order of blocks and threads, and repeats it") {
  const auto order_of = [](uint64_t seed) {
    simt::set_seed(seed);
    int next = 0;
    std::vector<int> order(4 * 32);
    launch(SEXTANT_KERNEL(record), 4, 32, 0, {}, &next, order.data());
    CHECK(std::set<int>(order.begin(), order.end()).size() == order.size());
    return order;
  };
  std::set<std::vector<int>> orders;
  std::set<int> first_blocks;
  for (uint64_t seed = 0; seed < 20; ++seed) {
    const std::vector<int> order = order_of(seed);
    CHECK(order == order_of(seed));
    orders.insert(order);
    first_blocks.insert(order[0] / 32);
  }
  CHECK(orders.size() == 20);
  CHECK(first_blocks.size() == 4);
}

TEST_CASE("runner: atomics, counts and a three-dimensional launch") {
  float sum = 0;
  int maximum = -1, count[3] = {0, -1, 0};
  unsigned bits = 0;
  simt::set_seed(1);
  launch(SEXTANT_KERNEL(atomics), dim3(2, 3, 2), dim3(64), 0, {}, &sum, &maximum, &bits, count);
  CHECK(sum == 0.5f * 64 * 12);
  CHECK(maximum == 63 + 128);
  CHECK(bits == kAll);
  CHECK(count[0] == 1);
  CHECK(count[1] == 7);
  CHECK(count[2] == 32 * 12);
  const simt::Counts counts = simt::counts();
  CHECK(counts.launches == 1);
  CHECK(counts.blocks == 12);
  CHECK(counts.threads == 12 * 64);
  CHECK(counts.barriers == 12);
}

TEST_CASE("runner: launches the device would refuse, and errors inside kernels") {
  const auto message = [](dim3 grid, dim3 block, size_t shared) {
    return error_of([&] { launch(SEXTANT_KERNEL(nothing), grid, block, shared, {}); });
  };
  CHECK_THAT(message(0, 32, 0), Contains("nothing: grid (0,1,1), block (32,1,1)"));
  CHECK_THAT(message(1, dim3(32, 33), 0), Contains("more than 1024 threads"));
  CHECK_THAT(message(dim3(1, 70000), 32, 0), Contains("grid too large"));
  CHECK_THAT(message(1, dim3(1, 1, 65), 0), Contains("block.z above 64"));
  CHECK_THAT(message(1, 32, 300000), Contains("shared memory"));
  CHECK(message(1, 1, 227 * 1024) == "no error");
  CHECK_THAT(error_of([] { launch(SEXTANT_KERNEL(trap), 2, 64, 0, {}, 33); }),
             Contains("trap, block (") && Contains("thread (33,0,0): __trap() at test_runner.cpp"));
  CHECK_THAT(error_of([] { launch(SEXTANT_KERNEL(nested), 1, 1, 0, {}); }),
             Contains("started from inside a kernel"));
  CHECK(seeds_wrong<Mistake::kNone>() == 0);
}

// The guards around the tensors of the other tests, which catch what ASan cannot: a write one float
// before a tensor that starts inside an 8-byte granule.
TEST_CASE("guards: a write just outside a tensor is noticed") {
  class Plain : public TestGpu {
   public:
    void* allocate(int64_t bytes) override { return ::operator new(static_cast<size_t>(bytes)); }
    void release(void* p) override { ::operator delete(p); }
    void upload(void* to, const void* from, int64_t n) override {
      std::memcpy(to, from, static_cast<size_t>(n));
    }
    void download(void* to, const void* from, int64_t n) override {
      std::memcpy(to, from, static_cast<size_t>(n));
    }
    void forbid(void*, int64_t) override {}
    void allow(void*, int64_t) override {}
    Stream stream() override { return {}; }
    std::vector<uint64_t> seeds() const override { return {1}; }
    void start(uint64_t) override {}
  } backend;
  for (const int64_t offset : {0, 1}) {
    const DeviceArray array(backend, {1, 2, 3}, offset);
    CHECK(array.guards_intact());
    array.data()[2] = 5;
    CHECK(array.guards_intact());
    array.data()[-1] = 0;
    CHECK_FALSE(array.guards_intact());
    const DeviceArray other(backend, {1, 2, 3}, offset);
    other.data()[3] = 0;
    CHECK_FALSE(other.guards_intact());
  }
}

}  // namespace
}  // namespace sextant::test
