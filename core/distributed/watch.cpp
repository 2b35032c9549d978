// SPDX-License-Identifier: Apache-2.0
#include "core/distributed/watch.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <iterator>
#include <mutex>
#include <random>
#include <set>
#include <sstream>
#include <thread>

#include "core/error.h"
#include "core/progress.h"
#include "core/text.h"

namespace sextant::distributed {
namespace {

using Clock = std::chrono::steady_clock;
using Seconds = std::chrono::duration<double>;
constexpr double kBeat = 2;
constexpr int kConnectMs = 3000;

// First byte of a message, which a newline ends; kNotice has a text between them.
constexpr char kBeatMessage = 'b', kNotice = 'n', kFarewell = 'q', kFailure = 'f';

double deadline() {
  const char* text = std::getenv("SEXTANT_WATCH_SECONDS");
  const double seconds = text != nullptr ? std::atof(text) : 0;
  return seconds > 0 ? seconds : 30;
}

std::string host_name() {
  char name[256] = {};
  return ::gethostname(name, sizeof(name) - 1) == 0 ? name : "?";
}

// Of this machine's interfaces, the loopback last.
std::vector<std::string> addresses() {
  std::vector<std::string> found, loopback;
  ifaddrs* list = nullptr;
  if (::getifaddrs(&list) != 0) return {"127.0.0.1"};
  for (const ifaddrs* i = list; i != nullptr; i = i->ifa_next) {
    if (i->ifa_addr == nullptr || i->ifa_addr->sa_family != AF_INET || !(i->ifa_flags & IFF_UP))
      continue;
    char text[INET_ADDRSTRLEN] = {};
    const auto* in = reinterpret_cast<const sockaddr_in*>(i->ifa_addr);
    ::inet_ntop(AF_INET, &in->sin_addr, text, sizeof(text));
    (i->ifa_flags & IFF_LOOPBACK ? loopback : found).emplace_back(text);
  }
  ::freeifaddrs(list);
  found.insert(found.end(), loopback.begin(), loopback.end());
  return found;
}

std::vector<std::string> words_of(const std::string& text) {
  std::istringstream in(text);
  return {std::istream_iterator<std::string>(in), {}};
}

void set_options(int fd) {
  const int on = 1;
  ::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
  ::fcntl(fd, F_SETFD, FD_CLOEXEC);
}

// Sends all or nothing is left to send to; never blocks for long, as the messages are short.
void send_text(int fd, const std::string& text) {
  size_t at = 0;
  while (at < text.size()) {
    const ssize_t n = ::send(fd, text.data() + at, text.size() - at, MSG_NOSIGNAL);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return;
    at += static_cast<size_t>(n);
  }
}

// Waits up to `ms` for a line.
std::string receive_line(int fd, int ms) {
  std::string line;
  const auto end = Clock::now() + std::chrono::milliseconds(ms);
  while (line.size() < 256) {
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(end - Clock::now());
    pollfd p{fd, POLLIN, 0};
    char c = 0;
    if (left.count() <= 0 || ::poll(&p, 1, static_cast<int>(left.count())) <= 0) return "";
    if (::recv(fd, &c, 1, 0) != 1) return "";
    if (c == '\n') return line;
    line += c;
  }
  return "";
}

int connect_to(const std::string& address, int port) {
  const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
  if (fd < 0) return -1;
  sockaddr_in to{};
  to.sin_family = AF_INET;
  to.sin_port = htons(static_cast<uint16_t>(port));
  ::inet_pton(AF_INET, address.c_str(), &to.sin_addr);
  int error = 0;
  socklen_t size = sizeof(error);
  if (::connect(fd, reinterpret_cast<const sockaddr*>(&to), sizeof(to)) != 0) {
    pollfd p{fd, POLLOUT, 0};
    if (errno != EINPROGRESS || ::poll(&p, 1, kConnectMs) <= 0 ||
        ::getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size) != 0 || error != 0) {
      ::close(fd);
      return -1;
    }
  }
  ::fcntl(fd, F_SETFL, ::fcntl(fd, F_GETFL) & ~O_NONBLOCK);
  set_options(fd);
  return fd;
}

}  // namespace

