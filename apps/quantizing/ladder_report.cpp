// SPDX-License-Identifier: Apache-2.0
#include "apps/quantizing/ladder_report.h"

#include <fmt/format.h>

#include <algorithm>

#include "apps/reporting/html.h"
#include "core/text.h"

namespace sextant::apps {
namespace {

// Points of mAP50-95 lost against the first rung.
double drop(const Ladder& l, const Rung& r) {
  return 100.0 * (l.rungs.front().map50_95 - r.map50_95);
}

double megabytes(const Rung& r) { return static_cast<double>(r.bytes) / 1e6; }

// The difference between engine and simulation; a float engine has no simulation.
std::string agreement(const Rung& r) {
  if (r.values == 0) return "-";
  if (r.differing == 0) return "equal";
  return fmt::format("{} step{}, {:.1e}", r.max_steps, r.max_steps == 1 ? "" : "s",
                     static_cast<double>(r.differing) / static_cast<double>(r.values));
}

constexpr const char* kStyle = R"(
:root { color-scheme: light dark; --ink: #1c1f24; --faint: #6b7280; --line: #d7dbe0; --a: #2563a8; --b: #c2410c; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e8eb; --faint: #9aa2ad; --line: #3a3f46; --a: #6aa9ea; --b: #f08a4b; }
}
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); max-width: 64rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.1rem; margin-top: 2rem; }
p { color: var(--faint); }
.wide { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { text-align: right; padding: .35rem .6rem; border-bottom: 1px solid var(--line); white-space: nowrap; }
th:first-child, td:first-child { text-align: left; }
th { color: var(--faint); font-weight: 500; }
svg { width: 100%; height: auto; } svg text { fill: var(--ink); font: 13px system-ui, sans-serif; }
.faint { fill: var(--faint) !important; } .grid { stroke: var(--line); } .bar { fill: var(--a); } .dot { fill: var(--b); }
)";

// Draws a bar for each rung.
std::string bars(const Ladder& l) {
  constexpr double kLeft = 190, kWidth = 560, kRow = 30;
  double most = 1e-9;
  for (const Rung& r : l.rungs) most = std::max(most, r.map50_95);
  std::string svg = fmt::format(R"(<svg viewBox="0 0 860 {:.0f}" role="img">)",
                                kRow * static_cast<double>(l.rungs.size()) + 8);
  double y = 4;
  for (const Rung& r : l.rungs) {
    const double width = kWidth * std::max(0.0, r.map50_95) / most;
    svg += fmt::format(
        R"(<text x="{:.0f}" y="{:.0f}" text-anchor="end">{}</text>)"
        R"(<rect class="bar" x="{:.0f}" y="{:.0f}" width="{:.1f}" height="{:.0f}" rx="2"/>)"
        R"(<text x="{:.1f}" y="{:.0f}">{:.4f}</text>)",
        kLeft - 10, y + 19, escaped_markup(r.title), kLeft, y + 4, width, kRow - 8,
        kLeft + width + 8, y + 19, r.map50_95);
    y += kRow;
  }
  return svg + "</svg>";
}

struct Span {
  double low = 0, high = 1;
  double at(double v, double from, double to) const {
    return from + (v - low) / (high - low) * (to - from);
  }
};

// The axis from 0 to slightly above the largest value.
Span span_from_zero(const Ladder& l, double Rung::*field) {
  double most = 1e-9;
  for (const Rung& r : l.rungs) most = std::max(most, r.*field);
  return {0, most * 1.1};
}

// Plots accuracy over time, with a dot for each rung.
std::string scatter(const Ladder& l) {
  constexpr double kLeft = 70, kRight = 820, kTop = 20, kBottom = 340;
  const Span x = span_from_zero(l, &Rung::milliseconds), y = span_from_zero(l, &Rung::map50_95);
  std::string svg = R"(<svg viewBox="0 0 860 390" role="img">)";
  for (int i = 0; i <= 5; ++i) {
    const double vx = x.high * i / 5, vy = y.high * i / 5;
    const double px = x.at(vx, kLeft, kRight), py = y.at(vy, kBottom, kTop);
    svg += fmt::format(
        R"(<line class="grid" x1="{0:.1f}" y1="{1}" x2="{0:.1f}" y2="{2}"/>)"
        R"(<text class="faint" x="{0:.1f}" y="{3}" text-anchor="middle">{4:.1f}</text>)",
        px, kTop, kBottom, kBottom + 18, vx);
    svg +=
        fmt::format(R"(<line class="grid" x1="{0}" y1="{1:.1f}" x2="{2}" y2="{1:.1f}"/>)"
                    R"(<text class="faint" x="{3}" y="{4:.1f}" text-anchor="end">{5:.2f}</text>)",
                    kLeft, py, kRight, kLeft - 8, py + 4, vy);
  }
  for (const Rung& r : l.rungs)
    svg += fmt::format(
        R"(<circle class="dot" cx="{:.1f}" cy="{:.1f}" r="5"><title>{}: {:.4f}, {:.2f} ms</title></circle>)",
        x.at(r.milliseconds, kLeft, kRight), y.at(r.map50_95, kBottom, kTop),
        escaped_markup(r.title), r.map50_95, r.milliseconds);
  // Names of close dots are placed below one another, from the top down.
  std::vector<const Rung*> order;
  for (const Rung& r : l.rungs) order.push_back(&r);
  std::ranges::stable_sort(order, std::ranges::greater{}, &Rung::map50_95);
  std::vector<std::pair<double, double>> taken;  // where names start
  for (const Rung* r : order) {
    const double px = x.at(r->milliseconds, kLeft, kRight) + 9;
    double py = y.at(r->map50_95, kBottom, kTop) + 4;
    for (const auto& [tx, ty] : taken)
      if (std::abs(tx - px) < 150 && py < ty + 16) py = ty + 16;
    taken.emplace_back(px, py);
    const bool late = px > kRight - 120;
    svg += fmt::format(R"(<text x="{:.1f}" y="{:.1f}"{}>{}</text>)", late ? px - 18 : px, py,
                       late ? R"( text-anchor="end")" : "", escaped_markup(r->title));
  }
  svg += fmt::format(
      R"(<text class="faint" x="{}" y="382" text-anchor="middle">milliseconds per image</text>)",
      (kLeft + kRight) / 2);
  return svg + "</svg>";
}

