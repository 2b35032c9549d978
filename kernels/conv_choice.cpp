// SPDX-License-Identifier: Apache-2.0
#include "kernels/conv_choice.h"

#include "core/error.h"

namespace sextant::kernels {
namespace {

ConvLibrary* library = nullptr;

std::string text_of(const ConvShape& s) {
  return fmt::format("{}x{}x{}x{} -> {} {}x{} stride {} pad {}{}", s.n, s.h, s.w, s.ic, s.oc, s.kh,
                     s.kw, s.stride, s.pad,
                     s.groups == 1 ? "" : fmt::format(" groups {}", s.groups));
}

std::string text_of(Activation a) {
  return a == Activation::kIdentity ? "" : fmt::format(" {}", name_of(a));
}

std::string text_of(DType dtype, ConvPrecision precision) {
  return fmt::format("{}{}", name_of(dtype),
                     dtype == DType::kF32 && precision == ConvPrecision::kFma ? " fma" : "");
}

// The pitches and the place of the residual, for both forward convolutions.
template <class P>
std::string text_of_memory(const P& p) {
  const auto pitch = [](const char* name, int64_t value, int64_t channels) {
    return value == 0 || value == channels ? "" : fmt::format(" {} pitch {}", name, value);
  };
  std::string text = pitch("x", p.x_pitch, p.shape.ic) + pitch("y", p.y_pitch, p.shape.oc);
  if (!p.residual) return text;
  return text + (p.epilogue.residual_before_activation ? " residual before" : " residual after") +
         (p.epilogue.residual_scale == 1.0f ? "" : " scaled") +
         pitch("residual", p.residual_pitch, p.shape.oc);
}

}  // namespace

ConvLibrary* conv_library() { return library; }
void set_conv_library(ConvLibrary* l) { library = l; }

std::string conv_key(const ConvForward& p) {
  return fmt::format("forward {} {}{}{}{}{}", text_of(p.dtype, p.precision), text_of(p.shape),
                     p.bias ? " bias" : "", text_of(p.epilogue.activation), text_of_memory(p),
                     p.accumulate ? " accumulate" : "");
}

std::string conv_key(const ConvBackwardData& p) {
  return fmt::format("data {} {}{}{}", text_of(p.dtype, p.precision), text_of(p.shape),
                     p.bias ? " bias" : "", p.accumulate ? " accumulate" : "");
}

std::string conv_key(const ConvBackwardWeight& p) {
  return fmt::format("weight {} {}{}", text_of(p.dtype, p.precision), text_of(p.shape),
                     p.db ? " bias" : "");
}

std::string conv_key(const ConvInt8Forward& p) {
  return fmt::format("int8 {} to {} {}{}{}{}{}", name_of(p.x_type), name_of(p.y_type),
                     text_of(p.shape), p.bias ? " bias" : "", text_of(p.epilogue.activation),
                     p.epilogue.activation_scale == 1.0f ? "" : " scaled", text_of_memory(p));
}

const ConvVerdict* ConvChoices::find(const std::string& key) const {
  const auto found = table_.find(key);
  return found == table_.end() ? nullptr : &found->second;
}

Json ConvChoices::to_json() const {
  Json j = Json::object();
  for (const auto& [key, v] : table_) {
    j[key] = {{"library", v.library}, {"ours_us", v.ours_us}, {"library_us", v.library_us}};
    if (!v.note.empty()) j[key]["note"] = v.note;
  }
  return j;
}

ConvChoices ConvChoices::from_json(const Json& j, const std::string& where) {
  check(j.is_object(), "{}: must be an object of convolutions, not {}", where, j.type_name());
  ConvChoices choices;
  for (const auto& [key, row] : j.items()) {
    const auto number = [&, &name = key, &fields = row](const char* field) {
      check(fields.contains(field) && fields[field].is_number(), "{}: '{}': '{}' is not a number",
            where, name, field);
      return fields[field].get<double>();
    };
    check(row.is_object() && row.contains("library") && row["library"].is_boolean(),
          "{}: '{}': 'library' must be true or false", where, key);
    ConvVerdict v;
    v.library = row["library"].get<bool>();
    v.ours_us = number("ours_us");
    v.library_us = number("library_us");
    if (row.contains("note") && row["note"].is_string()) v.note = row["note"].get<std::string>();
    choices.set(key, std::move(v));
  }
  return choices;
}

}  // namespace sextant::kernels
