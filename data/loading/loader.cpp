// SPDX-License-Identifier: Apache-2.0
#include "data/loading/loader.h"

#include <algorithm>
#include <condition_variable>
#include <cstring>
#include <exception>
#include <map>
#include <mutex>
#include <numeric>
#include <system_error>
#include <thread>

#include "core/communicator.h"
#include "core/error.h"
#include "core/profile_range.h"
#include "data/loading/device_painter.h"
#include "data/loading/sample_store.h"

namespace sextant::data {
namespace {

// One sample of a batch under construction.
struct Slot {
  int64_t index = 0;
  bool good = true;
  LetterboxGeometry geometry;
  std::vector<PixelLabel> labels;
  AugmentPlan plan;  // for the device
};

struct Pending {
  Tensor images;
  std::vector<Slot> slots;
  int64_t left = 0;  // slots not finished yet
  std::exception_ptr error;
};

struct Epoch {
  int64_t number = 0;
  bool mosaic_on = true;
  std::vector<int64_t> order;
  int64_t batches = 0;
  int64_t head = 0;        // the batch that next() returns
  int64_t task_batch = 0;  // the next slot to start
  int64_t task_slot = 0;
  std::map<int64_t, std::shared_ptr<Pending>> pending;
};

// Moves the good slots to the front and collects their targets.
Batch assemble(Tensor images, std::vector<Slot>& slots, bool with_geometry) {
  Batch batch;
  std::vector<float> rows;
  const Shape all = images.shape();
  const int64_t bytes = 3 * all[1] * all[2];
  const auto height = static_cast<float>(all[1]), width = static_cast<float>(all[2]);
  for (size_t k = 0; k < slots.size(); ++k) {
    const Slot& slot = slots[k];
    if (!slot.good) continue;  // host images only: no augmentation
    const int64_t n = batch.size();
    uint8_t* pixels = images.data<uint8_t>();
    if (n != static_cast<int64_t>(k))
      std::memcpy(pixels + n * bytes, pixels + static_cast<int64_t>(k) * bytes,
                  static_cast<size_t>(bytes));
    batch.indices.push_back(slot.index);
    if (with_geometry) batch.geometry.push_back(slot.geometry);
    for (const PixelLabel& l : slot.labels) {
      const float row[] = {static_cast<float>(n),     static_cast<float>(l.category),
                           (l.x1 + l.x2) / 2 / width, (l.y1 + l.y2) / 2 / height,
                           (l.x2 - l.x1) / width,     (l.y2 - l.y1) / height};
      rows.insert(rows.end(), std::begin(row), std::end(row));
    }
  }
  const Shape shape{batch.size(), all[1], all[2], 3};
  if (batch.size() == images.dim(0)) {
    batch.images = images;
  } else {
    batch.images = Tensor(shape, DType::kU8);
    if (batch.size() > 0)
      std::memcpy(batch.images.raw(), images.raw(), static_cast<size_t>(shape.numel()));
  }
  batch.targets = Tensor::from(Shape{static_cast<int64_t>(rows.size()) / 6, 6}, rows);
  return batch;
}

void check_config(const Dataset& dataset, const LoaderConfig& c) {
  check(!dataset.samples.empty(), "loader: the dataset {} has no sample", dataset.path);
  check(c.batch > 0, "loader: batch is {}, must be positive", c.batch);
  check(c.size > 0 && c.width >= 0, "loader: size is {} x {}, must be positive", c.size, c.width);
  check(c.border >= 0 && 2 * c.border < std::min(c.size, c.canvas().width),
        "loader: a border of {} with size {} x {}", c.border, c.size, c.canvas().width);
  check(c.threads > 0 && c.threads <= 256, "loader: threads is {}, must be in [1, 256]", c.threads);
  check(c.process >= 0 && c.process < c.processes, "loader: process {} of {}", c.process,
        c.processes);
  // Each process leaves out other images, and then they have not the same number of batches.
  check(c.processes == 1 || c.augment, "loader: several processes, but no augmentation");
  check(c.prefetch > 0, "loader: prefetch is {}, must be positive", c.prefetch);
}

}  // namespace

struct Loader::State {
  State(const Dataset& d, LoaderConfig c)
      : dataset(d),
        config(std::move(c)),
        size(config.canvas()),
        store(d, {size.width, size.height, true, kPadValue, config.border}, config.cache_bytes,
              config.augment.has_value()),
        source{d.size(), [this](int64_t index) { return store.load_good(index); }, config.border},
        painter(config.device_cache_bytes) {
    try {
      for (int k = 0; k < config.threads; ++k) workers.emplace_back([this] { work(); });
    } catch (const std::system_error& e) {
      stop();
      fail("loader: cannot start {} threads ({})", config.threads, e.what());
    }
  }
  ~State() { stop(); }
  void stop() {
    {
      const std::lock_guard lock(mutex);
      stopping = true;
    }
    wake_workers.notify_all();
    for (std::thread& t : workers) t.join();
  }
  State(const State&) = delete;
  State& operator=(const State&) = delete;

