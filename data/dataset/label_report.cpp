// SPDX-License-Identifier: Apache-2.0
#include "data/dataset/label_report.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "core/text.h"

namespace sextant::data {

std::string LabelIssue::str() const {
  const std::string place = !is_id && line == 0 ? file
                            : is_id             ? fmt::format("{}: annotation {}", file, line)
                                                : fmt::format("{}:{}", file, line);
  return printable(place + ": " + message);
}

void LabelReport::add(const LabelReport& other) {
  issues_.insert(issues_.end(), other.issues_.begin(), other.issues_.end());
}

int64_t LabelReport::count(const std::string& kind) const {
  return std::ranges::count(issues_, kind, &LabelIssue::kind);
}

std::string LabelReport::summary(int64_t limit) const {
  if (issues_.empty()) return {};
  std::vector<std::pair<std::string, int64_t>> kinds;  // in the order of their first issue
  for (const LabelIssue& issue : issues_) {
    auto at = std::ranges::find(kinds, issue.kind, &std::pair<std::string, int64_t>::first);
    if (at == kinds.end()) at = kinds.insert(kinds.end(), {issue.kind, 0});
    ++at->second;
  }
  std::string text = counted(std::ssize(issues_), "mistake") + ": ";
  for (size_t k = 0; k < kinds.size(); ++k)
    text += fmt::format("{}{} {}", k ? ", " : "", kinds[k].second, kinds[k].first);
  const auto shown = std::min<int64_t>(limit, static_cast<int64_t>(issues_.size()));
  for (int64_t k = 0; k < shown; ++k) text += "\n  " + issues_[static_cast<size_t>(k)].str();
  if (shown < static_cast<int64_t>(issues_.size()))
    text += fmt::format("\n  and {} more", static_cast<int64_t>(issues_.size()) - shown);
  return text;
}

}  // namespace sextant::data
