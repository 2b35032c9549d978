// SPDX-License-Identifier: Apache-2.0
// Videos, cameras and streams, read and written with the programs ffmpeg and ffprobe.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>

#include "core/process.h"
#include "data/image/image.h"

namespace sextant::apps {

struct VideoInfo {
  std::string rate = "25";  // frames per second, as ffmpeg writes it ("30000/1001")
  int64_t frames = 0;       // 0: unknown, e.g. for a camera
};

class VideoReader {
 public:
  // Opens a file, a camera ("/dev/video0") or a URL ("rtsp://..."). Throws Error naming it when
  // ffmpeg is not installed or cannot open it.
  explicit VideoReader(const std::string& path);
  // The next frame, turned upright; false at the end. Throws Error if the video ends abruptly.
  bool read(data::Image& frame);
  const VideoInfo& info() const { return info_; }

 private:
  std::string path_;
  VideoInfo info_;
  std::unique_ptr<Process> ffmpeg_;
  int64_t read_ = 0;
};

class VideoWriter {
 public:
  // The file appears when finish() is called. Throws Error if ffmpeg is not installed.
  VideoWriter(const std::filesystem::path& path, const std::string& rate);
  ~VideoWriter();
  // All frames must have one size. Throws Error naming the file when it cannot be written.
  void write(const data::Image& frame);
  void finish();

 private:
  [[noreturn]] void fail_with_last_words();

  std::filesystem::path path_;
  std::filesystem::path part_;
  std::unique_ptr<Process> ffmpeg_;
};

}  // namespace sextant::apps