std::string html_table(const Ladder& l) {
  std::string t =
      "<div class=\"wide\"><table><thead><tr><th>rung</th><th>mAP50</th><th>mAP50-95</th>"
      "<th>drop</th><th>ms</th><th>speed-up</th><th>MB</th><th>float layers</th>"
      "<th>rescalings</th><th>engine and simulation</th></tr></thead><tbody>\n";
  for (const Rung& r : l.rungs)
    t += fmt::format(
        "<tr><td><a href=\"{}\">{}</a></td><td>{:.4f}</td><td>{:.4f}</td><td>{:.2f}</td>"
        "<td>{:.2f}</td><td>{:.2f}</td><td>{:.2f}</td><td>{} of {}</td><td>{}</td><td>{}</td>"
        "</tr>\n",
        escaped_markup(r.file), escaped_markup(r.title), r.map50, r.map50_95, drop(l, r),
        r.milliseconds, r.speedup, megabytes(r), r.float_layers, r.layers, r.requantizations,
        agreement(r));
  return t + "</tbody></table></div>\n";
}

std::string conditions(const Ladder& l) {
  return fmt::format(
      "Evaluated at {} px on {}; timed at {} px, batch {}, {} threads, all rungs interleaved.",
      l.image_size, l.data, l.bench_image_size, l.bench_batch, l.threads);
}

}  // namespace

std::string ladder_text(const Ladder& l) {
  std::string t = fmt::format("{:<26}{:>8}{:>10}{:>8}{:>10}{:>10}{:>9}{:>14}{:>12}  {}\n", "rung",
                              "mAP50", "mAP50-95", "drop", "ms/image", "speed-up", "MB",
                              "float layers", "rescalings", "engine and simulation");
  for (const Rung& r : l.rungs)
    t += fmt::format("{:<26}{:>8.4f}{:>10.4f}{:>8.2f}{:>10.2f}{:>9.2f}x{:>9.2f}{:>14}{:>12}  {}\n",
                     r.title, r.map50, r.map50_95, drop(l, r), r.milliseconds, r.speedup,
                     megabytes(r), fmt::format("{} of {}", r.float_layers, r.layers),
                     r.requantizations, agreement(r));
  return t + conditions(l) + "\n";
}

Json rung_json(const Rung& r) {
  return {{"name", r.name},
          {"title", r.title},
          {"file", r.file},
          {"map50", r.map50},
          {"map50_95", r.map50_95},
          {"ms", r.milliseconds},
          {"speedup", r.speedup},
          {"bytes", r.bytes},
          {"layers", r.layers},
          {"float_layers", r.float_layers},
          {"requantizations", r.requantizations},
          {"max_steps", r.max_steps},
          {"differing", r.differing},
          {"values", r.values},
          {"seconds", r.seconds}};
}

Rung rung_from_json(const Json& json, const std::string& where) {
  Rung r;
  ConfigReader read(json, where);
  read.require("name", r.name);
  read.require("title", r.title);
  read.require("file", r.file);
  read.require("map50", r.map50);
  read.require("map50_95", r.map50_95);
  read.require("ms", r.milliseconds);
  read.require("speedup", r.speedup);
  read.require("bytes", r.bytes);
  read.require("layers", r.layers);
  read.require("float_layers", r.float_layers);
  read.require("requantizations", r.requantizations);
  read.require("max_steps", r.max_steps);
  read.require("differing", r.differing);
  read.require("values", r.values);
  read.require("seconds", r.seconds);
  return r;
}

Json ladder_json(const Ladder& l) {
  Json rungs = Json::array();
  for (const Rung& r : l.rungs) {
    Json row = rung_json(r);
    row["drop"] = drop(l, r);
    rungs.push_back(std::move(row));
  }
  return {{"model", l.model},
          {"data", l.data},
          {"image_size", l.image_size},
          {"bench", {{"image_size", l.bench_image_size}, {"batch", l.bench_batch}}},
          {"threads", l.threads},
          {"rungs", rungs}};
}

std::string ladder_html(const Ladder& l) {
  return fmt::format(
      "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">"
      "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">"
      "<title>Quantization ladder: {0}</title><style>{1}</style></head><body>\n"
      "<h1>Quantization ladder: {0}</h1>\n<p>{2} A drop is in points of mAP50-95.</p>\n{3}"
      "<h2>mAP50-95</h2>\n{4}\n<h2>Accuracy and speed</h2>\n{5}\n</body></html>\n",
      escaped_markup(l.model), kStyle, escaped_markup(conditions(l)), html_table(l), bars(l),
      scatter(l));
}

}  // namespace sextant::apps
