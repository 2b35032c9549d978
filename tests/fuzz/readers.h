// SPDX-License-Identifier: Apache-2.0
// The readers of files from outside, each as a function of bytes, for fuzzing and for the corpus of
// what it found.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace sextant::fuzz {

struct Reader {
  std::string name;
  // Reads the bytes. A refusal is fine; anything else that is thrown is a find, and so is a refusal
  // that does not start with the name of the file ("input").
  void (*read)(std::span<const uint8_t> bytes);
};

const std::vector<Reader>& readers();
// nullptr for another name.
const Reader* find_reader(const std::string& name);

// Runs the reader; throws std::logic_error for a find.
void run(const Reader& reader, std::span<const uint8_t> bytes);

// Writes seeds for every reader, files of our own making and of `shared` where it is there, into
// folder/<reader>/.
void write_seeds(const std::string& folder);

}  // namespace sextant::fuzz
