// SPDX-License-Identifier: Apache-2.0
#include "apps/detecting/video.h"

#include <fmt/format.h>

#include <array>
#include <charconv>

#include "core/error.h"

namespace sextant::apps {
namespace {

void require_ffmpeg(const std::string& what) {
  check(has_program("ffmpeg") && has_program("ffprobe"),
        "{}: videos, cameras and streams need the programs ffmpeg and ffprobe, which are not "
        "installed (Debian: apt install ffmpeg)",
        what);
}

bool is_camera(const std::string& path) { return path.starts_with("/dev/"); }

std::vector<std::string> input_words(const std::string& path) {
  if (is_camera(path)) return {"-f", "v4l2", "-i", path};
  return {"-i", path};
}

// For a file "30/1" and "1234"; possibly nothing for a camera or stream, which ffprobe reads only
// briefly.
VideoInfo probe(const std::string& path) {
  std::vector<std::string> words{"ffprobe",
                                 "-v",
                                 "error",
                                 "-select_streams",
                                 "v:0",
                                 "-show_entries",
                                 "stream=avg_frame_rate,nb_frames",
                                 "-of",
                                 "default=noprint_wrappers=1"};
  for (const std::string& word : input_words(path)) words.push_back(word);
  Process ffprobe(words, Process::Pipe::kReadFrom);
  std::string text(4096, '\0');
  text.resize(ffprobe.read({reinterpret_cast<uint8_t*>(text.data()), text.size()}));
  check(ffprobe.finish() == 0, "{}: ffmpeg cannot open it ({})", path, ffprobe.last_words());
  const auto value = [&](const std::string& key) -> std::string {
    const size_t at = text.find(key + "=");
    if (at == std::string::npos) return "";
    const size_t from = at + key.size() + 1;
    return text.substr(from, text.find('\n', from) - from);
  };
  check(text.find("avg_frame_rate=") != std::string::npos, "{}: has no video stream", path);
  VideoInfo info;
  const std::string rate = value("avg_frame_rate"), frames = value("nb_frames");
  if (!rate.empty() && rate[0] != '0' && rate[0] != 'N') info.rate = rate;
  std::from_chars(frames.data(), frames.data() + frames.size(), info.frames);
  return info;
}

// Parses "P6\n1920 1080\n255\n"; false at the end of the stream.
bool read_ppm_header(Process& ffmpeg, int& width, int& height) {
  std::array<int, 3> numbers{};
  std::array<uint8_t, 2> magic{};
  if (ffmpeg.read(magic) < magic.size()) return false;
  uint8_t c = 0;
  for (int& number : numbers) {
    do
      if (ffmpeg.read({&c, 1}) == 0) return false;
    while (c < '0' || c > '9');
    for (; c >= '0' && c <= '9'; number = 10 * number + (c - '0'), ffmpeg.read({&c, 1}))
      if (number > data::kMaxImageSide) return false;
  }
  width = numbers[0];
  height = numbers[1];
  return magic[0] == 'P' && magic[1] == '6' && numbers[2] == 255 && width > 0 && height > 0;
}

}  // namespace

VideoReader::VideoReader(const std::string& path) : path_(path) {
  require_ffmpeg(path);
  if (!is_camera(path)) info_ = probe(path);
  std::vector<std::string> words{"ffmpeg", "-v", "error", "-nostdin"};
  for (const std::string& word : input_words(path)) words.push_back(word);
  for (const char* word : {"-an", "-sn", "-dn", "-f", "image2pipe", "-c:v", "ppm", "-"})
    words.emplace_back(word);
  ffmpeg_ = std::make_unique<Process>(words, Process::Pipe::kReadFrom);
}

bool VideoReader::read(data::Image& frame) {
  int width = 0, height = 0;
  if (!read_ppm_header(*ffmpeg_, width, height)) {
    check(ffmpeg_->finish() == 0, "{}: ffmpeg failed after {} frames ({})", path_, read_,
          ffmpeg_->last_words());
    check(read_ > 0, "{}: has no frames", path_);
    return false;
  }
  frame = data::make_image(width, height);
  check(ffmpeg_->read(frame.pixels) == frame.pixels.size(), "{}: ends within frame {}", path_,
        read_);
  ++read_;
  return true;
}

VideoWriter::VideoWriter(const std::filesystem::path& path, const std::string& rate)
    : path_(path), part_(path) {
  require_ffmpeg(path.string());
  std::filesystem::create_directories(path.parent_path());
  part_.replace_filename(
      fmt::format(".{}.part{}", path.stem().string(), path.extension().string()));
  // Common encoders require even sides.
  ffmpeg_ = std::make_unique<Process>(
      std::vector<std::string>{
          "ffmpeg", "-v", "error", "-y", "-f", "image2pipe", "-c:v", "ppm", "-framerate", rate,
          "-i", "-", "-vf", "pad=ceil(iw/2)*2:ceil(ih/2)*2", "-pix_fmt", "yuv420p", part_.string()},
      Process::Pipe::kWriteTo);
}

VideoWriter::~VideoWriter() {
  if (!ffmpeg_) return;
  ffmpeg_.reset();
  std::error_code ec;
  std::filesystem::remove(part_, ec);
}

void VideoWriter::write(const data::Image& frame) {
  const std::string header = fmt::format("P6\n{} {}\n255\n", frame.width, frame.height);
  if (!ffmpeg_->write({reinterpret_cast<const uint8_t*>(header.data()), header.size()}) ||
      !ffmpeg_->write(frame.pixels))
    fail_with_last_words();
}

void VideoWriter::finish() {
  if (ffmpeg_->finish() != 0) fail_with_last_words();
  ffmpeg_.reset();
  std::filesystem::rename(part_, path_);
}

void VideoWriter::fail_with_last_words() {
  ffmpeg_->finish();
  fail("{}: ffmpeg cannot write it ({})", path_.string(), ffmpeg_->last_words());
}

}  // namespace sextant::apps
