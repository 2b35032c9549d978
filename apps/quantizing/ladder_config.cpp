#include <algorithm>
#include <array>
#include <filesystem>

#include "apps/quantizing/ladder.h"
#include "apps/quantizing/ptq_config.h"

namespace sextant::apps {
namespace {

constexpr std::array kRungs = {"fp32", "naive", "ptq", "ptq_plus", "partial", "qat", "qat_cwd"};

void check_rungs(const LadderConfig& c, const std::string& where) {
  check(!c.rungs.empty() && c.rungs.front() == "fp32",
        "{}: 'rungs' must start with \"fp32\", which the others are measured against", where);
  for (const auto& r : c.rungs) {
    check(std::ranges::find(kRungs, r) != kRungs.end(),
          "{}: 'rungs' has '{}', must be of: fp32, naive, ptq, ptq_plus, partial, qat, qat_cwd",
          where, r);
    check(std::ranges::count(c.rungs, r) == 1, "{}: 'rungs' has '{}' twice", where, r);
  }
}

}  // namespace

Json LadderConfig::json() const {
  return {
      {"model", model},
      {"data",
       {{"path", data.path},
        {"train", data.train},
        {"val", data.val},
        {"on_error", data.on_error}}},
      {"image_size", image_size},
      {"device", device},
      {"rungs", rungs},
      {"ptq", ptq_json(ptq)},
      {"ptq_plus", ptq_json(ptq_plus)},
      {"partial", {{"max_drop", max_drop}}},
      {"qat", qat},
      {"bench", {{"image_size", bench_image_size}, {"batch", bench_batch}, {"runs", bench_runs}}},
      {"verify_images", verify_images}};
}

LadderConfig load_ladder_config(const std::string& path,
                                const std::vector<std::string>& overrides) {
  Json json = load_json(path);
  for (const auto& o : overrides) apply_override(json, o);
  const std::string folder = std::filesystem::path(path).parent_path().string();
  LadderConfig c;
  ConfigReader r(json, path);
  r.require("model", c.model);
  c.model = beside(folder, c.model);
  ConfigReader d = r.child("data");
  d.require("path", c.data.path);
  c.data.path = beside(folder, c.data.path);
  d.get("train", c.data.train);
  d.get("val", c.data.val);
  d.choice("on_error", c.data.on_error, {"skip", "stop"});
  d.finish();
  r.number("image_size", c.image_size, 0, 8192);
  r.choice("device", c.device, {"auto", "cpu", "cuda"});
  r.get("rungs", c.rungs);
  check_rungs(c, path);
  ConfigReader ptq = r.child("ptq");
  read_ptq_config(ptq, c.ptq);
  ptq.finish();
  c.ptq_plus = c.ptq;
  c.ptq_plus.equalize = "activations";
  c.ptq_plus.bias_correction = true;
  c.ptq_plus.rounding = "adaround";
  ConfigReader plus = r.child("ptq_plus");
  read_ptq_config(plus, c.ptq_plus);
  plus.finish();
  ConfigReader partial = r.child("partial");
  partial.number("max_drop", c.max_drop, 0, 100);
  partial.finish();
  ConfigReader qat = r.child("qat");
  c.qat = qat.json();
  for (const char* key : {"model", "data", "image_size", "start", "calibration"})
    check(!c.qat.contains(key), "{}: 'qat.{}' is the ladder's own", path, key);
  ConfigReader bench = r.child("bench");
  bench.number("image_size", c.bench_image_size, 32, 8192);
  bench.number("batch", c.bench_batch, 1, 1024);
  bench.number("runs", c.bench_runs, 1, 100000);
  bench.finish();
  r.number("verify_images", c.verify_images, 1, 1000000);
  r.finish();
  return c;
}

}  // namespace sextant::apps
