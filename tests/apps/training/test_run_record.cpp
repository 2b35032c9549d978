// SPDX-License-Identifier: Apache-2.0
// What a run writes about itself.
#include <bit>
#include <cmath>
#include <fstream>
#include <map>

#include "apps/reporting/run_report.h"
#include "apps/training/event_file.h"
#include "apps/training/run_record.h"
#include "apps/training/tiny_run.h"
#include "apps/training/trainer.h"
#include "core/file.h"
#include "data/image/image.h"
#include "support/support.h"

using namespace sextant;
using namespace sextant::apps;

namespace {

uint64_t integer(std::string_view bytes, size_t n) {
  uint64_t v = 0;
  for (size_t i = 0; i < n; ++i) v |= uint64_t{static_cast<uint8_t>(bytes.at(i))} << (8 * i);
  return v;
}

uint64_t take_varint(std::string_view& bytes) {
  uint64_t v = 0;
  for (int shift = 0;; shift += 7) {
    const auto b = static_cast<uint8_t>(bytes.at(0));
    bytes.remove_prefix(1);
    v |= uint64_t{b & 0x7fu} << shift;
    if (b < 0x80) return v;
  }
}

// The fields of a message: numbers as their bits, texts as they are.
struct Field {
  uint64_t number = 0, bits = 0;
  std::string bytes;
};
std::vector<Field> fields_of_message(std::string_view bytes) {
  std::vector<Field> out;
  while (!bytes.empty()) {
    const uint64_t key = take_varint(bytes);
    Field f{key >> 3, 0, {}};
    size_t n = 0;
    switch (key & 7) {
      case 0:
        f.bits = take_varint(bytes);
        break;
      case 1:
        f.bits = integer(bytes, n = 8);
        break;
      case 5:
        f.bits = integer(bytes, n = 4);
        break;
      default:
        REQUIRE((key & 7) == 2);
        n = take_varint(bytes);
        f.bytes = bytes.substr(0, n);
    }
    bytes.remove_prefix(n);
    out.push_back(f);
  }
  return out;
}

// The bytes of each record, whose sums have to be right.
std::vector<std::string> records_of(std::string_view file) {
  std::vector<std::string> out;
  while (!file.empty()) {
    const uint64_t n = integer(file, 8);
    CHECK(integer(file.substr(8), 4) == masked_crc32c(file.substr(0, 8)));
    const std::string_view body = file.substr(12, n);
    CHECK(integer(file.substr(12 + n), 4) == masked_crc32c(body));
    out.emplace_back(body);
    file.remove_prefix(16 + n);
  }
  return out;
}

struct Event {
  double wall_time = 0;
  int64_t step = 0;
  std::string version;
  std::map<std::string, float> scalars;
};
std::vector<Event> events_of(std::string_view file) {
  std::vector<Event> out;
  for (const auto& record : records_of(file)) {
    Event e;
    for (const Field& f : fields_of_message(record)) {
      if (f.number == 1) e.wall_time = std::bit_cast<double>(f.bits);
      if (f.number == 2) e.step = static_cast<int64_t>(f.bits);
      if (f.number == 3) e.version = f.bytes;
      if (f.number != 5) continue;
      for (const Field& value : fields_of_message(f.bytes)) {
        const auto parts = fields_of_message(value.bytes);
        REQUIRE(parts.size() == 2);
        e.scalars[parts[0].bytes] = std::bit_cast<float>(static_cast<uint32_t>(parts[1].bits));
      }
    }
    out.push_back(e);
  }
  return out;
}

}  // namespace

TEST_CASE("CRC-32C of the vectors of RFC 3720") {
  CHECK(crc32c("123456789") == 0xe3069283u);
  CHECK(crc32c(std::string(32, '\0')) == 0x8a9136aau);
  CHECK(crc32c(std::string(32, '\xff')) == 0x62a8ab43u);
  std::string rising;
  for (char c = 0; c < 32; ++c) rising += c;
  CHECK(crc32c(rising) == 0x46dd794eu);
  CHECK(crc32c("") == 0);
}

TEST_CASE("a TFRecord is length, bytes, and a masked sum of each") {
  // The record of "foo": masked sums as TensorFlow writes them follow from the definition.
  const std::string record = tf_record("foo");
  REQUIRE(record.size() == 8 + 4 + 3 + 4);
  CHECK(integer(record, 8) == 3);
  CHECK(record.substr(12, 3) == "foo");
  const uint32_t plain = crc32c("foo");
  CHECK(plain == 0xcfc4ae1du);
  CHECK(integer(record.substr(15), 4) == ((plain >> 15 | plain << 17) + 0xa282ead8u));
}

TEST_CASE("events hold times, steps and scalars") {
  const std::string file =
      version_event(1.5) + scalar_event(2.5, 300, {{"train/loss", 0.25}, {"lr/pg0", 1e-3}});
  const auto events = events_of(file);
  REQUIRE(events.size() == 2);
  CHECK(events[0].version == "brain.Event:2");
  CHECK(events[0].wall_time == 1.5);
  CHECK(events[1].step == 300);
  CHECK(events[1].wall_time == 2.5);
  CHECK(events[1].scalars ==
        std::map<std::string, float>{{"train/loss", 0.25f}, {"lr/pg0", 1e-3f}});
}

