// SPDX-License-Identifier: Apache-2.0
// The loader: several threads prepare batches of samples ahead of time.
//
//   Loader loader(dataset, config);
//   for (epoch...) {
//     loader.begin_epoch(epoch, mosaic_on);
//     Batch batch;
//     while (loader.next(batch)) ...
//   }
//
// A batch depends on (seed, epoch, position in the epoch) only, never on the number of threads or
// processes, or on timing: each position has a random sequence of its own. A resumed training run therefore sees
// the same batches.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "core/tensor.h"
#include "data/augment/augment.h"
#include "data/dataset/dataset.h"
#include "data/image/letterbox.h"

namespace sextant::data {

struct Batch {
  Tensor images;   // u8 [N,H,W,3], RGB, on the loader's device
  Tensor targets;  // f32 [M,6]: image in the batch, class, cx, cy, w, h relative to W, H; sorted by
                   // image. Crowd boxes are not in it.
  std::vector<int64_t> indices;             // the samples, N of them
  std::vector<LetterboxGeometry> geometry;  // N, without augmentation; else empty

  int64_t whole = 0;   // images of all processes' parts of the batch
  bool counts = true;  // false: the images are another process's, as there are none for this one

  int64_t size() const { return static_cast<int64_t>(indices.size()); }
  // The images' part of the whole batch.
  double share() const {
    if (!counts) return 0;
    return whole > 0 ? static_cast<double>(size()) / static_cast<double>(whole) : 1;
  }
};

struct LoaderConfig {
  int64_t batch = 16;
  int size = 320;  // side of the square canvas, or its height
  int width = 0;   // of the canvas, where it differs from the height; 0: square
  int border = 0;  // grey pixels on every side of it, see LetterboxOptions
  bool shuffle = false;
  std::optional<AugmentConfig> augment;  // nothing: letterboxed only
  uint64_t seed = 0;
  int threads = 1;
  bool drop_last = false;
  // For images: decoded and resized, if all fit, else their files (data/loading/sample_store.h).
  int64_t cache_bytes = int64_t{1} << 30;
  int64_t device_cache_bytes = int64_t{1} << 30;  // for decoded images on the device
  int64_t prefetch = 3;                           // batches prepared ahead
  // kCuda: the threads draw the augmentation, and next() renders it on the device, from images that
  // stay there (up to device_cache_bytes).
  Device device = Device::kCpu;
  // Which process of how many: each gets its share of each batch (core/communicator.h), the same
  // samples that one process would get. Where there are fewer images than processes, the last ones
  // get the first image, which does not count (Batch::counts).
  int process = 0;
  int processes = 1;

  ImageSize canvas() const { return {width > 0 ? width : size, size}; }
};

class Loader {
 public:
  // Keeps a reference to the dataset. Throws Error for an empty dataset or a config out of range.
  // With augmentation, an image that cannot be decoded (load_sample()) is replaced by the next good
  // sample. Without, it is left out of its batch, so that no sample is evaluated twice.
  Loader(const Dataset& dataset, LoaderConfig config);
  ~Loader();
  Loader(const Loader&) = delete;
  Loader& operator=(const Loader&) = delete;

  // Starts an epoch and abandons the rest of the previous one. `mosaic_on` false turns mosaic and
  // mixup off.
  void begin_epoch(int64_t epoch, bool mosaic_on = true);
  // Like begin_epoch(), but starts with batch `first_batch`: to continue in the middle of an epoch.
  void begin_epoch_at(int64_t epoch, bool mosaic_on, int64_t first_batch);
  // The next batch; false at the end of the epoch (or before the first begin_epoch()). Rethrows the
  // error of a worker. `batch` gets newly allocated tensors.
  bool next(Batch& batch);
  int64_t batches_per_epoch() const;
  // What is kept in memory, in a line.
  std::string cached() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

// Letterboxed samples [begin, end) of a dataset, in order, on the calling thread: for calibration
// and small evaluations. Images that cannot be decoded are left out (load_sample()).
Batch load_batch(const Dataset& dataset, int64_t begin, int64_t end,
                 const LetterboxOptions& canvas);
// On a square of this size.
Batch load_batch(const Dataset& dataset, int64_t begin, int64_t end, int size, int border = 0);

}  // namespace sextant::data
