// SPDX-License-Identifier: Apache-2.0
// An evaluation as files of a folder, and as part of a page:
//
//   evaluation.json   the figures, as `sextant eval --json` writes them, with "names", "classes"
//                     (precision, recall and F1 of each) and what the caller adds
//   f1.png, pr.png, ...   evaluation_pictures()
#pragma once

#include <filesystem>

#include "apps/reporting/html.h"
#include "data/dataset/dataset.h"
#include "deploy/detect/evaluation.h"

namespace sextant::apps {

void write_evaluation(const std::filesystem::path& folder, const deploy::EvalResult& result,
                      const data::Dataset& dataset, const Json& more = Json::object());

// Charts, photographs and the table of classes of a folder, those that are there. Photographs are
// stored as JPEG in the page. Throws Error naming a file that cannot be read.
HtmlBody evaluation_html(const std::filesystem::path& folder);
// The labels of the training split, where the folder has their picture.
HtmlBody labels_html(const std::filesystem::path& folder);

// "0.5123"; "-" for what was not measured.
std::string figure_text(double v);

}  // namespace sextant::apps
