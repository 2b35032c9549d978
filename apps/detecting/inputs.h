// What `detect` is given on the command line -> pictures, one after the other.
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
  // kVideo: whatever ffmpeg reads, a file, a camera (/dev/video0) or a stream (rtsp://...).
  enum class Kind { kImage, kVideo, kStandardInput };
  Kind kind = Kind::kImage;
  std::string path;
  // What the files written for it are called, "cat" for cat.jpg and "cat_2" for another cat.jpg.
  std::string stem;
};

// Frames of pixels as a camera program writes them: RGB, 8 bits.
struct RawFrames {
  int width = 0;
  int height = 0;
};
// Of "640x480". Throws Error naming the option.
RawFrames parse_raw_frames(const std::string& text, const std::string& option);

// Image files; folders of images, with the folders in them where `recursive`; quoted globs
// ("shots/*.jpg"); lists of images (.txt, a path a line, from the list's folder or the current one);
// videos, cameras and streams; "-" for standard input. Throws Error naming the one that is not there
// or has no image.
std::vector<Input> expand_inputs(const std::vector<std::string>& given, bool recursive);

// One picture to look at.
struct Frame {
  std::string name;     // of the file, camera or stream, as given
  std::string stem;     // of the files written for it
  int64_t number = -1;  // in a video or on standard input, from 0; -1: a file of its own
  std::function<data::Image()> pixels;  // decodes; called once, on any thread
};

class FrameSource {
 public:
  virtual ~FrameSource() = default;
  // The next one; nothing at the end.
  virtual std::optional<Frame> next() = 0;
  // How many there are; 0 where that is not known.
  virtual int64_t size() const = 0;
  // Frames a second, for the video of the annotated frames; empty where it is not a video.
  virtual std::string video_rate() const { return ""; }
};

// Images, or a single input of another kind. Throws Error when a video cannot be opened.
std::unique_ptr<FrameSource> open_source(std::span<const Input> inputs,
                                         const std::optional<RawFrames>& raw);

}  // namespace sextant::apps
