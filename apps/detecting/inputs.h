// SPDX-License-Identifier: Apache-2.0
// Turns the inputs of `detect` into a sequence of pictures.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "data/image/image.h"

namespace sextant::apps {

struct Input {
  // kVideo: anything ffmpeg reads: a file, a camera (/dev/video0) or a stream (rtsp://...).
  enum class Kind { kImage, kVideo, kStandardInput };
  Kind kind = Kind::kImage;
  std::string path;
  // The stem of its output files: "cat" for cat.jpg, "cat_2" for another cat.jpg.
  std::string stem;
};

// Raw frames from a camera program: RGB, 8 bits.
struct RawFrames {
  int width = 0;
  int height = 0;
};
// Parses "640x480". Throws Error naming the option.
RawFrames parse_raw_frames(const std::string& text, const std::string& option);

// Accepts image files; folders of images, with subfolders if `recursive`; quoted globs
// ("shots/*.jpg"); lists of images (.txt, one path per line, relative to the list's folder or the
// current one); videos, cameras and streams; "-" for standard input. Throws Error naming an input
// that does not exist or contains no images.
std::vector<Input> expand_inputs(const std::vector<std::string>& given, bool recursive);

// One input picture.
struct Frame {
  std::string name;                     // the file, camera or stream, as given
  std::string stem;                     // the stem of its output files
  int64_t number = -1;                  // in a video or on standard input, from 0; -1: a file
  std::function<data::Image()> pixels;  // decodes; called once, on any thread
};

class FrameSource {
 public:
  virtual ~FrameSource() = default;
  // The next picture; empty at the end.
  virtual std::optional<Frame> next() = 0;
  // The number of pictures; 0 if unknown.
  virtual int64_t size() const = 0;
  // The frame rate for the annotated video; empty if it is not a video.
  virtual std::string video_rate() const { return ""; }
};

// Images, or a single input of another kind. Throws Error when a video cannot be opened.
std::unique_ptr<FrameSource> open_source(std::span<const Input> inputs,
                                         const std::optional<RawFrames>& raw);

}  // namespace sextant::apps
