// SPDX-License-Identifier: Apache-2.0
// RecordedWork on a fake device in host memory that records its calls.
#include <cstdlib>
#include <cstring>

#include "core/device.h"
#include "core/profile_range.h"
#include "core/tensor.h"
#include "support/support.h"

namespace sextant::test {
namespace {

using Command = std::function<void()>;
struct Log {
  std::vector<Command>* recording = nullptr;
  bool can_record = true;
  int made = 0, destroyed = 0, launched = 0, streams = 0;
};

class RecordingDevice final : public Accelerator {
 public:
  explicit RecordingDevice(Log& log) : log_(log) {}
  std::string name() const override { return "recording device"; }
  void* allocate(int64_t bytes) override {
    return std::aligned_alloc(256, static_cast<size_t>((bytes + 255) / 256 * 256));
  }
  void release(void* p) noexcept override { std::free(p); }
  void* allocate_pinned(int64_t bytes) override { return allocate(bytes); }
  void release_pinned(void* p) noexcept override { std::free(p); }
  void upload(void* to, const void* from, int64_t bytes, Stream) override {
    std::memcpy(to, from, static_cast<size_t>(bytes));
  }
  void download(void* to, const void* from, int64_t bytes, Stream) override {
    std::memcpy(to, from, static_cast<size_t>(bytes));
  }
  void copy(void* to, const void* from, int64_t bytes, Stream) override {
    run([=] { std::memcpy(to, from, static_cast<size_t>(bytes)); });
  }
  void fill_zero(void* p, int64_t bytes, Stream) override {
    run([=] { std::memset(p, 0, static_cast<size_t>(bytes)); });
  }
  void add_into(void* into, const void* values, int64_t n, DType, Stream) override {
    run([=] {
      for (int64_t i = 0; i < n; ++i)
        static_cast<float*>(into)[i] += static_cast<const float*>(values)[i];
    });
  }
  void synchronize(Stream) override {}
  Stream make_stream() override {
    ++log_.streams;
    return {&log_};
  }
  void destroy_stream(Stream) noexcept override { --log_.streams; }
  void wait(Stream, Stream) override {}
  bool begin_recording(Stream stream) override {
    if (!log_.can_record || !stream.handle) return false;
    log_.recording = new std::vector<Command>;
    ++log_.made;
    return true;
  }
  void* end_recording(Stream) override { return std::exchange(log_.recording, nullptr); }
  void launch_recording(void* recording, Stream) override {
    ++log_.launched;
    for (const Command& c : *static_cast<std::vector<Command>*>(recording)) c();
  }
  void destroy_recording(void* recording) noexcept override {
    ++log_.destroyed;
    delete static_cast<std::vector<Command>*>(recording);
  }

 private:
  void run(Command c) {
    if (log_.recording)
      log_.recording->push_back(std::move(c));
    else
      c();
  }
  Log& log_;
};

struct DeviceForTest {
  Log log;
  DeviceForTest() { set_accelerator(std::make_unique<RecordingDevice>(log)); }
  ~DeviceForTest() { set_accelerator(nullptr); }
};

TEST_CASE("recorded work: the first run eager, the second recorded, then replayed") {
  DeviceForTest device;
  const Tensor sum = Tensor::zeros({4}, DType::kF32, Device::kCuda);
  const Tensor one = Tensor::full({4}, 1.0f, Device::kCuda);
  int calls = 0;
  {
    RecordedWork work([&] {
      ++calls;
      const Tensor twice = Tensor::zeros({4}, DType::kF32, Device::kCuda);
      for (int i = 0; i < 2; ++i)
        accelerator().add_into(twice.f32(), one.f32(), 4, DType::kF32, compute_stream());
      accelerator().add_into(sum.f32(), twice.f32(), 4, DType::kF32, compute_stream());
    });
    for (int run = 1; run <= 5; ++run) {
      work.run();
      CHECK(sum.to(Device::kCpu).f32()[3] == 2.0f * static_cast<float>(run));
      CHECK(work.recorded() == (run >= 2));
    }
    CHECK(calls == 2);
    CHECK(device.log.launched == 4);
    CHECK(compute_stream().handle == nullptr);
    CHECK(device.log.streams == 0);

    // Its own memory is not given to others while it may be replayed.
    const Tensor other = Tensor::full({4}, 7.0f, Device::kCuda);
    work.run();
    CHECK(other.to(Device::kCpu).f32()[0] == 7.0f);
    CHECK(device_stats().active_bytes > 3 * 16);
  }
  CHECK(device.log.made == 1);
  CHECK(device.log.destroyed == 1);
}

TEST_CASE("recorded work: the recording's memory comes back at its end") {
  DeviceForTest device;
  const int64_t before = device_stats().active_bytes;
  {
    RecordedWork work([] {
      // The second takes the block of the first.
      [[maybe_unused]] const void* first = nullptr;
      {
        const Workspace a(1000);
        first = a.data();
      }
      const Workspace b(1000);
#if !defined(__SANITIZE_ADDRESS__)  // which keeps no block
      CHECK(b.data() == first);
#endif
    });
    work.run();
    CHECK(device_stats().active_bytes == before);
    work.run();
    CHECK(device_stats().active_bytes > before);
  }
  CHECK(device_stats().active_bytes == before);
}

TEST_CASE("recorded work: without recordings every run is eager") {
  DeviceForTest device;
  device.log.can_record = false;
  int calls = 0;
  RecordedWork work([&] { ++calls; });
  for (int run = 0; run < 4; ++run) work.run();
  CHECK(calls == 4);
  CHECK_FALSE(work.recorded());
  CHECK(device.log.streams == 0);
}

TEST_CASE("recorded work that fails while it is recorded leaves nothing open") {
  DeviceForTest device;
  int calls = 0;
  RecordedWork work([&] {
    if (++calls == 2) fail("broken");
  });
  work.run();
  CHECK_THROWS_WITH(work.run(), "broken");
  CHECK(device.log.recording == nullptr);
  CHECK(device.log.destroyed == 1);
  CHECK(device.log.streams == 0);
  CHECK(compute_stream().handle == nullptr);
}

TEST_CASE("recorded work that cannot be recorded is done as it is, once its traces are undone") {
  DeviceForTest device;
  int calls = 0, done = 0, undone = 0;
  RecordedWork work(
      [&] {
        ++done;
        if (++calls == 2) fail("waits for the device");
      },
      [&] {
        ++undone;
        --done;
      });
  for (int run = 1; run <= 3; ++run) {
    work.run();
    CHECK(done == run);
    CHECK(work.refusal() == (run < 2 ? "" : "waits for the device"));
  }
  CHECK(undone == 1);
  CHECK(calls == 4);
  CHECK_FALSE(work.recorded());
  CHECK(device.log.streams == 0);
}

std::string open_ranges;

TEST_CASE("profile ranges nest, and cost nothing without hooks") {
  open_ranges.clear();
  { const ProfileRange nobody_listens("a"); }
  CHECK(open_ranges.empty());
  static constexpr ProfileHooks kHooks = {[](const char* name) { open_ranges += name; },
                                          [] { open_ranges += ")"; }};
  set_profile_hooks(&kHooks);
  {
    const ProfileRange outer("step(");
    { const ProfileRange inner("forward("); }
    const ProfileRange second("backward(");
  }
  set_profile_hooks(nullptr);
  CHECK(open_ranges == "step(forward()backward())");
}

}  // namespace
}  // namespace sextant::test
