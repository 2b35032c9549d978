// SPDX-License-Identifier: Apache-2.0
// The keys of a config, each spelt once: one function reads them from JSON, with their bounds, and
// writes the config as resolved, in the order of the calls.
//
//   void SolverConfig::fields(ConfigFields& f) {
//     f("schedule", schedule);  // an enum, by its names
//     f("lr0", lr0, 0, 10);
//     f.object("average", [&](ConfigFields& a) { a("decay", ema_decay, 0, 1); });
//   }
//
//   read_fields(reader, config);       // an absent key leaves its value
//   Json resolved = fields_to_json(config);
//   Json reference = fields_to_json(SolverConfig{}, true);  // every key, with its default
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "core/config.h"

namespace sextant {

class ConfigFields {
 public:
  explicit ConfigFields(ConfigReader& reader) : reader_(&reader) {}
  // Writes into `json`; with `every_key` also what applies() would leave out.
  explicit ConfigFields(Json& json, bool every_key = false) : json_(&json), every_key_(every_key) {}

  bool reading() const { return reader_ != nullptr; }
  // Whether the JSON that is read has the key; false when writing.
  bool given(const std::string& key) const { return reading() && reader_->has(key); }

  template <class T>
  requires(!NamedEnum<T>) void operator()(const std::string& key, T& value) {
    if (reading())
      reader_->get(key, value);
    else
      (*json_)[key] = value;
  }
  template <NamedEnum E>
  void operator()(const std::string& key, E& value, std::initializer_list<E> allowed = {}) {
    if (reading())
      reader_->get(key, value, allowed);
    else
      (*json_)[key] = std::string(name_of(value));
  }
  template <NamedEnum E>
  void operator()(const std::string& key, std::vector<E>& values) {
    if (reading()) return reader_->get(key, values);
    Json names = Json::array();
    for (const E value : values) names.push_back(std::string(name_of(value)));
    (*json_)[key] = std::move(names);
  }
  // A number with bounds, both included.
  template <class T>
  void operator()(const std::string& key, T& value, double low, double high) {
    if (reading())
      reader_->number(key, value, low, high);
    else
      (*json_)[key] = value;
  }
  // Height and width: a number, then of both and `width` is 0, or a list of the two; each in [low, high].
  void sides(const std::string& key, int& height, int& width, double low, double high);
  template <class T>
  void required(const std::string& key, T& value) {
    require(key);
    (*this)(key, value);
  }
  // A string out of `names`; `what` is the noun for the message.
  void name(const std::string& key, std::string& value, std::string_view what,
            const std::vector<std::string>& names);
  // A file or folder, read as relative to the config's, written as absolute: so what is written can be
  // read from everywhere.
  void path(const std::string& key, std::string& value);
  void required_path(const std::string& key, std::string& value) {
    require(key);
    path(key, value);
  }
  // An object whose keys somebody else reads.
  void verbatim(const std::string& key, Json& object);
  // members(ConfigFields&) has the keys of the object under `key`; unknown ones are refused.
  template <class F>
  void object(const std::string& key, const F& members) {
    if (reading()) {
      ConfigReader child = reader_->child(key);
      ConfigFields f(child);
      members(f);
      child.finish();
    } else {
      Json child = Json::object();
      ConfigFields f(child, every_key_);
      members(f);
      (*json_)[key] = std::move(child);
    }
  }

  // Whether a key that only means something under `condition` is to be visited. Where it means
  // nothing it is not written, and refused when it is given: "<file>: '<key>' <why>".
  bool applies(bool condition, const std::string& key, const std::string& why) const {
    check(condition || !given(key), key, why);
    return condition || every_key_;
  }
  // Throws Error "<file>: '<key>' <why>" when reading, unless `ok`.
  void check(bool ok, const std::string& key, const std::string& why) const {
    if (reading() && !ok) reader_->fail_key(key, why);
  }

 private:
  void require(const std::string& key) const { check(given(key), key, "is missing"); }

  ConfigReader* reader_ = nullptr;
  Json* json_ = nullptr;
  bool every_key_ = false;
};

template <class Config>
void read_fields(ConfigReader& reader, Config& config) {
  ConfigFields f(reader);
  config.fields(f);
}

template <class Config>
Json fields_to_json(Config config, bool every_key = false) {
  Json json = Json::object();
  ConfigFields f(json, every_key);
  config.fields(f);
  return json;
}

}  // namespace sextant
