// SPDX-License-Identifier: Apache-2.0
// The processes that an MPI launcher has started.
#pragma once

#include <memory>

#include "core/communicator.h"

namespace sextant::distributed {

// How many processes an MPI launcher says there are; 1 where none has started this one.
int processes_of_launcher();

// Joins them, for the rest of the program. Throws Error in a build without MPI, and when the MPI of
// the launcher is another one than ours. Sums in host memory only.
std::unique_ptr<Communicator> join_mpi();
// When all is done; every process calls it.
void leave_mpi();

}  // namespace sextant::distributed
