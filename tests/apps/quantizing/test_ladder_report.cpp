// SPDX-License-Identifier: Apache-2.0
// The ladder's report, and the refusals of its config.
#include "apps/quantizing/ladder.h"
#include "core/file.h"
#include "support/support.h"

namespace {

using namespace sextant;
using namespace sextant::apps;
using test::contains;

Ladder two_rungs() {
  Rung a;
  a.name = "fp32";
  a.title = "fp32";
  a.file = "fp32.safetensors";
  a.map50 = 0.8;
  a.map50_95 = 0.5;
  a.milliseconds = 40;
  a.speedup = 1;
  a.bytes = 17200000;
  a.layers = a.float_layers = 70;
  Rung b = a;
  b.name = "ptq";
  b.title = "PTQ <64 images>";
  b.file = "ptq.safetensors";
  b.map50_95 = 0.4875;
  b.milliseconds = 10;
  b.speedup = 4;
  b.bytes = 4400000;
  b.float_layers = 3;
  b.max_steps = 1;
  b.differing = 5;
  b.values = 1000;
  b.seconds = 12.5;
  return {"model.safetensors", "bccd", 320, 640, 1, 2, {a, b}};
}

}  // namespace

TEST_CASE("a ladder as text, JSON and HTML") {
  const Ladder l = two_rungs();
  const std::string text = ladder_text(l);
  CHECK(contains(text, "1.25"));     // points lost
  CHECK(contains(text, "3 of 70"));  // float layers
  CHECK(contains(text, "4.00x"));    // times as fast
  CHECK(contains(text, "1 step, 5.0e-03"));
  const Json j = ladder_json(l);
  REQUIRE(j.at("rungs").size() == 2);
  CHECK(j.at("rungs")[1].at("drop").get<double>() == Approx(1.25));
  CHECK(j.at("bench").at("image_size") == 640);
  const std::string html = ladder_html(l);
  CHECK(contains(html, "PTQ &lt;64 images&gt;"));
  CHECK_FALSE(contains(html, "<64 images>"));
  CHECK(contains(html, "href=\"ptq.safetensors\""));
  CHECK_FALSE(contains(html, "http"));  // nothing from outside
  CHECK(contains(html, "0.4875"));
}

TEST_CASE("a rung survives the round trip through JSON") {
  const Rung r = two_rungs().rungs[1];
  const Rung back = rung_from_json(rung_json(r), "x.json");
  CHECK(rung_json(back) == rung_json(r));
  CHECK(contains(test::error_of([] { rung_from_json(Json::object(), "x.json"); }), "x.json: "));
  CHECK(contains(test::error_of([] { rung_from_json(Json::array({1}), "x.json"); }), "x.json: "));
}

TEST_CASE("a ladder's config: defaults and refusals") {
  const test::TemporaryFolder folder;
  const auto load = [&](const std::string& text) {
    return parse_ladder_config(Json::parse(text), "c.json", folder.path().string());
  };
  const auto error = [&](const std::string& text) { return test::error_of([&] { load(text); }); };
  const LadderConfig c = load(R"({"model": "m.safetensors", "data": {"path": "d"},
                                  "ptq": {"method": "mse"}, "partial": {"max_drop": 0.5}})");
  CHECK(c.model == (folder / "m.safetensors").string());
  CHECK(c.ptq.method == quant::Method::kMse);
  CHECK(c.ptq.rounding == quant::Rounding::kNearest);
  CHECK(c.ptq_plus.method == quant::Method::kMse);  // on top of "ptq"
  CHECK(c.ptq_plus.rounding == quant::Rounding::kAdaRound);
  CHECK(c.max_drop == 0.5);
  CHECK(c.rungs.size() == 7);
  const std::string start = R"({"model": "m", "data": {"path": "d"}, )";
  CHECK(contains(error(R"({"data": {"path": "d"}})"), "'model' is missing"));
  CHECK(contains(error(R"({"model": "m"})"), "'data.path' is missing"));
  CHECK(contains(error(start + R"("rungs": ["ptq"]})"), "must start with \"fp32\""));
  CHECK(contains(error(start + R"("rungs": ["fp32", "int4"]})"),
                 "c.json: 'rungs': unknown rung 'int4'; use fp32, naive, ptq"));
  CHECK(contains(error(start + R"("rungs": ["fp32", "ptq", "ptq"]})"), "twice"));
  CHECK(contains(error(start + R"("qat": {"image_size": 3}})"), "'qat.image_size'"));
  CHECK(error(start + R"("qat": {"epoch": 3}})") ==
        "c.json: unknown key 'qat.epoch'; nearest is 'qat.epochs'");
  CHECK(c.qat_config(RungKind::kQat).distill.cwd_weight == 0);
  CHECK(c.qat_config(RungKind::kQatCwd).distill.cwd_weight == 1);
  CHECK(contains(error(start + R"("ptq": {"methud": "max"}})"), "method"));
  CHECK(contains(error(start + R"("ptq_plus": {"rounding": "up"}})"), "rounding"));
}
