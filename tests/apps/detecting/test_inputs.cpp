// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "apps/detecting/encoded_stream.h"
#include "apps/detecting/inputs.h"
#include "core/file.h"
#include "support/support.h"

using namespace sextant;
using namespace sextant::apps;
using sextant::test::Contains;

namespace {

namespace fs = std::filesystem;

data::Image picture(uint8_t value) { return data::make_image(12, 9, value); }

std::vector<std::string> names(const std::vector<Input>& inputs) {
  std::vector<std::string> out;
  for (const Input& i : inputs) out.push_back(fs::path(i.path).filename().string() + "=" + i.stem);
  return out;
}

// a.png, b.jpg, note.md, .hidden.png, sub/a.png, and lists of them.
struct Shots {
  test::TemporaryFolder folder;
  std::string path = folder.path().string();
  Shots() {
    data::save_png(folder / "a.png", picture(10));
    data::save_jpeg(folder / "b.jpg", picture(20));
    data::save_png(folder / ".hidden.png", picture(30));
    data::save_png(folder / "sub" / "a.png", picture(40));
    write_atomically(folder / "note.md", "text");
    write_atomically(folder / "list.txt", "a.png\n\nsub/a.png\n");
    write_atomically(folder / "broken.txt", "a.png\nmissing.png\n");
    write_atomically(folder / "clip.mp4", "");
  }
};

std::vector<uint8_t> joined(const std::vector<fs::path>& files) {
  std::vector<uint8_t> out;
  for (const fs::path& file : files) {
    const auto bytes = read_bytes(file);
    out.insert(out.end(), bytes.begin(), bytes.end());
  }
  return out;
}

// The images in these bytes, as a stream.
std::vector<std::vector<uint8_t>> images_in(const std::vector<uint8_t>& bytes) {
  std::FILE* stream = std::tmpfile();
  REQUIRE(stream != nullptr);
  if (!bytes.empty()) REQUIRE(std::fwrite(bytes.data(), 1, bytes.size(), stream) == bytes.size());
  std::rewind(stream);
  std::vector<std::vector<uint8_t>> images(1);
  try {
    while (read_encoded_image(stream, images.back(), "stream")) images.emplace_back();
  } catch (...) {
    std::fclose(stream);
    throw;
  }
  std::fclose(stream);
  images.pop_back();
  return images;
}

}  // namespace

TEST_CASE("detect inputs: files, folders, globs, lists, videos, and the names of their outputs") {
  const Shots shots;
  const std::string& p = shots.path;
  using List = std::vector<std::string>;
  CHECK(names(expand_inputs({p}, false)) == List{"a.png=a", "b.jpg=b"});
  CHECK(names(expand_inputs({p}, true)) == List{"a.png=a", "b.jpg=b", "a.png=a_2"});
  CHECK(names(expand_inputs({p + "/*.png", p + "/sub/a.png"}, false)) ==
        List{"a.png=a", "a.png=a_2"});
  CHECK(names(expand_inputs({p + "/list.txt"}, false)) == List{"a.png=a", "a.png=a_2"});
  const auto others =
      expand_inputs({p + "/clip.mp4", "rtsp://camera/1", "/dev/video0", "-"}, false);
  CHECK(names(others) == List{"clip.mp4=clip", "1=stream", "video0=video0", "-=stdin"});
  CHECK(std::ranges::count(others, Input::Kind::kVideo, &Input::kind) == 3);

  const auto complaint = [](const std::vector<std::string>& given) {
    return test::error_of([&] { expand_inputs(given, false); });
  };
  CHECK_THAT(complaint({p + "/absent.png"}), Contains("absent.png: no such file or folder"));
  CHECK_THAT(complaint({p + "/*.bmp"}), Contains("*.bmp: matches no files"));
  CHECK_THAT(complaint({p + "/broken.txt"}), Contains("broken.txt:2: ") && Contains("missing.png"));
  CHECK_THAT(complaint({"-", "-"}), Contains("standard input"));
  fs::create_directory(shots.folder / "empty");
  CHECK_THAT(complaint({p + "/empty"}),
             Contains("empty: contains no images") && Contains("--recursive"));
}

TEST_CASE("detect inputs: sizes of raw frames") {
  const RawFrames raw = parse_raw_frames("640x48", "--raw");
  CHECK(raw.width == 640);
  CHECK(raw.height == 48);
  for (const char* bad :
       {"640", "x48", "640x", "0x48", "640x-1", "640x48x", "99999x1", "32768x32768"})
    CHECK_THAT(test::error_of([&] { parse_raw_frames(bad, "--raw"); }),
               Contains(std::string("--raw ") + bad) && Contains("WIDTHxHEIGHT"));
}

TEST_CASE("detect inputs: a source of images names each image, and decodes it later") {
  const Shots shots;
  const auto inputs = expand_inputs({shots.path}, true);
  const auto source = open_source(inputs, std::nullopt);
  CHECK(source->size() == 3);
  CHECK(source->video_rate().empty());
  std::vector<int> values;
  while (auto frame = source->next()) {
    CHECK(frame->number == -1);
    values.push_back(frame->pixels().pixels.at(0));
  }
  REQUIRE(values.size() == 3);
  CHECK(values[0] == 10);
  CHECK(std::abs(values[1] - 20) <= 2);
  CHECK(values[2] == 40);
}

TEST_CASE("encoded stream: concatenated JPEG and PNG images") {
  const Shots shots;
  const fs::path a = shots.folder / "a.png", b = shots.folder / "b.jpg";
  const auto images = images_in(joined({a, b, b, a}));
  REQUIRE(images.size() == 4);
  CHECK(images[0] == read_bytes(a));
  CHECK(images[1] == read_bytes(b));
  CHECK(images[2] == read_bytes(b));
  CHECK(images[3] == read_bytes(a));
  CHECK(images_in({}).empty());

  // Cut at every place but between the images.
  const auto whole = joined({a, b});
  const size_t first = read_bytes(a).size();
  for (size_t cut = 1; cut < whole.size(); ++cut) {
    if (cut == first) continue;
    const std::vector<uint8_t> part(whole.begin(), whole.begin() + static_cast<int64_t>(cut));
    CHECK_THAT(test::error_of([&] { images_in(part); }), Contains("stream: "));
  }
  CHECK_THAT(test::error_of([] {
               images_in({'G', 'I', 'F', '8'});
             }),
             Contains("neither JPEG nor PNG") && Contains("--raw"));
}
