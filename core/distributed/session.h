// SPDX-License-Identifier: Apache-2.0
// Work that several processes share: what a command does around its work.
#pragma once

#include <functional>
#include <string>

namespace sextant::distributed {

// Calls work(). Where a launcher has started this process as one of several, processes() are they
// meanwhile: process 0 prints, the others' stdout goes nowhere, notices are printed once, and a lost
// process ends all (core/distributed/watch.h). `version` has to be the same on all; threads
// and devices are shared out among the processes of a machine. What work() throws on process 0 is thrown on; on
// another it is thrown with the process's name, after a moment in which process 0 may have said the
// same. Throws Error where the processes cannot be joined.
void run_with_others(const std::string& program, const std::string& version,
                     const std::function<void()>& work);

}  // namespace sextant::distributed
