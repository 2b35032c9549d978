// SPDX-License-Identifier: Apache-2.0
// Pages about training runs, made from the files in their folders: config.json, results.csv,
// evaluation.json and pictures.
#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "core/json.h"

namespace sextant::apps {

// The columns of results.csv by name; NaN for an empty cell.
using ResultColumns = std::map<std::string, std::vector<double>>;
// Throws Error naming file and line for rows of another length than the header, and for what is not
// a number.
ResultColumns read_results(const std::filesystem::path& file);

struct RunFiles {
  std::filesystem::path folder;
  std::string name;  // of the folder
  Json config;
  ResultColumns results;
  Json evaluation;  // null where there is none

  // The row with the highest mAP50-95; -1: none was evaluated.
  int64_t best_row() const;
  // NaN where the column or the row is missing.
  double value(const std::string& column, int64_t row) const;
};
// Throws Error naming the folder where it holds no run.
RunFiles read_run(const std::filesystem::path& folder);

// <folder>/report.html: results, curves, evaluation, labels, config.
void write_run_report(const std::filesystem::path& folder);

// Several runs: results and the keys in which their configs differ as text, and as a page with their
// curves in common charts. Names are those of the folders, numbered where two are equal.
std::string comparison_text(const std::vector<RunFiles>& runs);
std::string comparison_page(const std::vector<RunFiles>& runs);

}  // namespace sextant::apps
