// SPDX-License-Identifier: Apache-2.0
// The subset of XML that annotations need: elements and their text.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace sextant::data {

// Longer or more deeply nested text is refused.
inline constexpr size_t kMaxXml = size_t{16} << 20;
inline constexpr size_t kMaxXmlDepth = 64;

struct XmlElement {
  std::string name;
  std::string text;  // its own text, trimmed, with entities resolved
  std::vector<XmlElement> children;
  int64_t line = 0;  // of its start, from 1

  // The first child of that name, or nullptr.
  const XmlElement* find(std::string_view child) const;
};

// The root element. Attributes, comments, processing instructions and a document type are skipped;
// only the five predefined entities and numeric ones are supported. Throws Error that starts with
// `where` and the line.
XmlElement parse_xml(std::string_view text, const std::string& where);

}  // namespace sextant::data
