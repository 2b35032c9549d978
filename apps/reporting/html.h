// SPDX-License-Identifier: Apache-2.0
// Pages in one file: HTML with its style and pictures inside, which needs nothing from elsewhere.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace sextant::apps {

// RFC 4648, with padding.
std::string base64(std::span<const uint8_t> bytes);

// Functions that append return the page's body so far in one piece; every text is escaped by them.
class HtmlBody {
 public:
  void heading(const std::string& text);
  void paragraph(const std::string& text);
  // Short facts side by side, each a value over its name.
  struct Fact {
    std::string name, value;
  };
  void facts(const std::vector<Fact>& facts);
  // The first column is text, the others are numbers. A row may be shorter than the header.
  void table(const std::vector<std::string>& header,
             const std::vector<std::vector<std::string>>& rows);
  // Pictures that share a row where the window is wide enough; `wide` ones have their own.
  struct Figure {
    std::string mime;  // "image/png"
    std::vector<uint8_t> bytes;
    std::string caption;
    bool wide = false;
  };
  void figures(const std::vector<Figure>& figures, bool small = false);
  // Text as it is, shown once it is opened.
  void folded(const std::string& title, const std::string& text);
  // Another body, shown once it is opened.
  void folded(const std::string& title, const HtmlBody& inside);
  void append(const HtmlBody& other) { text_ += other.text_; }

  const std::string& text() const { return text_; }
  bool empty() const { return text_.empty(); }

 private:
  std::string text_;
};

// The whole page.
std::string html_page(const std::string& title, const HtmlBody& body);

}  // namespace sextant::apps