TEST_CASE("results.csv starts with Ultralytics' columns, and leaves cells empty") {
  EpochRow start, row;
  start.map50 = 0.5;
  start.map50_95 = 0.25;
  row.epoch = 1;
  row.lr = 0.01;
  row.lr_bias = 0.1;
  row.lr_norm = 0.02;
  row.loss_iou = 1;
  row.loss_cls = 2;
  row.seconds = 4;
  row.images = 10;
  const std::string text = results_text({start, row});
  CHECK(text.starts_with(
      "epoch,time,train/box_loss,train/cls_loss,train/dfl_loss,metrics/precision(B),"
      "metrics/recall(B),metrics/mAP50(B),metrics/mAP50-95(B),val/box_loss,val/cls_loss,"
      "val/dfl_loss,lr/pg0,lr/pg1,lr/pg2,"));
  const test::TemporaryFolder folder;
  write_atomically(folder / "results.csv", text);
  const ResultColumns read = read_results(folder / "results.csv");
  CHECK(std::isnan(read.at("train/box_loss")[0]));
  CHECK(read.at("metrics/mAP50(B)")[0] == 0.5);
  CHECK(std::isnan(read.at("metrics/mAP50(B)")[1]));
  CHECK(std::isnan(read.at("val/loss")[1]));
  CHECK(read.at("lr/pg0")[1] == 0.1);
  CHECK(read.at("lr/pg1")[1] == 0.01);
  CHECK(read.at("lr/pg2")[1] == 0.02);
  CHECK(read.at("train/loss")[1] == 3);
  CHECK(read.at("time")[1] == 4);
  CHECK(read.at("images_per_second")[1] == 2.5);
  CHECK(rows_from_json(rows_to_json({start, row}), "test").at(1).lr_norm == 0.02);
  CHECK(results_text(rows_from_json(rows_to_json({start, row}), "test")) == text);
  write_atomically(folder / "results.csv", "epoch,x\n1,2\n1\n");
  CHECK(test::error_of([&] {
          read_results(folder / "results.csv");
        }).ends_with("results.csv:3: has 1 cells, the header has 2"));
}

TEST_CASE("a run leaves a log, events, pictures and a page that needs nothing from elsewhere") {
  const test::TemporaryFolder folder;
  test::make_shapes(folder / "data");
  const TrainConfig config = test::tiny_config(folder / "data");
  train(config, folder / "run", false, 2);
  train(config, folder / "run", true);  // the log goes on
  const auto read = [&](const char* name) { return read_text(folder / "run" / name); };
  const ResultColumns columns = read_results(folder / "run" / "results.csv");
  REQUIRE(columns.at("epoch") == std::vector<double>{1, 2, 3});
  CHECK(std::isnan(columns.at("val/loss")[0]));
  CHECK(columns.at("val/loss")[1] > 0);
  CHECK(columns.at("images_per_second")[0] > 0);

  std::istringstream lines(read("log.jsonl"));
  std::string line;
  std::vector<Json> log;
  while (std::getline(lines, line)) log.push_back(parse_json(line, "log"));
  REQUIRE(log.size() == 3);
  CHECK_FALSE(log[0].contains("val/loss"));
  const auto bytes = read_bytes(folder / "run" / "events.out.tfevents.sextant");
  const auto events = events_of({reinterpret_cast<const char*>(bytes.data()), bytes.size()});
  REQUIRE(events.size() == 4);
  for (size_t i = 0; i < 3; ++i) {
    CHECK(log[i].at("epoch") == i + 1);
    CHECK(events[i + 1].step == static_cast<int64_t>(i) + 1);
    for (const auto& [name, value] : events[i + 1].scalars) {
      CAPTURE(name);
      CHECK(value == Approx(log[i].at(name).get<double>()));
      CHECK(columns.at(name)[i] == Approx(log[i].at(name).get<double>()).margin(0.01));
    }
  }
  for (const char* name :
       {"loss.png", "map.png", "labels.png", "f1.png", "pr.png", "precision.png", "recall.png",
        "confusion.png", "confusion_shares.png", "val.png", "worst.png", "best.png"}) {
    CAPTURE(name);
    CHECK(data::load_image(folder / "run" / name).width >= 400);
  }
  CHECK(load_json(folder / "run" / "evaluation.json").at("classes").size() > 0);

  const std::string page = read("report.html");
  CHECK(page.starts_with("<!doctype html>"));
  size_t pictures = 0;
  for (size_t at = page.find("src=\""); at != std::string::npos; at = page.find("src=\"", at + 1)) {
    CHECK(page.compare(at + 5, 11, "data:image/") == 0);
    ++pictures;
  }
  CHECK(pictures == 13);
  for (const char* outside : {"http:", "https:", "href=", "<link", "<script", "url("})
    CHECK(page.find(outside) == std::string::npos);

  // Two runs beside each other.
  TrainConfig other = config;
  other.seed = 8;
  other.epochs = 1;
  train(other, folder / "other", false);
  const std::vector<RunFiles> runs = {read_run(folder / "run"), read_run(folder / "other")};
  const std::string text = comparison_text(runs);
  CHECK(text.find("\nseed ") != std::string::npos);
  CHECK(text.find("solver.lr0") == std::string::npos);
  const std::string both = comparison_page(runs);
  CHECK(both.find("<summary>other</summary>") != std::string::npos);
  CHECK(both.find("<td>seed</td><td>7</td><td>8</td>") != std::string::npos);
  CHECK(test::error_of([&] {
          read_run(folder / "data");
        }).ends_with("holds no run: it has no results.csv"));
}
