// As much of XML as annotations need: elements and their text.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace sextant::data {

// Text longer than this, or nested deeper, is refused.
inline constexpr size_t kMaxXml = size_t{16} << 20;
inline constexpr size_t kMaxXmlDepth = 64;

struct XmlElement {
  std::string name;
  std::string text;  // its own, entities resolved, without blanks at the ends
  std::vector<XmlElement> children;

  // The first child of that name; nullptr when there is none.
  const XmlElement* find(std::string_view child) const;
};

// The root element. Attributes, comments, processing instructions and a document type are skipped;
// only the five entities of XML itself and numbers are known. Throws Error that starts with `where`
// and the line.
XmlElement parse_xml(std::string_view text, const std::string& where);

}  // namespace sextant::data
