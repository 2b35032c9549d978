// SPDX-License-Identifier: Apache-2.0
// Sextant's C++ interface: load a deploy file, give pixels, get boxes.
//
//   sextant::Detector detector("model.st", {.threads = 4});
//   for (const sextant::Box& box : detector.detect({pixels, width, height}))
//     std::cout << detector.class_name(box.class_id) << ' ' << box.score << '\n';
//
// Header only, over the C interface: a program need not be compiled by the compiler, nor against the
// standard library, that built libsextant. C++17 and later; C++20 for the designated initializers
// above. What sextant.h says of threads holds here too.
#pragma once

#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "sextant/sextant.h"

namespace sextant {
// The engine itself has a sextant::Error of its own, which does not leave the library.
inline namespace api {

// Everything that fails throws this; what() is one line that names the file, option or argument.
class Error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

enum class Pixels {
  kRgb = SEXTANT_RGB,
  kBgr = SEXTANT_BGR,
  kRgba = SEXTANT_RGBA,
  kBgra = SEXTANT_BGRA,
  kGrey = SEXTANT_GREY,
};

// Pixels that somebody else owns: 8 bits, interleaved, rows from the top, `stride` bytes apart (0:
// without a gap).
struct ImageView {
  const void* pixels = nullptr;
  int width = 0;
  int height = 0;
  Pixels format = Pixels::kRgb;
  int64_t stride = 0;
};

// x1 y1 x2 y2 in pixels of the image, score, class_id.
using Box = sextant_box;

struct DetectorOptions {
  std::string device = "auto";  // a CUDA device where there is one; "cpu"; "cuda"
  std::string precision =
      "auto";                // int8 for a quantized file, else fp32; or fp32, fp16, int8, integer
  int image_size = 0;        // side of the square that the network sees; 0: as trained
  int threads = 0;           // of the CPU, for one call; 0: all
  int max_boxes = 300;       // of an image
  bool multi_label = false;  // every class of a box above min_score, not only its best
  float min_score = 0.4f;
  float max_iou = 0.45f;  // of two boxes of a class: above it the lesser one is dropped
};

class Detector {
 public:
  // Throws Error when the file is not a deploy file or damaged, for options out of range and for a
  // device that cannot be used.
  explicit Detector(const std::string& path, const DetectorOptions& options = {})
      : max_boxes_(options.max_boxes) {
    sextant_options o;
    sextant_default_options(&o, sizeof(o));
    o.device = options.device.c_str();
    o.precision = options.precision.c_str();
    o.image_size = options.image_size;
    o.threads = options.threads;
    o.max_boxes = options.max_boxes;
    o.multi_label = options.multi_label;
    o.min_score = options.min_score;
    o.max_iou = options.max_iou;
    sextant_detector* opened = nullptr;
    check(sextant_open(path.c_str(), &o, &opened));
    handle_.reset(opened);
  }

  // Boxes in pixels of the image, best first.
  std::vector<Box> detect(const ImageView& image) {
    return std::move(detect(std::vector<ImageView>{image}).front());
  }

  // The same for images of any sizes and formats, one list of boxes each.
  std::vector<std::vector<Box>> detect(const std::vector<ImageView>& images) {
    std::vector<sextant_image> list;
    list.reserve(images.size());
    for (const ImageView& i : images)
      list.push_back({i.pixels, i.width, i.height, i.stride, static_cast<int32_t>(i.format)});
    const auto capacity = static_cast<size_t>(max_boxes_);
    std::vector<Box> boxes(list.size() * capacity);
    std::vector<int64_t> found(list.size());
    check(sextant_detect_batch(handle_.get(), list.data(), static_cast<int64_t>(list.size()),
                               boxes.data(), max_boxes_, found.data()));
    std::vector<std::vector<Box>> out;
    out.reserve(list.size());
    for (size_t i = 0; i < list.size(); ++i) {
      const Box* first = boxes.data() + i * capacity;
      out.emplace_back(first, first + found[i]);
    }
    return out;
  }

  int class_count() const { return sextant_class_count(handle_.get()); }
  // Throws Error for a class that the model does not have.
  std::string class_name(int class_id) const {
    const char* name = sextant_class_name(handle_.get(), class_id);
    if (name == nullptr)
      throw Error("class " + std::to_string(class_id) + ": the model has " +
                  std::to_string(class_count()) + " classes");
    return name;
  }
  int image_size() const { return sextant_image_size(handle_.get()); }
  // "cpu", or the name of the GPU.
  std::string device_name() const { return sextant_device_name(handle_.get()); }
  std::string precision() const { return sextant_precision(handle_.get()); }

 private:
  static void check(int status) {
    if (status != SEXTANT_OK) throw Error(sextant_last_error());
  }

  struct Close {
    void operator()(sextant_detector* d) const { sextant_close(d); }
  };
  std::unique_ptr<sextant_detector, Close> handle_;
  int max_boxes_;
};

}  // namespace api
}  // namespace sextant
