// SPDX-License-Identifier: Apache-2.0
// Catch 2 declares its listeners only where this is defined before its header.
#define CATCH_CONFIG_EXTERNAL_INTERFACES

#include <cstdio>
#include <string>

#include "support/support.h"

namespace sextant::test {
namespace {

std::string skipped;  // why the running test is; empty: it is not

#if CATCH_MAJOR == 2
using Listener = Catch::TestEventListenerBase;
#else
using Listener = Catch::EventListenerBase;
#endif

// Tells ctest, by the line that tests/CMakeLists.txt has it look for. A failure counts for more.
class SkipListener : public Listener {
 public:
  using Listener::Listener;
  void testCaseStarting(const Catch::TestCaseInfo&) override { skipped.clear(); }
  void testCaseEnded(const Catch::TestCaseStats& stats) override {
    if (!skipped.empty() && stats.totals.assertions.failed == 0)
      std::printf("test skipped: %s\n", skipped.c_str());
  }
};

CATCH_REGISTER_LISTENER(SkipListener)

}  // namespace

void skip(const std::string& reason) {
  skipped = reason;
  SUCCEED(reason);  // a test without any assertion is taken for a broken one
}

}  // namespace sextant::test
