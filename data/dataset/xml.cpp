// SPDX-License-Identifier: Apache-2.0
#include "data/dataset/xml.h"

#include <algorithm>
#include <charconv>

#include "core/error.h"

namespace sextant::data {
namespace {

constexpr std::string_view kXmlSpace = " \t\r\n";

void append_utf8(uint32_t c, std::string& out) {
  const auto put = [&](uint32_t byte) { out += static_cast<char>(byte); };
  if (c < 0x80) return put(c);
  if (c < 0x800) {
    put(0xC0 | c >> 6);
  } else {
    if (c < 0x10000) {
      put(0xE0 | c >> 12);
    } else {
      put(0xF0 | c >> 18);
      put(0x80 | (c >> 12 & 63));
    }
    put(0x80 | (c >> 6 & 63));
  }
  put(0x80 | (c & 63));
}

class Parser {
 public:
  Parser(std::string_view text, const std::string& where)
      : all_(text), left_(text), where_(where), counted_(text.data()) {}

  XmlElement parse() {
    require(all_.size() <= kMaxXml, "is longer than 16 MiB");
    XmlElement top;  // holds the root
    std::vector<XmlElement*> open{&top};
    while (true) {
      const size_t next = std::min(left_.find('<'), left_.size());
      append_text(left_.substr(0, next), open.back()->text);
      left_.remove_prefix(next);
      if (left_.empty()) break;
      if (left_.starts_with("<![CDATA[")) {
        open.back()->text += between("<![CDATA[", "]]>");
      } else if (left_.starts_with("<!--")) {
        between("<!--", "-->");
      } else if (left_.starts_with("<?")) {
        between("<?", "?>");
      } else if (left_.starts_with("<!")) {
        skip_document_type();
      } else if (left_.starts_with("</")) {
        close(between("</", ">"), open);
      } else {
        start(between("<", ">"), open);
      }
    }
    require(open.size() == 1, "the file ends inside <" + open.back()->name + ">");
    require(top.children.size() == 1, "is not an XML file with one root element");
    return std::move(top.children[0]);
  }

 private:
  void require(bool ok, const std::string& problem) const {
    if (ok) return;
    const auto read = all_.substr(0, all_.size() - left_.size());
    fail("{}: line {}: {}", where_, std::ranges::count(read, '\n') + 1, problem);
  }

  // Returns the text between `begin` and `end` and skips all three.
  std::string_view between(std::string_view begin, std::string_view end) {
    const size_t at = left_.find(end, begin.size());
    require(at != std::string_view::npos, fmt::format("'{}' without '{}'", begin, end));
    const auto inner = left_.substr(begin.size(), at - begin.size());
    left_.remove_prefix(at + end.size());
    return inner;
  }

  // <!DOCTYPE name [ ... ]>: entities declared in it are not supported.
  void skip_document_type() {
    const auto head = left_.substr(0, std::min(left_.find('>'), left_.size()));
    if (head.find('[') != std::string_view::npos) between("<", "]");
    between("", ">");
  }

  void start(std::string_view tag, std::vector<XmlElement*>& open) {
    // A '>' inside an attribute value would end the tag early; annotations do not contain one.
    const bool empty = tag.ends_with('/');
    const auto name = tag.substr(0, tag.find_first_of(" \t\r\n/"));
    require(!name.empty(), "an element has no name");
    require(open.size() <= kMaxXmlDepth, fmt::format("is nested more than {} deep", kMaxXmlDepth));
    // Counted on from the last start: counting from the first line each time would take the square.
    line_ += std::count(counted_, tag.data(), '\n');
    counted_ = tag.data();
    open.back()->children.push_back({std::string(name), {}, {}, line_});
    if (!empty) open.push_back(&open.back()->children.back());
  }

  void close(std::string_view tag, std::vector<XmlElement*>& open) {
    const auto name = tag.substr(0, tag.find_last_not_of(kXmlSpace) + 1);
    require(open.size() > 1 && open.back()->name == name,
            fmt::format("</{}> where <{}> is open", name, open.back()->name));
    std::string& text = open.back()->text;
    text.erase(text.find_last_not_of(kXmlSpace) + 1);
    text.erase(0, std::min(text.find_first_not_of(kXmlSpace), text.size()));
    open.pop_back();
  }

  void append_text(std::string_view text, std::string& out) const {
    while (true) {
      const size_t at = std::min(text.find('&'), text.size());
      out += text.substr(0, at);
      if (at == text.size()) return;
      const size_t end = text.find(';', at);
      require(end != std::string_view::npos, "'&' without ';'");
      append_entity(text.substr(at + 1, end - at - 1), out);
      text.remove_prefix(end + 1);
    }
  }

  void append_entity(std::string_view name, std::string& out) const {
    if (name == "lt") return void(out += '<');
    if (name == "gt") return void(out += '>');
    if (name == "amp") return void(out += '&');
    if (name == "quot") return void(out += '"');
    if (name == "apos") return void(out += '\'');
    uint32_t code = 0;
    const bool hex = name.starts_with("#x");
    const auto digits = name.substr(std::min<size_t>(hex ? 2 : 1, name.size()));
    const auto [end, error] =
        std::from_chars(digits.data(), digits.data() + digits.size(), code, hex ? 16 : 10);
    require(name.starts_with('#') && error == std::errc() && end == digits.data() + digits.size() &&
                code > 0 && code < 0x110000 && (code < 0xD800 || code > 0xDFFF),
            fmt::format("unknown entity '&{};'", name));
    append_utf8(code, out);
  }

  std::string_view all_, left_;
  const std::string& where_;
  const char* counted_;  // the start of the last element, on line_
  int64_t line_ = 1;
};

}  // namespace

const XmlElement* XmlElement::find(std::string_view child) const {
  const auto at = std::ranges::find(children, child, &XmlElement::name);
  return at == children.end() ? nullptr : &*at;
}

XmlElement parse_xml(std::string_view text, const std::string& where) {
  return Parser(text, where).parse();
}

}  // namespace sextant::data
