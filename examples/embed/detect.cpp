// SPDX-License-Identifier: Apache-2.0
// Finds objects in a picture with a deploy file:
//   detect_cpp model.st picture.ppm
#include <sextant/detector.h>

#include <cstdint>
#include <fstream>
#include <iostream>
#include <string>
#include <vector>

namespace {

struct Picture {
  int width = 0, height = 0;
  std::vector<std::uint8_t> rgb;
};

// Binary PPM, the plainest form of a picture: "P6 WIDTH HEIGHT 255", then the pixels.
Picture read_ppm(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::string magic;
  int most = 0;
  Picture p;
  file >> magic >> p.width >> p.height >> most;
  file.get();
  if (!file || magic != "P6" || most != 255 || p.width < 1 || p.height < 1)
    throw sextant::Error(path + ": not a binary PPM file");
  p.rgb.resize(std::size_t{3} * p.width * p.height);
  file.read(reinterpret_cast<char*>(p.rgb.data()), static_cast<std::streamsize>(p.rgb.size()));
  if (!file) throw sextant::Error(path + ": ends before its last pixel");
  return p;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) {
    std::cerr << "usage: detect_cpp MODEL PICTURE.ppm\n";
    return 2;
  }
  try {
    sextant::Detector detector(argv[1]);
    const Picture p = read_ppm(argv[2]);
    for (const sextant::Box& box : detector.detect({p.rgb.data(), p.width, p.height}))
      std::cout << detector.class_name(box.class_id) << ' ' << box.score << ' ' << box.x1 << ' '
                << box.y1 << ' ' << box.x2 << ' ' << box.y2 << '\n';
  } catch (const sextant::Error& e) {
    std::cerr << e.what() << '\n';
    return 2;
  }
  return 0;
}
