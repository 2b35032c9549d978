// SPDX-License-Identifier: Apache-2.0
#include "core/distributed/session.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <new>
#include <thread>

#include "core/distributed/mpi.h"
#include "core/distributed/nccl.h"
#include "core/distributed/watch.h"
#include "core/error.h"
#include "core/interrupt.h"
#include "core/parallel.h"
#include "core/progress.h"

namespace sextant::distributed {
namespace {

constexpr auto kFirstSpeaks = std::chrono::seconds(2);

void check_versions(Communicator& all, const std::string& version) {
  const std::vector<std::string> versions = all.gather(version);
  for (size_t rank = 1; rank < versions.size(); ++rank)
    check(versions[rank] == versions[0], "process {} is {}, process 0 is {}", rank, versions[rank],
          versions[0]);
}

// A launcher may have bound each process to processors of its own; otherwise those of a machine
// share its processors. Each has a device of its own.
void share_machine(Communicator& all) {
  char name[256] = {};
  ::gethostname(name, sizeof(name) - 1);
  const std::vector<std::string> hosts = all.gather(name);
  choose_local_device(
      static_cast<int>(std::count(hosts.begin(), hosts.begin() + all.rank(), std::string(name))));
  const auto here = static_cast<int>(std::ranges::count(hosts, std::string(name)));
  const auto processors = static_cast<int>(::sysconf(_SC_NPROCESSORS_ONLN));
  if (std::getenv("OMP_NUM_THREADS") == nullptr && num_threads() >= processors)
    set_num_threads(std::max(1, processors / here));
}

void silence_stdout() {
  std::fflush(stdout);
  const int nowhere = ::open("/dev/null", O_WRONLY | O_CLOEXEC);
  if (nowhere < 0) return;
  ::dup2(nowhere, STDOUT_FILENO);
  ::close(nowhere);
}

// Throws what is being handled, from a process that is not the first with its name.
[[noreturn]] void rethrow_named(const std::string& name) {
  try {
    throw;
  } catch (const Interrupted& e) {
    throw Interrupted(e.signal(), name + e.what());
  } catch (const std::bad_alloc&) {
    throw Error(name + "out of memory");
  } catch (const std::exception& e) {
    throw Error(name + e.what());
  }
}

}  // namespace

void run_with_others(const std::string& program, const std::string& version,
                     const std::function<void()>& work) {
  if (processes_of_launcher() == 1) {
    const char* size = std::getenv("WORLD_SIZE");
    check(std::getenv("RANK") == nullptr || size == nullptr || std::atoi(size) <= 1,
          "RANK and WORLD_SIZE say that this is one of {} processes, which an MPI launcher has to "
          "start (mpirun); without them it trains alone",
          size != nullptr ? size : "");
    return work();
  }
  const std::unique_ptr<Communicator> all = with_nccl(join_mpi());
  if (all->rank() > 0) silence_stdout();
  const ProcessesScope scope(all.get());
  const auto watch = std::make_shared<Watch>(*all, program);
  set_notice_sink([watch](const std::string& text) { watch->notice(text); });
  try {
    check_versions(*all, version);
    share_machine(*all);
    work();
    all->gather("");  // nobody leaves before all have done
  } catch (...) {
    if (all->rank() > 0) std::this_thread::sleep_for(kFirstSpeaks);
    watch->fail();
    if (all->rank() == 0) throw;
    rethrow_named(fmt::format("process {} on {}: ", all->rank(), watch->host()));
  }
  watch->farewell();
  set_notice_sink({});
  leave_mpi();
}

}  // namespace sextant::distributed
