// SPDX-License-Identifier: Apache-2.0
#include "apps/detecting/inputs.h"

#include <glob.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdio>
#include <filesystem>
#include <set>

#include "apps/detecting/encoded_stream.h"
#include "apps/detecting/video.h"
#include "core/error.h"
#include "core/file.h"
#include "core/text.h"
#include "data/dataset/description.h"
#include "data/dataset/folder.h"

namespace sextant::apps {
namespace {

namespace fs = std::filesystem;
using Kind = Input::Kind;

bool is_video_name(const fs::path& path) {
  const std::string extension = lower_ascii(path.extension().string());
  constexpr std::array<std::string_view, 12> kExtensions{".mp4", ".avi",  ".mov", ".mkv",
                                                         ".m4v", ".webm", ".mpg", ".mpeg",
                                                         ".wmv", ".ts",   ".flv", ".gif"};
  return std::ranges::find(kExtensions, extension) != kExtensions.end();
}

Input file_input(const std::string& path) {
  return {is_video_name(path) ? Kind::kVideo : Kind::kImage, path, ""};
}

void add_folder(const std::string& folder, bool recursive, std::vector<Input>& out) {
  const auto files = data::files_under(folder, [&](const fs::path& file) {
    return data::is_image_name(file) && (recursive || file.parent_path() == fs::path(folder));
  });
  check(!files.empty(), "{}: contains no images{}", folder,
        recursive ? "" : "; --recursive also searches its subfolders");
  for (const std::string& file : files) out.push_back({Kind::kImage, file, ""});
}

void add_list(const fs::path& list, std::vector<Input>& out) {
  const auto lines = data::list_lines(read_text(list));
  check(!lines.empty(), "{}: the list is empty", list.string());
  for (const auto& [number, line] : lines) {
    const fs::path image = data::listed_file(list, line);
    check(file_exists(image), "{}:{}: {} does not exist", list.string(), number, image.string());
    out.push_back(file_input(image.string()));
  }
}

bool add_glob(const std::string& pattern, std::vector<Input>& out) {
  if (pattern.find_first_of("*?[") == std::string::npos) return false;
  glob_t found{};
  const int status = ::glob(pattern.c_str(), 0, nullptr, &found);
  for (size_t i = 0; status == 0 && i < found.gl_pathc; ++i)
    if (!is_folder(found.gl_pathv[i])) out.push_back(file_input(found.gl_pathv[i]));
  ::globfree(&found);
  check(status == 0, "{}: matches no files", pattern);
  return true;
}

// "stdin_000012", for a frame without a file.
std::string frame_stem(const std::string& stem, int64_t number) {
  return fmt::format("{}_{:06}", stem, number);
}

class ImageFiles : public FrameSource {
 public:
  explicit ImageFiles(std::span<const Input> images) : images_(images) {}
  std::optional<Frame> next() override {
    if (next_ == images_.size()) return std::nullopt;
    const Input& image = images_[next_++];
    return Frame{image.path, image.stem, -1, [&image] { return data::load_image(image.path); }};
  }
  int64_t size() const override { return std::ssize(images_); }

 private:
  std::span<const Input> images_;
  size_t next_ = 0;
};

// Concatenated encoded images, e.g. from `cat *.jpg` or a camera's MJPEG.
class EncodedInput : public FrameSource {
 public:
  explicit EncodedInput(std::string stem) : stem_(std::move(stem)) {}
  std::optional<Frame> next() override {
    auto bytes = std::make_shared<std::vector<uint8_t>>();
    if (!read_encoded_image(stdin, *bytes, "standard input")) return std::nullopt;
    const int64_t number = count_++;
    return Frame{"-", frame_stem(stem_, number), number, [bytes, number] {
                   return data::decode_image(*bytes,
                                             fmt::format("standard input, image {}", number));
                 }};
  }
  int64_t size() const override { return 0; }

