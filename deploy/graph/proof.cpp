// SPDX-License-Identifier: Apache-2.0
#include "deploy/graph/proof.h"

#include "core/config.h"
#include "core/json.h"

namespace sextant::deploy {
namespace {

constexpr int64_t kVersion = 1;
constexpr size_t kMaxGolden = 65536, kMaxClasses = 100000;

bool is_hash(const std::string& text) {
  return text.size() == 16 && text.find_first_not_of("0123456789abcdef") == std::string::npos;
}

}  // namespace

void Proof::Measured::fields(ConfigFields& f) {
  f.required("data", data);
  f.required("data_hash", data_hash);
  f.required("precision", precision);
  f("image_size", image_size, 0, 1 << 16);
  f("map50", map50, 0, 1);
  f("map50_95", map50_95, 0, 1);
  f("confidence", confidence, 0, 1);
  f("f1", f1, 0, 1);
  f("class_confidence", class_confidence);
}

void Proof::Calibration::fields(ConfigFields& f) {
  f.required("data", data);
  f.required("data_hash", data_hash);
  f.required("method", method);
  f("images", images, 0, 1e9);
}

std::string proof_text(const Proof& proof) {
  Json j = {{"version", kVersion}, {"of", proof.of}};
  if (!proof.golden.empty()) {
    j["golden"] = Json::array();
    for (const Proof::Golden& g : proof.golden)
      j["golden"].push_back({g.tensor, g.hashes[0], g.hashes[1]});
  }
  if (proof.measured) j["measured"] = fields_to_json(*proof.measured);
  if (proof.calibration) j["calibration"] = fields_to_json(*proof.calibration);
  return json_text(j);
}

Proof parse_proof(const std::string& text, const std::string& where) {
  ConfigReader r(parse_json(text, where), where);
  Proof proof;
  int64_t version = 0;
  r.require("version", version);
  // A later one may say anything: what this program cannot read is as if it were not there.
  if (version > kVersion) return {};
  r.require("of", proof.of);
  check(is_hash(proof.of), "{}: 'of' must be 16 hexadecimal digits", where);
  std::vector<std::vector<std::string>> golden;
  r.get("golden", golden);
  check(golden.size() <= kMaxGolden, "{}: 'golden' has {} entries, the most are {}", where,
        golden.size(), kMaxGolden);
  for (const auto& g : golden) {
    check(g.size() == 3 && is_hash(g[1]) && is_hash(g[2]),
          "{}: an entry of 'golden' must be a tensor and two hashes of 16 hexadecimal digits",
          where);
    proof.golden.push_back({g[0], {g[1], g[2]}});
  }
  if (r.has("measured")) {
    ConfigReader measured = r.child("measured");
    read_fields(measured, proof.measured.emplace());
    measured.finish();
    const std::vector<double>& each = proof.measured->class_confidence;
    check(each.size() <= kMaxClasses, "{}: 'measured.class_confidence' has {} numbers", where,
          each.size());
    for (const double c : each)
      check(c >= 0 && c <= 1, "{}: 'measured.class_confidence' has {}, must be in [0, 1]", where,
            c);
  }
  if (r.has("calibration")) {
    ConfigReader calibration = r.child("calibration");
    read_fields(calibration, proof.calibration.emplace());
    calibration.finish();
  }
  r.finish();
  return proof;
}

}  // namespace sextant::deploy