  // The images of a batch, and this process's share of them.
  int64_t whole_batch(const Epoch& e, int64_t batch) const {
    return std::min(config.batch, static_cast<int64_t>(e.order.size()) - batch * config.batch);
  }
  Share share(const Epoch& e, int64_t batch) const {
    const Share s = share_of(whole_batch(e, batch), config.process, config.processes);
    return s.size() > 0 ? s : Share{0, 1};
  }
  bool has_task(const Epoch& e) const {
    return e.task_batch < std::min(e.batches, e.head + config.prefetch);
  }
  std::shared_ptr<Pending> new_batch(const Epoch& e) const;
  void make_sample(const Epoch& e, int64_t position, Slot& slot, Image& canvas, uint8_t* out);
  void work();
  bool paints() const { return config.augment && config.device != Device::kCpu; }

  const Dataset& dataset;
  const LoaderConfig config;
  const ImageSize size;  // of the canvas
  SampleStore store;
  const SampleSource source;
  DevicePainter painter;
  std::mutex mutex;
  std::condition_variable wake_workers;
  std::condition_variable batch_done;
  bool stopping = false;
  std::shared_ptr<Epoch> epoch;  // replaced as a whole; workers finish their sample in the old one
  std::vector<std::thread> workers;
};

std::shared_ptr<Pending> Loader::State::new_batch(const Epoch& e) const {
  auto pending = std::make_shared<Pending>();
  pending->left = share(e, e.task_batch).size();
  pending->slots.resize(static_cast<size_t>(pending->left));
  if (paints()) return pending;
  try {
    pending->images = Tensor(Shape{pending->left, size.height, size.width, 3}, DType::kU8);
  } catch (...) {
    pending->error = std::current_exception();
  }
  return pending;
}

void Loader::State::make_sample(const Epoch& e, int64_t position, Slot& slot, Image& canvas,
                                uint8_t* out) {
  slot.index = e.order[static_cast<size_t>(position)];
  if (config.augment) {
    Rng rng(config.seed, static_cast<uint64_t>(e.number) << 32 | static_cast<uint64_t>(position));
    AugmentPlan plan =
        plan_augmentation(source, slot.index, size, *config.augment, e.mosaic_on, rng);
    slot.labels = std::move(plan.labels);
    if (paints())
      slot.plan = std::move(plan);
    else
      paint(plan, size, canvas, out);  // also releases the images
    return;
  }
  const auto image = store.load(slot.index);
  slot.good = image != nullptr;
  if (!slot.good) return;
  slot.geometry = store.geometry(slot.index);
  letterbox_into(*image, slot.geometry, kPadValue, out);
  slot.labels =
      canvas_labels(dataset.samples[static_cast<size_t>(slot.index)].labels, slot.geometry);
}

void Loader::State::work() {
  Image canvas;
  std::unique_lock lock(mutex);
  while (true) {
    wake_workers.wait(lock, [&] { return stopping || (epoch && has_task(*epoch)); });
    if (stopping) return;
    const std::shared_ptr<Epoch> e = epoch;
    const int64_t batch = e->task_batch;
    const int64_t at = e->task_slot;
    std::shared_ptr<Pending>& entry = e->pending[batch];
    if (!entry) entry = new_batch(*e);
    const std::shared_ptr<Pending> pending = entry;
    if (++e->task_slot == static_cast<int64_t>(pending->slots.size())) {
      e->task_slot = 0;
      ++e->task_batch;
    }
    std::exception_ptr error = pending->error;
    lock.unlock();
    if (!error) {
      try {
        const int64_t bytes = int64_t{3} * size.width * size.height;
        uint8_t* out = paints() ? nullptr : pending->images.data<uint8_t>() + at * bytes;
        const int64_t position = batch * config.batch + share(*e, batch).begin + at;
        make_sample(*e, position, pending->slots[static_cast<size_t>(at)], canvas, out);
      } catch (...) {
        error = std::current_exception();
      }
    }
    lock.lock();
    if (error && !pending->error) pending->error = error;
    if (--pending->left == 0) batch_done.notify_all();
  }
}

Loader::Loader(const Dataset& dataset, LoaderConfig config) {
  check_config(dataset, config);
  state_ = std::make_unique<State>(dataset, std::move(config));
}
Loader::~Loader() = default;

std::string Loader::cached() const { return state_->store.cached(); }

int64_t Loader::batches_per_epoch() const {
  const int64_t n = state_->dataset.size();
  const int64_t b = state_->config.batch;
  return state_->config.drop_last ? n / b : (n + b - 1) / b;
}

void Loader::begin_epoch(int64_t epoch, bool mosaic_on) { begin_epoch_at(epoch, mosaic_on, 0); }

void Loader::begin_epoch_at(int64_t epoch, bool mosaic_on, int64_t first_batch) {
  State& s = *state_;
  check(epoch >= 0 && epoch < (int64_t{1} << 31), "loader: epoch {} is out of range", epoch);
  auto e = std::make_shared<Epoch>();
  e->number = epoch;
  e->mosaic_on = mosaic_on;
  e->batches = batches_per_epoch();
  check(first_batch >= 0 && first_batch <= e->batches,
        "loader: batch {} is out of range, an epoch has {}", first_batch, e->batches);
  e->head = e->task_batch = first_batch;
  e->order.resize(s.dataset.samples.size());
  std::iota(e->order.begin(), e->order.end(), int64_t{0});
  if (s.config.shuffle) {
    // A random stream that no position uses.
    Rng rng(s.config.seed, static_cast<uint64_t>(epoch) << 32 | 0xFFFFFFFFu);
    for (int64_t k = s.dataset.size() - 1; k > 0; --k)
      std::swap(e->order[static_cast<size_t>(k)], e->order[static_cast<size_t>(rng.below(k + 1))]);
  }
  {
    const std::lock_guard lock(s.mutex);
    s.epoch = std::move(e);
  }
  s.wake_workers.notify_all();
}

bool Loader::next(Batch& batch) {
  const ProfileRange range("data");
  State& s = *state_;
  std::shared_ptr<Pending> pending;
  int64_t whole = 0;
  do {
    std::unique_lock lock(s.mutex);
    if (!s.epoch || s.epoch->head == s.epoch->batches) return false;
    Epoch& e = *s.epoch;
    whole = s.whole_batch(e, e.head);
    s.batch_done.wait(lock, [&] {
      const auto at = e.pending.find(e.head);
      return at != e.pending.end() && at->second->left == 0;
    });
    pending = e.pending.at(e.head);
    e.pending.erase(e.head);
    ++e.head;
    lock.unlock();
    s.wake_workers.notify_all();
    if (pending->error) std::rethrow_exception(pending->error);
    Tensor images = pending->images;
    if (s.paints()) {
      std::vector<const AugmentPlan*> plans;
      for (const Slot& slot : pending->slots) plans.push_back(&slot.plan);
      images = s.painter.paint(plans, s.size);
    }
    batch = assemble(images, pending->slots, !s.config.augment);
    batch.images = batch.images.to(s.config.device);
    batch.whole = whole;
    batch.counts = s.config.process < whole;
  } while (batch.size() == 0);  // every image of it was broken
  return true;
}

Batch load_batch(const Dataset& dataset, int64_t begin, int64_t end, int size, int border) {
  return load_batch(dataset, begin, end, {size, size, true, kPadValue, border});
}

Batch load_batch(const Dataset& dataset, int64_t begin, int64_t end,
                 const LetterboxOptions& canvas) {
  check(begin >= 0 && begin < end && end <= dataset.size(),
        "load_batch: samples [{}, {}) are out of range, there are {}", begin, end, dataset.size());
  check(canvas.height > 0 && canvas.width > 0, "load_batch: size is {}x{}, must be positive",
        canvas.height, canvas.width);
  Tensor images(Shape{end - begin, canvas.height, canvas.width, 3}, DType::kU8);
  std::vector<Slot> slots(static_cast<size_t>(end - begin));
  const int64_t bytes = int64_t{3} * canvas.height * canvas.width;
  for (int64_t k = 0; k < end - begin; ++k) {
    Slot& slot = slots[static_cast<size_t>(k)];
    slot.index = begin + k;
    const Sample& sample = dataset.samples[static_cast<size_t>(slot.index)];
    slot.geometry = letterbox_geometry(sample.width, sample.height, canvas);
    const auto image = load_resized(dataset, slot.index, slot.geometry);
    slot.good = image.has_value();
    if (!slot.good) continue;
    letterbox_into(*image, slot.geometry, canvas.pad, images.data<uint8_t>() + k * bytes);
    slot.labels = canvas_labels(sample.labels, slot.geometry);
  }
  return assemble(std::move(images), slots, true);
}

}  // namespace sextant::data