struct Watch::State {
  struct Peer {
    int rank = 0;
    int fd = -1;
    std::string unread = {};
    Clock::time_point heard = Clock::now();
    bool gone = false;  // after a farewell
    bool told = false;  // that it ends by an error
  };

  State(Communicator& all, std::string name);
  ~State();
  void accept_all(int listener, uint64_t token, int count);
  void serve();
  void beat();
  void read(Peer& peer);
  void handle(Peer& peer, const std::string& line);
  void print_once(const std::string& text);
  void send_all(const std::string& text);
  [[noreturn]] void end(const Peer& peer, const std::string& what);

  const std::string program;
  const int rank;
  const double patience;
  std::vector<std::string> hosts;  // by rank, with the process's number
  std::vector<Peer> peers;         // of process 0 all others, of the others process 0
  std::mutex mutex;                // of sending and printing
  std::set<std::string> printed;
  std::atomic<bool> done{false}, ended{false};
  int wake[2] = {-1, -1};
  std::thread thread;
};

Watch::State::State(Communicator& all, std::string name)
    : program(std::move(name)), rank(all.rank()), patience(deadline()) {
  hosts = all.gather(host_name() + " (process number " + std::to_string(::getpid()) + ")");
  // Process 0 listens where the system likes.
  int listener = -1, port = 0;
  uint64_t token = 0;
  if (rank == 0) {
    std::random_device random;
    token = uint64_t{random()} << 32 | random();
    listener = ::socket(AF_INET, SOCK_STREAM, 0);
    sockaddr_in at{};
    at.sin_family = AF_INET;
    socklen_t size = sizeof(at);
    if (listener >= 0 && ::bind(listener, reinterpret_cast<sockaddr*>(&at), sizeof(at)) == 0 &&
        ::listen(listener, all.size()) == 0 &&
        ::getsockname(listener, reinterpret_cast<sockaddr*>(&at), &size) == 0)
      port = ntohs(at.sin_port);
  }
  std::string where = std::to_string(port) + " " + std::to_string(token);
  for (const std::string& a : addresses()) where += " " + a;
  where = all.gather(where)[0];
  if (rank == 0) {
    accept_all(listener, token, all.size() - 1);
    if (listener >= 0) ::close(listener);
  } else {
    const std::vector<std::string> words = words_of(where);
    for (size_t i = 2; i < words.size() && peers.empty(); ++i) {
      const int fd = connect_to(words[i], std::atoi(words[0].c_str()));
      if (fd < 0) continue;
      send_text(fd, "sextant " + words[1] + " " + std::to_string(rank) + "\n");
      if (receive_line(fd, kConnectMs) == "sextant")
        peers.push_back({.rank = 0, .fd = fd});
      else
        ::close(fd);
    }
  }
  // Process 0 has to know who has given up.
  const std::string reached = peers.empty() && rank != 0 ? "0" : "1";
  size_t lost = 0;
  for (const std::string& r : all.gather(reached)) lost += r == "0";
  if (lost > 0 && rank == 0)
    fmt::print(stderr,
               "{} of the processes cannot reach process 0 by TCP: nobody notices when they stop\n",
               lost);
  if (::pipe2(wake, O_CLOEXEC) != 0) return;
  for (Peer& p : peers) p.heard = Clock::now();
  thread = std::thread([this] { serve(); });
}

Watch::State::~State() {
  ended = true;
  if (wake[1] >= 0) [[maybe_unused]]
    const ssize_t n = ::write(wake[1], "x", 1);
  if (thread.joinable()) thread.join();
  for (const Peer& p : peers)
    if (p.fd >= 0) ::close(p.fd);
  for (const int fd : wake)
    if (fd >= 0) ::close(fd);
}

// Those that cannot connect give up after kConnectMs for each address.
void Watch::State::accept_all(int listener, uint64_t token, int count) {
  const auto end = Clock::now() + std::chrono::seconds(15);
  while (static_cast<int>(peers.size()) < count && listener >= 0 && Clock::now() < end) {
    pollfd p{listener, POLLIN, 0};
    if (::poll(&p, 1, 1000) <= 0) continue;
    const int fd = ::accept(listener, nullptr, nullptr);
    if (fd < 0) continue;
    set_options(fd);
    const std::vector<std::string> words = words_of(receive_line(fd, kConnectMs));
    if (words.size() == 3 && words[0] == "sextant" && words[1] == std::to_string(token)) {
      send_text(fd, "sextant\n");
      peers.push_back({.rank = std::atoi(words[2].c_str()), .fd = fd});
    } else {
      ::close(fd);  // a stranger
    }
  }
}

