// SPDX-License-Identifier: Apache-2.0
#include "simt/simt.h"

#include <boost/context/fiber.hpp>
#include <exception>
#include <map>
#include <memory>
#include <utility>
#include <vector>

#include "core/error.h"
#include "core/rng.h"
#include "simt/fiber_memory.h"
#include "simt/warp_matrix.h"

uint3 threadIdx{};
uint3 blockIdx{};
dim3 blockDim;
dim3 gridDim;

// Read by AddressSanitizer at the start; $ASAN_OPTIONS goes first. Its search for uses of a local
// variable after return, which compilers of 2023 and later turn on, makes a stack of fakes for each
// fiber and lets some runs take forty times as long.
extern "C" const char* __asan_default_options();
extern "C" const char* __asan_default_options() { return "detect_stack_use_after_return=0"; }

namespace simt {
namespace {

using boost::context::fiber;

constexpr size_t kStaticSharedLimit = 48 * 1024;
constexpr size_t kSharedLimit = 227 * 1024;  // compute capability 9.0

struct Unwind {};  // thrown in waiting threads when the launch has failed

// A cp.async that has not been waited for; its group is the number of commits before it.
struct Copy {
  int64_t group;
  int bytes;
  void* to;
  const void* from;
};

enum class State { kReady, kWaiting, kExited };

struct Thread {
  uint3 index{};
  State state = State::kReady;
  Exchange* exchange = nullptr;  // while waiting
  std::unique_ptr<char[]> stack;
  void* fake_stack = nullptr;  // ASan's
  fiber self;                  // while suspended
  fiber scheduler;             // while running
  std::vector<Copy> copies;
  int64_t groups = 0;  // committed
};

std::string text(const dim3& d) { return fmt::format("({},{},{})", d.x, d.y, d.z); }
std::string text(const uint3& d) { return fmt::format("({},{},{})", d.x, d.y, d.z); }
std::string text(const Site& site) {
  const std::string file = site.file_name();
  return fmt::format("{}:{}", file.substr(file.rfind('/') + 1), site.line());
}
const char* name_of(const Exchange& e) {
  switch (e.kind) {
    case Collective::kBarrier:
      return "__syncthreads";
    case Collective::kWarpBarrier:
      return "__syncwarp";
    case Collective::kShuffle:
      return "shuffle";
    case Collective::kVote:
      return "vote";
    case Collective::kFunction:
      return e.name;
  }
  return "";
}
bool same_call(const Exchange& a, const Exchange& b) {
  return a.kind == b.kind && a.shuffle == b.shuffle && a.mask == b.mask && a.width == b.width &&
         a.work == b.work && a.site.line() == b.site.line() && a.site.column() == b.site.column() &&
         std::strcmp(a.site.file_name(), b.site.file_name()) == 0;
}

class Runner {
 public:
  void set_seed(uint64_t seed) {
    rng_ = sextant::Rng(seed, 0x51D7);
    counts_ = {};
  }
  void run(const Launch& launch, const std::function<void()>& body);
  void wait(Exchange& exchange);
  void* static_shared(const void* key, size_t bytes, size_t alignment);
  Thread& thread() { return *current_; }
  void* dynamic_shared() { return dynamic_.empty() ? nullptr : dynamic_.front().get(); }
  // "kernel, block (0,0,0), thread (3,0,0)"
  std::string where() const {
    return fmt::format("{}, block {}, thread {}", launch_.kernel, text(blockIdx),
                       text(current_->index));
  }
  const Counts& counts() const { return counts_; }

 private:
  void check_launch() const;
  void start_threads(const std::function<void()>& body);
  void finish_threads();
  void run_block();
  void resume(Thread& thread);
  void suspend(Thread& thread);
  void settle(Thread& thread);
  void settle_barrier();
  void settle_warp(const Thread& thread);
  void finish_shuffle(int first, int lane) const;
  void release(Thread& thread) {
    thread.state = State::kReady;
    ready_.push_back(&thread);
  }
  [[noreturn]] void report_stuck() const;
  std::string block_name() const {
    return fmt::format("{}, block {}", launch_.kernel, text(blockIdx));
  }

