// SPDX-License-Identifier: Apache-2.0
#include "simt/accelerator.h"

#include <sys/mman.h>

#include <cstring>
#include <functional>
#include <map>
#include <memory>
#include <vector>

#include "core/error.h"
#include "kernels/cuda/kernels.h"
#include "simt/simt.h"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#endif

namespace sextant::test {
namespace {

constexpr size_t kRegion = size_t{4} << 30;  // address space, not memory
constexpr int64_t kGuard = 256;

void forbid([[maybe_unused]] void* p, [[maybe_unused]] int64_t bytes) {
#if defined(__SANITIZE_ADDRESS__)
  __asan_poison_memory_region(p, static_cast<size_t>(bytes));
#endif
}
void allow([[maybe_unused]] void* p, [[maybe_unused]] int64_t bytes) {
#if defined(__SANITIZE_ADDRESS__)
  __asan_unpoison_memory_region(p, static_cast<size_t>(bytes));
#endif
}

class SimtAccelerator final : public Accelerator {
 public:
  SimtAccelerator() {
    void* p = mmap(nullptr, kRegion, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    check(p != MAP_FAILED, "simt device: no address space");
    region_ = static_cast<char*>(p);
    simt::set_launch_hooks([this] { open(); }, [this] { close(); });
  }
  ~SimtAccelerator() override {
    simt::set_launch_hooks(nullptr, nullptr);
    allow(region_, used_);
    munmap(region_, kRegion);
  }

  std::string name() const override { return "SIMT runner"; }
  void* allocate(int64_t bytes) override {
    const int64_t size = (bytes + kGuard - 1) / kGuard * kGuard;
    std::vector<char*>& list = free_[size];
    char* p = nullptr;
    if (!list.empty()) {
      p = list.back();
      list.pop_back();
    } else {
      if (used_ + size + kGuard > static_cast<int64_t>(kRegion)) return nullptr;
      p = region_ + used_;
      used_ += size + kGuard;
      forbid(p + size, kGuard);
    }
    sizes_[p] = size;
    allow(p, bytes);
    forbid(p + bytes, size - bytes);
    const Opened opened(*this);
    std::memset(p, 0xFF, static_cast<size_t>(bytes));
    return p;
  }
  void release(void* p) noexcept override {
    const int64_t size = sizes_.at(static_cast<char*>(p));
    forbid(p, size);
    free_[size].push_back(static_cast<char*>(p));
  }
  void* allocate_pinned(int64_t bytes) override {
    void* p = std::aligned_alloc(256, static_cast<size_t>((bytes + 255) / 256 * 256));
    pinned_[static_cast<char*>(p)] = bytes;
    return p;
  }
  void release_pinned(void* p) noexcept override {
    pinned_.erase(static_cast<char*>(p));
    std::free(p);
  }
  void upload(void* to, const void* from, int64_t bytes, Stream) override {
    refuse_in_recording("a copy from the host");
    move(to, from, bytes);
  }
  void download(void* to, const void* from, int64_t bytes, Stream) override {
    refuse_in_recording("a copy to the host");
    if (!pinned(static_cast<char*>(to))) ++waits_;
    move(to, from, bytes);
  }
  void copy(void* to, const void* from, int64_t bytes, Stream) override {
    start([=, this] { move(to, from, bytes); });
  }
  void fill_zero(void* p, int64_t bytes, Stream) override {
    start([=, this] {
      const Opened opened(*this);
      std::memset(p, 0, static_cast<size_t>(bytes));
    });
  }
  void add_into(void* into, const void* values, int64_t n, DType dtype, Stream stream) override {
    kernels::cuda::add_scaled({.a = into, .b = values, .y = into, .n = n, .dtype = dtype}, nullptr,
                              stream);
  }
  void synchronize(Stream) override {
    refuse_in_recording("a wait");
    ++waits_;
  }
  Stream make_stream() override { return {}; }
  void destroy_stream(Stream) noexcept override {}
  void wait(Stream, Stream) override {}
  int64_t waits() const { return waits_; }
  void refuse_recordings() { refuses_ = true; }

  bool begin_recording(Stream) override {
    recorded_ = std::make_unique<Recorded>();
    simt::set_recorder(
        [this](std::function<void()> work) { recorded_->push_back(std::move(work)); });
    return true;
  }
  void* end_recording(Stream) override {
    simt::set_recorder(nullptr);
    const std::unique_ptr<Recorded> recorded = std::move(recorded_);
    check(!refuses_, "simt device: recordings are refused");
    return new Recorded(std::move(*recorded));
  }
  void launch_recording(void* recording, Stream) override {
    refuse_in_recording("a recording");
    for (const auto& work : *static_cast<Recorded*>(recording)) work();
  }
  void destroy_recording(void* recording) noexcept override {
    delete static_cast<Recorded*>(recording);
  }

 private:
  using Recorded = std::vector<std::function<void()>>;
  void start(std::function<void()> work) {
    if (recorded_)
      recorded_->push_back(std::move(work));
    else
      work();
  }
  // As CUDA does.
  void refuse_in_recording(const char* what) const {
    check(!recorded_, "simt device: {} in work that is recorded", what);
  }
  bool pinned(char* p) const {
    const auto after = pinned_.upper_bound(p);
    return after != pinned_.begin() && p - std::prev(after)->first < std::prev(after)->second;
  }
  struct Opened {
    explicit Opened(SimtAccelerator& a) : device(a) { device.open(); }
    ~Opened() { device.close(); }
    SimtAccelerator& device;
  };
  // Nested: a kernel may be started while memory is open.
  void open() {
    if (depth_++ == 0) protect(PROT_READ | PROT_WRITE);
  }
  void close() {
    if (--depth_ == 0) protect(PROT_NONE);
  }
  void protect(int how) const {
    if (used_ > 0) mprotect(region_, static_cast<size_t>((used_ + 4095) / 4096 * 4096), how);
  }
  void move(void* to, const void* from, int64_t bytes) {
    const Opened opened(*this);
    std::memcpy(to, from, static_cast<size_t>(bytes));
  }

  char* region_ = nullptr;
  int64_t used_ = 0;
  int depth_ = 0;
  std::map<int64_t, std::vector<char*>> free_;
  std::map<char*, int64_t> sizes_;
  std::map<char*, int64_t> pinned_;  // with their bytes
  int64_t waits_ = 0;
  std::unique_ptr<Recorded> recorded_;  // while recording
  bool refuses_ = false;
};

}  // namespace

TestDevice::TestDevice(uint64_t seed) {
  simt::set_seed(seed);
  set_accelerator(std::make_unique<SimtAccelerator>());
  kernels::set_cuda_backend(&kernels::cuda::backend());
}

bool TestDevice::usable() const { return true; }

int64_t TestDevice::host_waits() const {
  return static_cast<const SimtAccelerator&>(accelerator()).waits();
}

bool TestDevice::refuse_recordings() {
  static_cast<SimtAccelerator&>(accelerator()).refuse_recordings();
  return true;
}

TestDevice::~TestDevice() {
  kernels::set_cuda_backend(nullptr);
  set_accelerator(nullptr);
}

}  // namespace sextant::test
