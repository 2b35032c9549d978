// SPDX-License-Identifier: Apache-2.0
#include "core/file.h"
#include "core/npy.h"
#include "support/support.h"

using namespace sextant;

TEST_CASE("npy: arrays of every rank survive a round trip") {
  const test::TemporaryFolder folder;
  for (const Shape& shape : {Shape{2, 3, 4, 5}, Shape{7}, Shape{1, 3}, Shape{0, 4}}) {
    const Tensor t = test::random_tensor(shape, 3);
    save_npy(folder / "a.npy", t);
    const Tensor back = load_npy(folder / "a.npy");
    CHECK(back.shape() == shape);
    if (t.numel() > 0) CHECK(test::max_difference(back, t) == 0);
    CHECK((std::filesystem::file_size(folder / "a.npy") - static_cast<size_t>(t.bytes())) % 64 ==
          0);
  }
}

TEST_CASE("npy: files of other contents are refused by name") {
  const test::TemporaryFolder folder;
  const auto file = folder / "bad.npy";
  const auto error = [&](const std::string& header, size_t bytes, char version = 1) {
    std::string text("\x93NUMPY", 6);
    text += {version, 0, static_cast<char>(header.size()), 0};
    write_atomically(file, text + header + std::string(bytes, 'x'));
    const std::string message = test::error_of([&] { load_npy(file); });
    CHECK(message.find("bad.npy: ") != std::string::npos);
    return message;
  };
  const std::string good = "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 2), }\n";
  const auto with = [&](const std::string& from, const std::string& to) {
    std::string header = good;
    return header.replace(header.find(from), from.size(), to);
  };
  CHECK(error(good, 15).find("15 bytes") != std::string::npos);
  CHECK(error(with("<f4", "<f8"), 32).find("'<f8'") != std::string::npos);
  CHECK(error(with("False", "True"), 16).find("Fortran") != std::string::npos);
  CHECK(error(with("(2, 2)", "(2, -2)"), 16).find("out of bounds") != std::string::npos);
  CHECK(error(with("(2, 2)", "(99999999999, 99999999999)"), 16).find("out of bounds") !=
        std::string::npos);
  CHECK(error(with("'shape'", "'shade'"), 16).find("no shape") != std::string::npos);
  CHECK(error(good, 16, 9).find("version 9") != std::string::npos);
  write_atomically(file, std::string_view("PK"));
  CHECK(test::error_of([&] { load_npy(file); }).find("is not a .npy file") != std::string::npos);
}
