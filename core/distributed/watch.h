// SPDX-License-Identifier: Apache-2.0
// Whether the other processes are alive, over TCP connections to process 0 that a thread of each
// process serves, whatever its other threads wait for. A process that has ended, or whose machine
// or process has stopped, would leave the others waiting in a sum for ever.
//
// Each end sends a beat every two seconds. Where a connection ends without a farewell, or no beat
// has come for SEXTANT_WATCH_SECONDS (30), one line on stderr names the process and its host, and
// this process ends with exit code 1, which its launcher or the other watches notice in turn.
//
// Notices (core/progress.h) of all processes go to process 0, which prints each once.
#pragma once

#include <memory>
#include <string>

#include "core/communicator.h"

namespace sextant::distributed {

class Watch {
 public:
  // Every process calls it. `program` starts the lines. Where process 0 cannot be reached, a line
  // says that nothing is watched.
  Watch(Communicator& all, const std::string& program);
  // Ends the watch without a farewell: what happens to the process then is noticed.
  ~Watch();
  Watch(const Watch&) = delete;
  Watch& operator=(const Watch&) = delete;

  void notice(const std::string& text);
  // The work is done: all connections may end. Every process calls it, after the last sum.
  void farewell();
  // This process ends by an error that it tells itself: when it has ended, the others do so without
  // a line.
  void fail();
  const std::string& host() const;  // this process's

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace sextant::distributed
