// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <filesystem>

#include "apps/quantizing/ladder.h"
#include "apps/quantizing/ptq_config.h"

namespace sextant::apps {
namespace {

void check_rungs(const LadderConfig& c, const ConfigReader& r) {
  if (c.rungs.empty() || c.rungs.front() != RungKind::kFp32)
    r.fail_key("rungs", "must start with \"fp32\", which the others are measured against");
  for (const RungKind kind : c.rungs)
    if (std::ranges::count(c.rungs, kind) != 1)
      r.fail_key("rungs", fmt::format("lists '{}' twice", name_of(kind)));
}

}  // namespace

void LadderConfig::fields(ConfigFields& f) {
  f.required_path("model", model);
  f.object("data", [&](ConfigFields& d) { data.fields(d); });
  f("image_size", image_size, 0, 8192);
  f("device", device);
  f("rungs", rungs);
  f.object("ptq", [&](ConfigFields& p) { ptq_fields(p, ptq); });
  if (f.reading()) {
    ptq_plus = ptq;
    ptq_plus.equalize = quant::Equalization::kActivations;
    ptq_plus.bias_correction = true;
    ptq_plus.rounding = quant::Rounding::kAdaRound;
  }
  f.object("ptq_plus", [&](ConfigFields& p) { ptq_fields(p, ptq_plus); });
  f.object("partial", [&](ConfigFields& p) { p("max_drop", max_drop, 0, 100); });
  f.verbatim("qat", qat);
  f.object("bench", [&](ConfigFields& b) {
    b("image_size", bench_image_size, 32, 8192);
    b("batch", bench_batch, 1, 1024);
    b("runs", bench_runs, 1, 100000);
  });
  f("verify_images", verify_images, 1, 1000000);
}

QatConfig LadderConfig::qat_config(RungKind kind) const {
  Json json = qat;
  json["model"] = std::filesystem::absolute(model).string();
  DataConfig absolute = data;
  absolute.path = std::filesystem::absolute(data.path).string();
  json["data"] = fields_to_json(absolute);
  if (!json.contains("device")) json["device"] = std::string(name_of(device));
  if (kind == RungKind::kQat) {  // by the labels alone
    json["distill"] = {{"cwd_weight", 0}, {"logits_weight", 0}};
    json["loss_weight"] = 1.0;
  }
  return parse_qat_config(json, where, "", "qat.");
}

LadderConfig parse_ladder_config(const Json& json, const std::string& where,
                                 const std::string& folder) {
  LadderConfig c;
  c.where = where;
  ConfigReader r(json, where, "", folder);
  read_fields(r, c);
  check_rungs(c, r);
  for (const char* key : {"model", "data", "image_size", "start", "calibration"})
    if (c.qat.contains(key)) r.fail_key(std::string("qat.") + key, "is set by the ladder");
  c.qat_config(RungKind::kQat);  // mistakes are reported now, not hours later
  c.qat_config(RungKind::kQatCwd);
  r.finish();
  return c;
}

}  // namespace sextant::apps
