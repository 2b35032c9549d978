// SPDX-License-Identifier: Apache-2.0
#include "core/json.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <optional>

#include "core/error.h"

template class nlohmann::basic_json<nlohmann::ordered_map>;

namespace sextant {
namespace {

// Builds the value from the parser's events. nlohmann's own builder has no limit of depth, lets the
// last of two equal keys win and looks through all keys of an object for each new one.
class Builder {
 public:
  using number_integer_t = Json::number_integer_t;
  using number_unsigned_t = Json::number_unsigned_t;
  using number_float_t = Json::number_float_t;
  using string_t = Json::string_t;
  using binary_t = Json::binary_t;

  bool null() { return add(Json(nullptr)); }
  bool boolean(bool v) { return add(Json(v)); }
  bool number_integer(number_integer_t v) { return add(Json(v)); }
  bool number_unsigned(number_unsigned_t v) { return add(Json(v)); }
  bool number_float(number_float_t v, const string_t& /*text*/) { return add(Json(v)); }
  bool string(string_t& v) { return add(Json(std::move(v))); }
  bool binary(binary_t& /*v*/) { return false; }
  bool start_object(size_t /*size*/) { return open(Json::object()); }
  bool start_array(size_t /*size*/) { return open(Json::array()); }
  bool end_array() {
    open_.pop_back();
    return true;
  }
  bool key(string_t& name) {
    object().emplace_back(std::move(name), Json());
    return true;
  }
  bool end_object() {
    std::vector<std::string_view> names;
    for (const auto& member : object()) names.emplace_back(member.first);
    std::ranges::sort(names);
    const auto twice = std::ranges::adjacent_find(names);
    open_.pop_back();
    if (twice == names.end()) return true;
    problem = fmt::format("has the key '{}' twice in one object", *twice);
    return false;
  }
  bool parse_error(size_t byte, const std::string& /*token*/,
                   const nlohmann::detail::exception& e) {
    constexpr int kNumberOverflow = 406;
    at = byte;
    problem = e.id == kNumberOverflow ? "a number is too large" : "not valid JSON";
    is_json = e.id == kNumberOverflow;
    return false;
  }

  Json root;
  std::string problem;
  std::optional<size_t> at;  // bytes read so far
  bool is_json = true;       // the problem is not one of syntax

 private:
  Json::object_t& object() { return open_.back()->get_ref<Json::object_t&>(); }

  // Puts a value where the next one goes, and says where that is. What is open does not move: only
  // the innermost array or object grows.
  Json* place(Json&& value) {
    if (open_.empty()) return &(root = std::move(value));
    if (open_.back()->is_object()) return &(object().back().second = std::move(value));
    auto& array = open_.back()->get_ref<Json::array_t&>();
    return &array.emplace_back(std::move(value));
  }
  bool add(Json&& value) {
    place(std::move(value));
    return true;
  }
  bool open(Json&& value) {
    if (open_.size() == kMaxJsonDepth) {
      problem = fmt::format("is nested more than {} deep", kMaxJsonDepth);
      return false;
    }
    open_.push_back(place(std::move(value)));
    return true;
  }

  std::vector<Json*> open_;
};

[[noreturn]] void fail_parse(const Builder& built, std::string_view text,
                             const std::string& where) {
  if (!built.at) fail("{}: {}", where, built.problem);
  const auto before = text.substr(0, *built.at > 0 ? *built.at - 1 : 0);
  const auto line = std::ranges::count(before, '\n') + 1;
  const size_t line_start =
      before.rfind('\n') == std::string_view::npos ? 0 : before.rfind('\n') + 1;
  fail("{}: line {}, column {}: {}", where, line, before.size() - line_start + 1, built.problem);
}

bool parse(std::string_view text, Builder& builder) {
  return Json::sax_parse(text, &builder, Json::input_format_t::json, /*strict=*/true,
                         /*ignore_comments=*/true);
}

// The double as a T, where T holds it.
template <class T>
bool read_integer(const Json& json, T& value) {
  if (json.is_number_unsigned()) {
    const auto v = json.get<uint64_t>();
    if (v > static_cast<uint64_t>(std::numeric_limits<T>::max())) return false;
    value = static_cast<T>(v);
    return true;
  }
  if (json.is_number_integer()) {
    const auto v = json.get<int64_t>();
    if (!std::in_range<T>(v)) return false;
    value = static_cast<T>(v);
    return true;
  }
  if (!json.is_number_float()) return false;
  // 2^53: beyond it a double stands for more than one integer.
  const auto v = json.get<double>();
  if (std::abs(v) > 9007199254740992.0 || v != std::floor(v)) return false;
  if (!std::in_range<T>(static_cast<int64_t>(v))) return false;
  value = static_cast<T>(v);
  return true;
}

}  // namespace

Json parse_json(std::string_view text, const std::string& where) {
  Builder builder;
  if (!parse(text, builder)) fail_parse(builder, text, where);
  return std::move(builder.root);
}

Json parse_json_or_string(std::string_view text, const std::string& where) {
  Builder builder;
  if (parse(text, builder)) return std::move(builder.root);
  if (builder.is_json) fail_parse(builder, text, where);
  return Json(text);
}

std::string json_text(const Json& json, int indent) {
  return json.dump(indent, ' ', false, Json::error_handler_t::replace);
}

std::string short_json(const Json& json) {
  constexpr size_t kLongest = 100;
  std::string text = json_text(json);
  if (text.size() <= kLongest) return text;
  // Not in the middle of a UTF-8 character.
  size_t end = kLongest - 3;
  while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xC0) == 0x80) --end;
  return text.substr(0, end) + "...";
}

bool read_value(const Json& json, bool& value) {
  if (!json.is_boolean()) return false;
  value = json.get<bool>();
  return true;
}
bool read_value(const Json& json, int& value) { return read_integer(json, value); }
bool read_value(const Json& json, int64_t& value) { return read_integer(json, value); }
bool read_value(const Json& json, uint64_t& value) { return read_integer(json, value); }
bool read_value(const Json& json, double& value) {
  if (!json.is_number()) return false;
  value = json.get<double>();
  return true;
}
bool read_value(const Json& json, float& value) {
  double wide = 0;
  if (!read_value(json, wide) || std::abs(wide) > std::numeric_limits<float>::max()) return false;
  value = static_cast<float>(wide);
  return true;
}
bool read_value(const Json& json, std::string& value) {
  if (!json.is_string()) return false;
  value = json.get<std::string>();
  return true;
}
bool read_value(const Json& json, Json& value) {
  value = json;
  return true;
}

}  // namespace sextant
