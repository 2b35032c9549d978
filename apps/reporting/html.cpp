// SPDX-License-Identifier: Apache-2.0
#include "apps/reporting/html.h"

#include <fmt/format.h>

#include "core/text.h"

namespace sextant::apps {
namespace {

constexpr const char* kPageStyle = R"(
:root { --ink: #23262d; --faint: #6e737d; --line: #e2e5ea; --paper: #fff; --card: #f6f7f9; }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 2rem 1.5rem 4rem; max-width: 1240px; color: var(--ink); background: var(--paper);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
h1 { font-size: 1.7rem; margin: 0 0 .3rem; } h2 { font-size: 1.2rem; margin: 2.4rem 0 .6rem; }
p { margin: .3rem 0 .8rem; color: var(--faint); max-width: 75ch; }
.facts { display: flex; flex-wrap: wrap; gap: .6rem; margin: 1rem 0; }
.facts div { background: var(--card); border-radius: 8px; padding: .55rem .9rem; min-width: 7rem; }
.facts b { display: block; font-size: 1.15rem; font-variant-numeric: tabular-nums; }
.facts span { color: var(--faint); font-size: .85rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; min-width: 30rem; }
th, td { padding: .3rem .9rem .3rem 0; text-align: right; border-bottom: 1px solid var(--line); white-space: nowrap; }
th:first-child, td:first-child { text-align: left; }
th { color: var(--faint); font-weight: 500; }
.figures { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 30rem), 1fr)); gap: 1.2rem; }
.small { grid-template-columns: repeat(auto-fill, minmax(15rem, 1fr)); }
figcaption { overflow-wrap: anywhere; }
figure { margin: 0; } figure.own { grid-column: 1 / -1; }
figure img { width: 100%; height: auto; display: block; border: 1px solid var(--line); border-radius: 6px; }
figcaption { color: var(--faint); font-size: .9rem; margin-top: .35rem; }
details { margin: 1.2rem 0; } summary { cursor: pointer; font-weight: 600; }
pre { background: var(--card); padding: 1rem; border-radius: 8px; overflow-x: auto; font-size: 13px; }
@media print { body { max-width: none; } figure { break-inside: avoid; } }
)";

}  // namespace

std::string base64(std::span<const uint8_t> bytes) {
  constexpr char kDigits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string out;
  out.reserve((bytes.size() + 2) / 3 * 4);
  for (size_t i = 0; i < bytes.size(); i += 3) {
    uint32_t v = 0;
    for (size_t k = 0; k < 3; ++k) v = v << 8 | (i + k < bytes.size() ? bytes[i + k] : 0u);
    for (size_t k = 0; k < 4; ++k)
      out += i + k <= bytes.size() ? kDigits[v >> (18 - 6 * k) & 63] : '=';
  }
  return out;
}

void HtmlBody::heading(const std::string& text) {
  text_ += fmt::format("<h2>{}</h2>\n", escaped_markup(text));
}

void HtmlBody::paragraph(const std::string& text) {
  text_ += fmt::format("<p>{}</p>\n", escaped_markup(text));
}

void HtmlBody::facts(const std::vector<Fact>& facts) {
  text_ += "<div class=\"facts\">";
  for (const Fact& f : facts)
    text_ += fmt::format("<div><b>{}</b><span>{}</span></div>", escaped_markup(f.value),
                         escaped_markup(f.name));
  text_ += "</div>\n";
}

void HtmlBody::table(const std::vector<std::string>& header,
                     const std::vector<std::vector<std::string>>& rows) {
  text_ += "<div class=\"wide\"><table><thead><tr>";
  for (const auto& cell : header) text_ += fmt::format("<th>{}</th>", escaped_markup(cell));
  text_ += "</tr></thead><tbody>\n";
  for (const auto& row : rows) {
    text_ += "<tr>";
    for (const auto& cell : row) text_ += fmt::format("<td>{}</td>", escaped_markup(cell));
    text_ += "</tr>\n";
  }
  text_ += "</tbody></table></div>\n";
}

void HtmlBody::figures(const std::vector<Figure>& figures, bool small) {
  text_ += fmt::format("<div class=\"figures{}\">\n", small ? " small" : "");
  for (const Figure& f : figures)
    text_ += fmt::format(
        "<figure{0}><img alt=\"{1}\" src=\"data:{2};base64,{3}\">"
        "<figcaption>{1}</figcaption></figure>\n",
        f.wide ? " class=\"own\"" : "", escaped_markup(f.caption), f.mime, base64(f.bytes));
  text_ += "</div>\n";
}

void HtmlBody::folded(const std::string& title, const std::string& text) {
  text_ += fmt::format("<details><summary>{}</summary><pre>{}</pre></details>\n",
                       escaped_markup(title), escaped_markup(text));
}

void HtmlBody::folded(const std::string& title, const HtmlBody& inside) {
  text_ += fmt::format("<details><summary>{}</summary>{}</details>\n", escaped_markup(title),
                       inside.text());
}

std::string html_page(const std::string& title, const HtmlBody& body) {
  return fmt::format(
      "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">"
      "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">"
      "<title>{0}</title><style>{1}</style></head>\n<body><h1>{0}</h1>\n{2}</body></html>\n",
      escaped_markup(title), kPageStyle, body.text());
}

}  // namespace sextant::apps
