// SPDX-License-Identifier: Apache-2.0
// The files of a folder of shared fixtures, each claimed by one kind of test through the start of
// its name, so that another set of files with other sizes runs unchanged and no file is left out.
#pragma once

#include <algorithm>
#include <string>
#include <vector>

#include "support/fixtures.h"

namespace sextant::test {

struct FixtureFolder {
  std::string name;
  std::vector<const char*> kinds;  // starts of file names, special ones before general ones
};

inline const FixtureFolder kLossFixtures = {
    "losses",
    {"varifocal_", "iouloss_xywh", "iouloss_", "bboxloss_", "df_loss", "compute_loss_",
     "distill_parts", "distill_ns_", "distill_", "fuseab_"}};
inline const FixtureFolder kAssignerFixtures = {"assigners",
                                                {"anchors_", "box_geometry", "tal_", "atss_"}};

// The kind that claims the fixture ("losses/df_loss"); empty for none.
inline std::string kind_of(const FixtureFolder& folder, const std::string& fixture_name) {
  const std::string file = fixture_name.substr(fixture_name.find('/') + 1);
  for (const char* kind : folder.kinds)
    if (file.starts_with(kind)) return kind;
  return {};
}

// The fixtures of one kind. Skips the running test when the folder is absent; fails when it is
// there, but without a file of this kind.
inline std::vector<std::string> fixtures_of(const FixtureFolder& folder, const std::string& kind) {
  REQUIRE(std::find(folder.kinds.begin(), folder.kinds.end(), kind) != folder.kinds.end());
  const std::vector<std::string> all = fixture_names(folder.name + "/");
  std::vector<std::string> names;
  for (const std::string& name : all)
    if (kind_of(folder, name) == kind) names.push_back(name);
  if (names.empty() && !all.empty()) FAIL("no fixture " << folder.name << "/" << kind << "*");
  return names;
}

// Fixtures that no kind claims. Skips the running test when the folder is absent.
inline std::vector<std::string> unclaimed_fixtures(const FixtureFolder& folder) {
  std::vector<std::string> names = fixture_names(folder.name + "/");
  std::erase_if(names, [&](const std::string& name) { return !kind_of(folder, name).empty(); });
  return names;
}

}  // namespace sextant::test
