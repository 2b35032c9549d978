// SPDX-License-Identifier: Apache-2.0
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>

#include "core/file.h"
#include "core/interrupt.h"
#include "core/progress.h"
#include "support/support.h"

using namespace sextant;

namespace {

// How a child process ends that does `work` and then exits with code 0, and what it says on stderr.
struct Ending {
  int code = -1;
  std::string text;
};
Ending child(const std::function<void()>& work) {
  int ends[2] = {};
  REQUIRE(::pipe(ends) == 0);
  const pid_t pid = ::fork();
  REQUIRE(pid >= 0);
  if (pid == 0) {
    ::dup2(ends[1], STDERR_FILENO);
    catch_interrupts("program");
    try {
      work();
    } catch (const Interrupted& e) {
      ::_exit(e.exit_code() + 100);  // not taken for the end without an exception
    }
    ::_exit(0);
  }
  ::close(ends[1]);
  Ending ending;
  char buffer[256];
  for (ssize_t n = 0; (n = ::read(ends[0], buffer, sizeof buffer)) > 0;)
    ending.text.append(buffer, static_cast<size_t>(n));
  ::close(ends[0]);
  int status = 0;
  REQUIRE(::waitpid(pid, &status, 0) == pid);
  if (WIFEXITED(status)) ending.code = WEXITSTATUS(status);
  return ending;
}

}  // namespace

TEST_CASE("interrupt: without a scope the program ends at once, in one line") {
  for (const auto& [signal, code] : {std::pair{SIGINT, 130}, {SIGTERM, 143}}) {
    const Ending e = child([s = signal] {
      ::raise(s);
      ::_exit(9);
    });
    CHECK(e.code == code);
    CHECK(e.text == (signal == SIGINT ? "program: interrupted (SIGINT)\n"
                                      : "program: interrupted (SIGTERM)\n"));
  }
}

TEST_CASE("interrupt: a scope makes it wait for whoever asks") {
  const Ending asked = child([] {
    const InterruptScope scope;
    check_interrupt();  // nothing waits yet
    ::raise(SIGTERM);
    if (waiting_interrupt() != SIGTERM) ::_exit(9);
    Progress("work", 2).update(1);
    ::_exit(8);
  });
  CHECK(asked.code == 243);
  CHECK(asked.text.empty());

  const Ending not_asked = child([] {
    {
      const InterruptScope outer;
      {
        const InterruptScope inner;
        ::raise(SIGINT);
      }
      if (::write(STDERR_FILENO, "done\n", 5) != 5) ::_exit(9);
    }
    ::_exit(8);
  });
  CHECK(not_asked.code == 130);
  CHECK(not_asked.text == "done\nprogram: interrupted (SIGINT)\n");
}

TEST_CASE("interrupt: a second signal does not wait") {
  const Ending e = child([] {
    const InterruptScope scope;
    ::raise(SIGINT);
    ::raise(SIGTERM);
    ::_exit(9);
  });
  CHECK(e.code == 143);
}

TEST_CASE("interrupt: what the program was told to ignore stays ignored") {
  const Ending e = child([] {
    ::signal(SIGINT, SIG_IGN);
    catch_interrupts("program");
    ::raise(SIGINT);
  });
  CHECK(e.code == 0);
  CHECK(e.text.empty());
}

TEST_CASE("interrupt: an exception that leaves the outermost scope has answered it") {
  const Ending e = child([] {
    try {
      const InterruptScope scope;
      ::raise(SIGINT);
      check_interrupt();
    } catch (const Interrupted& i) {
      if (i.signal() != SIGINT || std::string(i.what()) != "interrupted (SIGINT)") ::_exit(9);
    }
    if (waiting_interrupt() != 0) ::_exit(8);
  });
  CHECK(e.code == 0);
}
