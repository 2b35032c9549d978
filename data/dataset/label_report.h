// SPDX-License-Identifier: Apache-2.0
// The mistakes in a dataset, each once, with file and line.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace sextant::data {

struct LabelIssue {
  std::string file;     // label file, annotation JSON or image
  int64_t line = 0;     // from 1; in a COCO JSON the annotation's id; 0: the file as a whole
  bool is_id = false;   // `line` is an annotation id
  std::string kind;     // "class", "outside", "size", "number", "columns", "duplicate", "image",
                        // "annotation"
  std::string message;  // "class 7 is outside 0..2"

  std::string str() const;  // "labels/train/a.txt:3: class 7 is outside 0..2", in one line
};

class LabelReport {
 public:
  void add(LabelIssue issue) { issues_.push_back(std::move(issue)); }
  void add(const LabelReport& other);
  const std::vector<LabelIssue>& issues() const { return issues_; }
  bool empty() const { return issues_.empty(); }
  int64_t count(const std::string& kind) const;
  // "12 mistakes: 9 class, 3 outside" and the first `limit` issues, one per line; "" when empty.
  std::string summary(int64_t limit = 10) const;

 private:
  std::vector<LabelIssue> issues_;
};

}  // namespace sextant::data