void Watch::State::serve() {
  auto last = Clock::now(), next_beat = last;
  while (!ended) {
    std::vector<pollfd> polls{{wake[0], POLLIN, 0}};
    for (const Peer& p : peers) polls.push_back({p.gone ? -1 : p.fd, POLLIN, 0});
    ::poll(polls.data(), polls.size(), 500);
    if (ended) return;
    const auto now = Clock::now();
    // Who was stopped itself has heard nobody, and is no judge.
    if (Seconds(now - last).count() > patience / 2)
      for (Peer& p : peers) p.heard = now;
    last = now;
    for (size_t i = 0; i < peers.size(); ++i)
      if (polls[i + 1].revents != 0) read(peers[i]);
    if (now >= next_beat) {
      send_all(std::string{kBeatMessage, '\n'});
      next_beat = now + std::chrono::milliseconds(static_cast<int>(kBeat * 1000));
    }
    // One after the other, so that one process speaks.
    for (const Peer& p : peers)
      if (!p.gone && Seconds(now - p.heard).count() > patience + rank)
        end(p, fmt::format("has not answered for {:.0f} s", Seconds(now - p.heard).count()));
  }
}

void Watch::State::read(Peer& peer) {
  char bytes[4096];
  const ssize_t n = ::recv(peer.fd, bytes, sizeof(bytes), MSG_DONTWAIT);
  if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
  if (n <= 0) {
    if (peer.told) {
      if (rank == 0) send_all(std::string{kFailure, '\n'});
      ::_exit(2);
    }
    if (!done) end(peer, "has ended without a word (killed, or out of memory)");
    peer.gone = true;
    return;
  }
  peer.heard = Clock::now();
  peer.unread.append(bytes, static_cast<size_t>(n));
  for (size_t end; (end = peer.unread.find('\n')) != std::string::npos;) {
    const std::string line = peer.unread.substr(0, end);
    peer.unread.erase(0, end + 1);
    if (!line.empty()) handle(peer, line);
  }
}

void Watch::State::handle(Peer& peer, const std::string& line) {
  switch (line[0]) {
    case kNotice:
      print_once(line.substr(1));
      break;
    case kFarewell:
      peer.gone = true;
      break;
    case kFailure:
      peer.told = true;
      break;
    default:
      break;
  }
}

void Watch::State::send_all(const std::string& text) {
  const std::lock_guard lock(mutex);
  for (const Peer& p : peers)
    if (!p.gone) send_text(p.fd, text);
}

void Watch::State::print_once(const std::string& text) {
  const std::lock_guard lock(mutex);
  if (!printed.insert(text).second) return;
  fmt::print(stderr, "{}{}\n", ::isatty(STDERR_FILENO) != 0 ? "\r\x1b[K" : "", printable(text));
  std::fflush(stderr);
}

void Watch::State::end(const Peer& peer, const std::string& what) {
  fmt::print(stderr, "{}: process {} on {} {}; the run ends, --resume continues it\n", program,
             peer.rank, hosts[static_cast<size_t>(peer.rank)], what);
  std::fflush(stderr);
  // The others, which may wait for the lost one in a sum, end without a line.
  if (rank == 0) send_all(std::string{kFailure, '\n'});
  ::_exit(1);
}

Watch::Watch(Communicator& all, const std::string& program)
    : state_(std::make_unique<State>(all, program)) {}
Watch::~Watch() = default;

void Watch::notice(const std::string& text) {
  State& s = *state_;
  if (s.rank == 0 || s.peers.empty()) return s.print_once(text);
  std::string line = text;
  for (char& c : line)
    if (c == '\n') c = ' ';
  s.send_all(kNotice + line + "\n");
}
void Watch::farewell() {
  state_->done = true;
  state_->send_all(std::string{kFarewell, '\n'});
}
void Watch::fail() {
  state_->done = true;
  state_->send_all(std::string{kFailure, '\n'});
}
const std::string& Watch::host() const { return state_->hosts[static_cast<size_t>(state_->rank)]; }

}  // namespace sextant::distributed
