// SPDX-License-Identifier: Apache-2.0
// The work of a command that several processes may share (core/distributed/session.h).
#pragma once

#include <functional>

#include "apps/cli/version.h"
#include "core/distributed/session.h"

namespace sextant::apps {

inline void run_shared(const std::function<void()>& work) {
  distributed::run_with_others("sextant", version_text("sextant"), work);
}

}  // namespace sextant::apps