 private:
  std::string stem_;
  int64_t count_ = 0;
};

class RawInput : public FrameSource {
 public:
  RawInput(std::string stem, const RawFrames& raw) : stem_(std::move(stem)), raw_(raw) {}
  std::optional<Frame> next() override {
    auto image = std::make_shared<data::Image>(data::make_image(raw_.width, raw_.height));
    const size_t got = std::fread(image->pixels.data(), 1, image->pixels.size(), stdin);
    if (got == 0) return std::nullopt;
    check(got == image->pixels.size(),
          "standard input: ends within frame {}: a frame of {}x{} has {} bytes, but {} were left",
          count_, raw_.width, raw_.height, image->pixels.size(), got);
    const int64_t number = count_++;
    return Frame{"-", frame_stem(stem_, number), number, [image] { return std::move(*image); }};
  }
  int64_t size() const override { return 0; }

 private:
  std::string stem_;
  RawFrames raw_;
  int64_t count_ = 0;
};

class VideoInput : public FrameSource {
 public:
  explicit VideoInput(const Input& input) : input_(input), reader_(input.path) {}
  std::optional<Frame> next() override {
    auto image = std::make_shared<data::Image>();
    if (!reader_.read(*image)) return std::nullopt;
    const int64_t number = count_++;
    return Frame{input_.path, frame_stem(input_.stem, number), number,
                 [image] { return std::move(*image); }};
  }
  int64_t size() const override { return reader_.info().frames; }
  std::string video_rate() const override { return reader_.info().rate; }

 private:
  const Input& input_;
  VideoReader reader_;
  int64_t count_ = 0;
};

void name_stems(std::vector<Input>& inputs) {
  std::set<std::string> taken;
  for (Input& input : inputs) {
    std::string stem = fs::path(input.path).stem().string();
    if (input.kind == Kind::kStandardInput) stem = "stdin";
    if (input.path.find("://") != std::string::npos) stem = "stream";
    input.stem = stem;
    for (int k = 2; !taken.insert(input.stem).second; ++k)
      input.stem = fmt::format("{}_{}", stem, k);
  }
}

}  // namespace

RawFrames parse_raw_frames(const std::string& text, const std::string& option) {
  RawFrames raw;
  const size_t x = text.find('x');
  const auto number = [&](size_t from, size_t to, int& out) {
    const char* end = text.data() + to;
    const auto [stop, error] = std::from_chars(text.data() + from, end, out);
    return error == std::errc() && stop == end && out > 0 && out <= data::kMaxImageSide;
  };
  check(x != std::string::npos && number(0, x, raw.width) &&
            number(x + 1, text.size(), raw.height) &&
            int64_t{raw.width} * raw.height <= data::kMaxImagePixels,
        "{} {}: must be WIDTHxHEIGHT in pixels, for example 1280x720", option, text);
  return raw;
}

std::vector<Input> expand_inputs(const std::vector<std::string>& given, bool recursive) {
  std::vector<Input> out;
  for (const std::string& input : given) {
    std::error_code ec;
    if (input == "-") {
      out.push_back({Kind::kStandardInput, "-", ""});
    } else if (input.find("://") != std::string::npos || input.starts_with("/dev/video")) {
      out.push_back({Kind::kVideo, input, ""});
    } else if (fs::is_directory(input, ec)) {
      add_folder(input, recursive, out);
    } else if (fs::exists(input, ec)) {
      if (fs::path(input).extension() == ".txt")
        add_list(input, out);
      else
        out.push_back(file_input(input));
    } else {
      check(add_glob(input, out), "{}: no such file or folder", input);
    }
  }
  check(std::ranges::count(out, Kind::kStandardInput, &Input::kind) <= 1,
        "-: standard input can be given only once");
  name_stems(out);
  return out;
}

std::unique_ptr<FrameSource> open_source(std::span<const Input> inputs,
                                         const std::optional<RawFrames>& raw) {
  const Input& first = inputs.front();
  switch (first.kind) {
    case Kind::kVideo:
      return std::make_unique<VideoInput>(first);
    case Kind::kStandardInput:
      if (raw) return std::make_unique<RawInput>(first.stem, *raw);
      return std::make_unique<EncodedInput>(first.stem);
    case Kind::kImage:
      break;
  }
  return std::make_unique<ImageFiles>(inputs);
}

}  // namespace sextant::apps
