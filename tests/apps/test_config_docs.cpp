// SPDX-License-Identifier: Apache-2.0
// The tables of config keys in docs/ list exactly the existing keys, with the program's defaults.
#include <map>
#include <sstream>

#include "apps/quantizing/ladder.h"
#include "core/file.h"
#include "support/support.h"

namespace {

using namespace sextant;
using namespace sextant::apps;

std::vector<std::string> split(const std::string& text, const std::string& by) {
  std::vector<std::string> parts;
  size_t begin = 0;
  for (size_t end = 0; end != std::string::npos; begin = end + by.size()) {
    end = text.find(by, begin);
    parts.push_back(text.substr(begin, end - begin));
  }
  return parts;
}

std::string without(std::string text, char c) {
  std::erase(text, c);
  return text;
}

using Defaults = std::map<std::string, Json>;  // null: in words

// "`a.b`, `c`" is a.b and a.c. Defaults are JSON where as many values are given as keys.
Defaults documented(const std::string& file) {
  Defaults keys;
  std::istringstream lines(read_text(std::filesystem::path(SEXTANT_SOURCE_DIR) / "docs" / file));
  std::string line;
  bool table = false;
  while (std::getline(lines, line)) {
    if (line.starts_with("| key ")) table = true;
    if (!line.starts_with("|")) table = false;
    if (!table || !line.starts_with("| `")) continue;
    const std::vector<std::string> cells = split(line, " | ");
    REQUIRE(cells.size() >= 2);
    const std::vector<std::string> names = split(without(cells[0].substr(2), '`'), ", ");
    const Json values = Json::parse("[" + without(cells[1], '`') + "]", nullptr, false);
    const std::string prefix = names[0].substr(0, names[0].rfind('.') + 1);
    for (size_t i = 0; i < names.size(); ++i) {
      const bool short_name = names[i].find('.') == std::string::npos;
      const std::string key = short_name ? prefix + names[i] : names[i];
      CAPTURE(file, key);
      CHECK_FALSE(keys.contains(key));
      keys[key] = !values.is_discarded() && values.size() == names.size() ? values[i] : Json();
    }
  }
  return keys;
}

void flatten(const Json& json, const std::string& prefix, Defaults& keys) {
  for (const auto& [key, value] : json.items())
    if (value.is_object() && !value.empty())
      flatten(value, prefix + key + ".", keys);
    else
      keys[prefix + key] = value;
}

// `words`: how many keys may have a default in words.
void check_documented(const std::string& file, const Json& config, int words) {
  CAPTURE(file);
  const Defaults docs = documented(file);
  Defaults keys;
  flatten(config, "", keys);
  // "`a.*`" stands for all keys below a.
  const auto all_below = [&](const std::string& key) {
    for (size_t end = key.size(); end != std::string::npos && end > 0;
         end = key.rfind('.', end - 1))
      if (docs.contains(key.substr(0, end) + ".*")) return true;
    return false;
  };
  int in_words = 0;
  for (const auto& [key, value] : keys) {
    CAPTURE(key, value.dump());
    const auto documented = docs.find(key);
    CHECK((documented != docs.end() || all_below(key)));
    if (documented == docs.end() || documented->second.is_null())
      ++in_words;
    else
      CHECK(documented->second == value);
  }
  CHECK(in_words <= words);
  for (const auto& [key, value] : docs) {
    CAPTURE(key);
    CHECK((keys.contains(key) || key.ends_with(".*")));
  }
}

}  // namespace

TEST_CASE("docs/config.md has every key of a training config, with its default") {
  Json config = fields_to_json(TrainConfig{}, true);
  config["model"] = fields_to_json(Yolov6Config{}, true);
  config["loss"] = fields_to_json(LossConfig{}, true);
  check_documented("config.md", config, 22);
}

TEST_CASE("docs/qat.md has every key of a QAT config, with its default") {
  check_documented("qat.md", fields_to_json(QatConfig{}, true), 20);
}

TEST_CASE("docs/ladder.md has every key of a ladder's config, with its default") {
  check_documented("ladder.md", fields_to_json(LadderConfig{}, true), 15);
}

TEST_CASE("the recipes of YOLOv6Lite are valid configs, without distillation") {
  for (const char* name : {"coco_yolov6lite.json", "coco_yolov6lite_finetune.json"}) {
    CAPTURE(name);
    const auto path = std::filesystem::path(SEXTANT_SOURCE_DIR) / "configs" / name;
    Json json = load_json(path);
    for (const char* type : {"yolov6lite_s", "yolov6lite_m", "yolov6lite_l"}) {
      json["model"]["type"] = type;
      const TrainConfig c = parse_train_config(json, name, path.parent_path());
      CHECK(c.image_size == 416);  // a multiple of 32, not of 64
    }
    json["image_size"] = 400;
    CHECK(test::error_of([&] { parse_train_config(json, name, path.parent_path()); }) ==
          std::string(name) + ": 'image_size' is 400, must be a multiple of 32");
    json["image_size"] = 416;
    json["teacher"] = "teacher.safetensors";
    CHECK(test::error_of([&] { parse_train_config(json, name, path.parent_path()); }) ==
          std::string(name) +
              ": 'teacher' is given, but YOLOv6Lite is trained without distillation");
  }
}