  sextant::Rng rng_{0, 0x51D7};
  Counts counts_;
  Launch launch_;
  std::vector<std::unique_ptr<Thread>> threads_;  // kept between launches for their stacks
  int size_ = 0;                                  // threads in a block of this launch
  std::vector<Thread*> ready_;
  int waiting_ = 0;  // at the block barrier
  Thread* current_ = nullptr;
  bool unwinding_ = false;
  bool closing_ = false;
  std::exception_ptr error_;
  const void* scheduler_bottom_ = nullptr;
  size_t scheduler_size_ = 0;
  std::map<const void*, Memory> static_;
  std::vector<Memory> dynamic_;
};

void Runner::check_launch() const {
  const dim3 b = launch_.block;
  const dim3 g = launch_.grid;
  const auto refuse = [&](const std::string& why) {
    sextant::fail("{}: grid {}, block {}, {} bytes of shared memory: {}", launch_.kernel, text(g),
                  text(b), launch_.shared_bytes, why);
  };
  if (current_ != nullptr) refuse("started from inside a kernel");
  if (uint64_t{g.x} * g.y * g.z == 0 || uint64_t{b.x} * b.y * b.z == 0) refuse("empty");
  if (uint64_t{b.x} * b.y * b.z > 1024) refuse("more than 1024 threads in a block");
  if (b.z > 64) refuse("block.z above 64");
  if (g.x > 0x7fffffffu || g.y > 65535 || g.z > 65535) refuse("grid too large");
  if (launch_.shared_bytes > kSharedLimit) refuse("more shared memory than a block can have");
}

void Runner::run(const Launch& launch, const std::function<void()>& body) {
  const Launch before = launch_;
  launch_ = launch;
  try {
    check_launch();
  } catch (...) {
    launch_ = before;
    throw;
  }
  blockDim = launch.block;
  gridDim = launch.grid;
  size_ = static_cast<int>(launch.block.x * launch.block.y * launch.block.z);
  ++counts_.launches;

  std::vector<uint64_t> order(uint64_t{launch.grid.x} * launch.grid.y * launch.grid.z);
  for (uint64_t i = 0; i < order.size(); ++i) {
    order[i] = i;
    std::swap(order[i], order[static_cast<uint64_t>(rng_.below(static_cast<int64_t>(i) + 1))]);
  }
  start_threads(body);
  try {
    for (const uint64_t b : order) {
      blockIdx = {static_cast<unsigned>(b % launch.grid.x),
                  static_cast<unsigned>(b / launch.grid.x % launch.grid.y),
                  static_cast<unsigned>(b / launch.grid.x / launch.grid.y)};
      run_block();
    }
  } catch (...) {
    finish_threads();
    throw;
  }
  finish_threads();
}

void Runner::start_threads(const std::function<void()>& body) {
  closing_ = false;
  unwinding_ = false;
  while (static_cast<int>(threads_.size()) < size_) {
    threads_.push_back(std::make_unique<Thread>());
    threads_.back()->stack.reset(new char[kStackBytes]);
  }
  for (int i = 0; i < size_; ++i) {
    Thread& thread = *threads_[static_cast<size_t>(i)];
    const auto id = static_cast<unsigned>(i);
    thread.index = {id % blockDim.x, id / blockDim.x % blockDim.y, id / blockDim.x / blockDim.y};
    thread.state = State::kExited;
#if defined(__SANITIZE_ADDRESS__)
    __asan_unpoison_memory_region(thread.stack.get(), kStackBytes);  // left by the last launch
#endif
    // One fiber serves its thread index in every block of the launch.
    thread.self = fiber(std::allocator_arg, OwnedStack{thread.stack.get()},
                        [this, &thread, &body](fiber&& f) {
                          thread.scheduler = std::move(f);
                          finish_switch(nullptr, &scheduler_bottom_, &scheduler_size_);
                          while (!closing_) {
                            try {
                              body();
                            } catch (const Unwind&) {
                            } catch (...) {
                              if (!error_) error_ = std::current_exception();
                            }
                            thread.state = State::kExited;
                            suspend(thread);
                          }
                          start_switch(nullptr, scheduler_bottom_, scheduler_size_);
                          return std::move(thread.scheduler);
                        });
  }
}

void Runner::finish_threads() {
  // A thread suspended inside the kernel unwinds and leaves its loop, one that never ran passes the
  // loop by.
  unwinding_ = closing_ = true;
  for (int i = 0; i < size_; ++i) {
    Thread& thread = *threads_[static_cast<size_t>(i)];
    while (thread.self) resume(thread);
  }
  error_ = nullptr;
  ready_.clear();
  static_.clear();
  dynamic_.clear();
}

void Runner::resume(Thread& thread) {
  current_ = &thread;
  threadIdx = thread.index;
  void* fake_stack = nullptr;
  start_switch(&fake_stack, thread.stack.get(), kStackBytes);
  thread.self = std::move(thread.self).resume();
  finish_switch(fake_stack, nullptr, nullptr);
  current_ = nullptr;
}

void Runner::suspend(Thread& thread) {
  start_switch(&thread.fake_stack, scheduler_bottom_, scheduler_size_);
  thread.scheduler = std::move(thread.scheduler).resume();
  finish_switch(thread.fake_stack, &scheduler_bottom_, &scheduler_size_);
}

void Runner::wait(Exchange& exchange) {
  Thread& thread = *current_;
  thread.exchange = &exchange;
  thread.state = State::kWaiting;
  suspend(thread);
  if (unwinding_) throw Unwind{};
}

void Runner::run_block() {
  ++counts_.blocks;
  counts_.threads += size_;
  static_.clear();
  dynamic_.clear();
  if (launch_.shared_bytes > 0) dynamic_.emplace_back(launch_.shared_bytes, 16);
  waiting_ = 0;
  ready_.clear();
  for (int i = 0; i < size_; ++i) {
    Thread& t = *threads_[static_cast<size_t>(i)];
    t.copies.clear();
    t.groups = 0;
    release(t);
  }
  int exited = 0;
  while (!ready_.empty()) {
    const auto pick = static_cast<size_t>(rng_.below(static_cast<int64_t>(ready_.size())));
    std::swap(ready_[pick], ready_.back());
    Thread& thread = *ready_.back();
    ready_.pop_back();
    resume(thread);
    if (error_) std::rethrow_exception(std::exchange(error_, nullptr));
    if (thread.state == State::kExited)
      ++exited;
    else
      settle(thread);
  }
  if (exited < size_) report_stuck();
}

void Runner::settle(Thread& thread) {
  if (thread.exchange->kind != Collective::kBarrier) return settle_warp(thread);
  if (++waiting_ == size_) settle_barrier();
}

void Runner::settle_barrier() {
  const Exchange& first = *threads_[0]->exchange;
  uint64_t count = 0;
  for (int i = 0; i < size_; ++i) {
    const Exchange& e = *threads_[static_cast<size_t>(i)]->exchange;
    if (!same_call(e, first)) report_stuck();
    count += e.value;
  }
  waiting_ = 0;
  ++counts_.barriers;
  for (int i = 0; i < size_; ++i) {
    Thread& t = *threads_[static_cast<size_t>(i)];
    t.exchange->result = count;
    release(t);
  }
}

// Completes the warp function that `thread` has reached if it is the last to reach it.
void Runner::settle_warp(const Thread& thread) {
  const Exchange& mine = *thread.exchange;
  const uint3 d = thread.index;
  const int id = static_cast<int>((d.z * blockDim.y + d.y) * blockDim.x + d.x);
  const int first = id / warpSize * warpSize;
  const auto refuse = [&](const std::string& why) {
    sextant::fail("{}, thread {}: {} at {} with mask {:#010x}: {}", block_name(), text(d),
                  name_of(mine), text(mine.site), mine.mask, why);
  };
  if ((mine.mask >> (id - first) & 1u) == 0) refuse("the mask leaves out the caller");
  for (int lane = 0; lane < warpSize; ++lane) {
    if ((mine.mask >> lane & 1u) == 0) continue;
    if (first + lane >= size_) refuse(fmt::format("lane {} does not exist", lane));
    const Thread& t = *threads_[static_cast<size_t>(first + lane)];
    if (t.state == State::kExited) refuse(fmt::format("lane {} has exited", lane));
    // Another call: it may still come to this one; if not, report_stuck() tells.
    if (t.state != State::kWaiting || !same_call(*t.exchange, mine)) return;
  }
  uint64_t ballot = 0;
  for (int lane = 0; lane < warpSize; ++lane)
    if ((mine.mask >> lane & 1u) != 0 &&
        threads_[static_cast<size_t>(first + lane)]->exchange->value != 0)
      ballot |= uint64_t{1} << lane;
  const unsigned mask = mine.mask;
  const Collective kind = mine.kind;
  for (int lane = 0; lane < warpSize; ++lane) {
    if ((mask >> lane & 1u) == 0) continue;
    if (kind == Collective::kVote)
      threads_[static_cast<size_t>(first + lane)]->exchange->result = ballot;
    if (kind == Collective::kShuffle) finish_shuffle(first, lane);
  }
  if (kind == Collective::kFunction) {
    void* lanes[warpSize];
    for (int lane = 0; lane < warpSize; ++lane)
      lanes[lane] = threads_[static_cast<size_t>(first + lane)]->exchange->lane;
    mine.work(lanes);
  }
  for (int lane = 0; lane < warpSize; ++lane)
    if ((mask >> lane & 1u) != 0) release(*threads_[static_cast<size_t>(first + lane)]);
}

// CUDA C++ Programming Guide, "Warp Shuffle Functions": a source lane past the segment's end gives
// the caller its own value; an index wraps around within the segment.
void Runner::finish_shuffle(int first, int lane) const {
  const Thread& thread = *threads_[static_cast<size_t>(first + lane)];
  Exchange& e = *thread.exchange;
  const auto refuse = [&](const std::string& why) {
    sextant::fail("{}, thread {}: shuffle at {}: {}", block_name(), text(thread.index),
                  text(e.site), why);
  };
  if (e.width < 1 || e.width > warpSize || (e.width & (e.width - 1)) != 0)
    refuse(fmt::format("width {} is not a power of two up to 32", e.width));
  const int begin = lane / e.width * e.width;
  int source = lane;
  switch (e.shuffle) {
    case Shuffle::kIndex:
      source = begin + (e.lane_argument & (e.width - 1));
      break;
    case Shuffle::kUp:
      source = lane - e.lane_argument < begin ? lane : lane - e.lane_argument;
      break;
    case Shuffle::kDown:
      source = lane + e.lane_argument >= begin + e.width ? lane : lane + e.lane_argument;
      break;
    case Shuffle::kXor:
      source = (lane ^ e.lane_argument) >= begin + e.width ? lane : lane ^ e.lane_argument;
      break;
  }
  if (source < 0 || source >= warpSize || (e.mask >> source & 1u) == 0)
    refuse(fmt::format("lane {} reads from lane {}, which mask {:#010x} leaves out", lane, source,
                       e.mask));
  e.result = threads_[static_cast<size_t>(first + source)]->exchange->value;
}

// All threads wait and none can continue: reports how many wait where.
void Runner::report_stuck() const {
  struct Group {
    const Thread* example;
    int count;
  };
  std::vector<Group> groups;
  int exited = 0;
  for (int i = 0; i < size_; ++i) {
    const Thread& t = *threads_[static_cast<size_t>(i)];
    if (t.state == State::kExited) {
      ++exited;
      continue;
    }
    const auto same = std::find_if(groups.begin(), groups.end(), [&](const Group& g) {
      return same_call(*g.example->exchange, *t.exchange);
    });
    if (same == groups.end())
      groups.push_back({&t, 1});
    else
      ++same->count;
  }
  std::string message;
  for (const Group& g : groups) {
    const Exchange& e = *g.example->exchange;
    if (!message.empty()) message += "; ";
    message += fmt::format("{} wait at {} ({}", g.count, name_of(e), text(e.site));
    if (e.kind != Collective::kBarrier) message += fmt::format(", mask {:#010x}", e.mask);
    message += fmt::format("), thread {} among them", text(g.example->index));
  }
  sextant::fail("{}: barrier divergence: of {} threads {} exited; {}", block_name(), size_, exited,
                message);
}

void* Runner::static_shared(const void* key, size_t bytes, size_t alignment) {
  auto found = static_.find(key);
  if (found == static_.end()) {
    size_t total = bytes;
    for (const auto& [other, memory] : static_) total += memory.bytes();
    sextant::check(total <= kStaticSharedLimit, "{}: {} bytes of static shared memory, at most {}",
                   where(), total, kStaticSharedLimit);
    sextant::check(total + launch_.shared_bytes <= kSharedLimit,
                   "{}: {} bytes of shared memory, at most {}", where(),
                   total + launch_.shared_bytes, kSharedLimit);
    found = static_.emplace(key, Memory(bytes, std::max<size_t>(alignment, 16))).first;
  }
  return found->second.get();
}

Runner& runner() {
  static Runner instance;
  return instance;
}

}  // namespace

namespace {
std::function<void()> before_launch, after_launch;
std::function<void(std::function<void()>)> recorder;
struct LaunchHooks {
  LaunchHooks() {
    if (before_launch) before_launch();
  }
  ~LaunchHooks() {
    if (after_launch) after_launch();
  }
};
}  // namespace

void run(const Launch& launch, const std::function<void()>& body) {
  const LaunchHooks hooks;
  runner().run(launch, body);
}
void start(const Launch& launch, std::function<void()> body) {
  if (recorder)
    recorder([launch, body = std::move(body)] { run(launch, body); });
  else
    run(launch, body);
}
void set_recorder(std::function<void(std::function<void()>)> r) { recorder = std::move(r); }
void set_launch_hooks(std::function<void()> before, std::function<void()> after) {
  before_launch = std::move(before);
  after_launch = std::move(after);
}
void set_seed(uint64_t seed) { runner().set_seed(seed); }
Counts counts() { return runner().counts(); }
void kernel_error(const std::string& what, const std::source_location& site) {
  sextant::fail("{}: {} at {}", runner().where(), what, text(site));
}
void* static_shared_bytes(const void* key, size_t bytes, size_t alignment) {
  return runner().static_shared(key, bytes, alignment);
}
void* dynamic_shared_bytes() { return runner().dynamic_shared(); }
void collective(Exchange& exchange) { runner().wait(exchange); }

void cp_async(int bytes, void* shared, const void* global, bool valid, const Site& site) {
  const auto aligned = [&](const void* p) {
    return reinterpret_cast<uintptr_t>(p) % static_cast<uintptr_t>(bytes) == 0;
  };
  if (!aligned(shared) || (valid && !aligned(global)))
    kernel_error(fmt::format("cp.async: not aligned to {} bytes", bytes), site);
  std::memset(shared, kGarbage, static_cast<size_t>(bytes));
  Thread& t = runner().thread();
  t.copies.push_back({t.groups, bytes, shared, valid ? global : nullptr});
}
void cp_async_commit() { ++runner().thread().groups; }
void cp_async_wait(int newest) {
  Thread& t = runner().thread();
  std::erase_if(t.copies, [&](const Copy& c) {
    if (c.group >= t.groups - newest) return false;
    if (c.from)
      std::memcpy(c.to, c.from, static_cast<size_t>(c.bytes));
    else
      std::memset(c.to, 0, static_cast<size_t>(c.bytes));
    return true;
  });
}

}  // namespace simt
