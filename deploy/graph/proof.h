// SPDX-License-Identifier: Apache-2.0
// What a deploy file says of itself, as JSON under __metadata__["sextant_proof"]: programs that do not
// know it read the file all the same.
//   {"version": 1, "of": hash, "golden": [[tensor, hash, hash], ...],
//    "measured": {...}, "calibration": {...}}
#pragma once

#include <array>
#include <optional>
#include <string>
#include <vector>

#include "core/config_fields.h"

namespace sextant::deploy {

struct Proof {
  // A tensor's integers on the two golden images (deploy/engine/selftest.h), hashed.
  struct Golden {
    std::string tensor;
    std::array<std::string, 2> hashes;
  };
  // By `sextant eval --record`.
  struct Measured {
    std::string data;  // "DATA, split val, 364 images", for people
    std::string data_hash;
    std::string precision;
    int64_t image_size = 0;
    double map50 = 0, map50_95 = 0;
    double confidence = 0, f1 = 0;         // where the mean F1 is best
    std::vector<double> class_confidence;  // where each class's is; classes without boxes: as all

    void fields(ConfigFields& f);
  };
  // By `sextant quantize`.
  struct Calibration {
    std::string data, data_hash;
    std::string method;
    int64_t images = 0;

    void fields(ConfigFields& f);
  };

  // In the order of the nodes; empty without integers.
  std::vector<Golden> golden;
  std::optional<Measured> measured;
  std::optional<Calibration> calibration;
  // The hash of the graph and the tensors that it was made for; empty: of the graph as it is now.
  std::string of;
  // The file was changed after its proof was made, of which nothing is left.
  bool stale = false;

  bool empty() const { return golden.empty() && !measured && !calibration; }
};

std::string proof_text(const Proof& proof);
// Throws Error naming `where` and the key.
Proof parse_proof(const std::string& text, const std::string& where);

}  // namespace sextant::deploy
