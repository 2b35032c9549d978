// SPDX-License-Identifier: Apache-2.0
// `sextant train` as an MPI launcher starts it: the same run on any number of processes, each message
// once, and an end within seconds when a process is lost.
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <set>
#include <sstream>
#include <thread>

#include "core/file.h"
#include "core/process.h"
#include "core/safetensors.h"
#include "support/same_tensors.h"
#include "support/support.h"

namespace {

using namespace sextant;
using test::Contains;

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;

struct Outcome {
  int code = 0;
  std::string text;  // stdout and stderr
};

// As /bin/sh runs it.
Outcome run(const std::string& command) {
  Outcome out;
  FILE* pipe = ::popen(("exec 2>&1; " + command).c_str(), "r");
  REQUIRE(pipe != nullptr);
  char buffer[4096];
  while (const size_t n = std::fread(buffer, 1, sizeof(buffer), pipe)) out.text.append(buffer, n);
  const int status = ::pclose(pipe);
  out.code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  return out;
}

int64_t count(const std::string& text, const std::string& part) {
  int64_t n = 0;
  for (size_t at = 0; (at = text.find(part, at)) != std::string::npos; at += part.size()) ++n;
  return n;
}

struct Job {
  test::TemporaryFolder folder;
  const std::string sextant = std::string(SEXTANT_BINARY_DIR) + "/sextant";

  // False where it cannot be run here; the test is skipped then.
  bool ready(int epochs = 2) {
    if (!has_program("mpirun")) return test::skip("no mpirun"), false;
    ::setenv("OMPI_ALLOW_RUN_AS_ROOT", "1", 1);
    ::setenv("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1", 1);
    ::setenv("ASAN_OPTIONS", "detect_leaks=0", 1);  // MPI's own
    ::setenv("OMP_NUM_THREADS", "1", 1);
    if (run(launcher(2) + "true").code != 0)
      return test::skip("mpirun does not start processes here"), false;
    const Outcome made = run(sextant + " shapes --out " + path("set") +
                             " --train 14 --val 5 --width 96 --height 64");
    REQUIRE(made.code == 0);
    std::ofstream(folder / "config.json")
        << R"({"epochs": )" << epochs << R"(, "batch": 4, "image_size": 64, "eval_interval": 1,
               "device": "cpu", "data": {"path": "set"},
               "model": {"width_multiple": 0.05, "depth_multiple": 0.1},
               "solver": {"warmup_epochs": 1, "nominal_batch": 8}})";
    if (run(mpi(2) + "--set epochs=1 --out " + path("probe")).text.find("built without MPI") ==
        std::string::npos)
      return true;
    return test::skip("built without MPI"), false;
  }
  std::string path(const std::string& name) const { return (folder / name).string(); }
  std::string command() const { return sextant + " train " + path("config.json") + " "; }
  static std::string launcher(int processes) {
    return "timeout -k 5 300 mpirun --oversubscribe --bind-to none -np " +
           std::to_string(processes) + " ";
  }
  std::string mpi(int processes) const { return launcher(processes) + command(); }
  // The numbers of the processes that train into a folder, in the order in which they were started.
  std::vector<pid_t> processes_of(const std::string& out) const {
    std::vector<pid_t> pids;
    for (const auto& process : fs::directory_iterator("/proc")) {
      const std::string number = process.path().filename().string();
      if (number.find_first_not_of("0123456789") != std::string::npos) continue;
      std::ifstream in(process.path() / "cmdline", std::ios::binary);
      const std::string words{std::istreambuf_iterator<char>(in), {}};
      if (words.starts_with(sextant + std::string(1, '\0') + "train") &&
          words.ends_with(out + std::string(1, '\0')))
        pids.push_back(std::stoi(number));
    }
    std::ranges::sort(pids);
    return pids;
  }
};

double difference(const fs::path& a, const fs::path& b) {
  const SafeTensors x = load_safetensors(a), y = load_safetensors(b);
  double most = 0, largest = 0;
  for (const auto& [name, t] : x.tensors) {
    if (t.dtype() != DType::kF32) continue;
    most = std::max(most, test::max_difference(t, y.at(name)));
    for (const float v : t.span<float>()) largest = std::max(largest, std::abs(double{v}));
  }
  return most / largest;
}

// results.csv without what a clock has measured.
std::string rows_of(const fs::path& folder) {
  const std::set<std::string> clocked{"time", "seconds", "images_per_second"};
  std::istringstream in(read_text(folder / "results.csv"));
  std::vector<std::string> names;
  std::string out;
  for (std::string line; std::getline(in, line); out += "\n") {
    std::istringstream cells(line);
    size_t column = 0;
    for (std::string cell; std::getline(cells, cell, ','); ++column) {
      if (column == names.size()) names.push_back(cell);  // the first line
      if (!clocked.contains(names[column])) out += cell + ",";
    }
  }
  return out;
}

// The largest difference of two numbers in the same place, relative where they are above 1; infinite
// where the texts differ in anything else.
double row_difference(const std::string& a, const std::string& b) {
  std::istringstream x(a), y(b);
  double most = 0;
  for (std::string p, q; std::getline(x, p, ',');) {
    if (!std::getline(y, q, ',')) return INFINITY;
    char *p_end = nullptr, *q_end = nullptr;
    const double v = std::strtod(p.c_str(), &p_end), w = std::strtod(q.c_str(), &q_end);
    if (*p_end != 0 || *q_end != 0) {
      if (p != q) return INFINITY;
    } else {
      most = std::max(most, std::abs(v - w) / std::max(1.0, std::abs(v)));
    }
  }
  return y.peek() == EOF ? most : INFINITY;
}

}  // namespace

TEST_CASE("mpirun: 1 to 4 processes") {
  Job job;
  if (!job.ready()) return;
  REQUIRE(run(job.command() + "--out " + job.path("one")).code == 0);
  for (const int n : {1, 2, 3, 4}) {
    INFO(n << " processes");
    const std::string name = "np" + std::to_string(n);
    const Outcome whole = run(job.mpi(n) + "--out " + job.path(name));
    INFO(whole.text);
    REQUIRE(whole.code == 0);
    CHECK(count(whole.text, "epoch   2/2") == 1);
    CHECK(count(whole.text, "train and") == 1);
    CHECK(difference(job.path("one") + "/last.safetensors", job.path(name) + "/last.safetensors") <
          1e-5);
    CHECK(row_difference(rows_of(job.path("one")), rows_of(job.path(name))) < 1e-3);
  }
  // Again on as many processes, to the bit.
  REQUIRE(run(job.mpi(3) + "--out " + job.path("again")).code == 0);
  test::check_same_tensors(job.path("np3") + "/last.safetensors",
                           job.path("again") + "/last.safetensors");
}

TEST_CASE("mpirun: a shared evaluation has the figures of one process", "[numbers]") {
  Job job;
  if (!job.ready(80)) return;
  const std::string wide =
      "--set image_size=96 --set model.width_multiple=0.125 --set solver.lr0=0.05 ";
  REQUIRE(run(job.command() + wide + "--set eval_interval=80 --set close_mosaic=40 --out " +
              job.path("base"))
              .code == 0);
  // Nothing moves the weights, so that only the evaluation is compared.
  const std::string still = wide +
                            "--set epochs=1 --set solver.lr0=0 --set solver.warmup_bias_lr=0 --set "
                            "eval_conf=0.001 --set init=" +
                            job.path("base") + "/last.safetensors --out ";
  REQUIRE(run(job.command() + still + job.path("one")).code == 0);
  const std::string one = rows_of(job.path("one"));
  INFO(one);
  CHECK(one.find(",0.00000,0.00000") == std::string::npos);  // it finds something
  for (const int n : {2, 3, 4}) {
    const std::string name = job.path("np" + std::to_string(n));
    REQUIRE(run(job.mpi(n) + still + name).code == 0);
    CHECK(rows_of(name) == one);
  }
}

TEST_CASE("mpirun: mistakes and notices are said once") {
  Job job;
  if (!job.ready()) return;
  const Outcome key = run(job.mpi(3) + "--set epoch=3 --out " + job.path("x"));
  CHECK(key.code == 2);
  CHECK(count(key.text, "'epoch'") == 1);

  const Outcome torchrun = run("RANK=1 WORLD_SIZE=2 " + job.command() + "--out " + job.path("x"));
  CHECK(torchrun.code == 2);
  CHECK_THAT(torchrun.text, Contains("one of 2 processes, which an MPI launcher has to start"));

  const Outcome used = run(job.mpi(2) + "--out " + job.path("probe"));
  CHECK(used.code == 2);
  CHECK(count(used.text, "already holds a run") == 1);

  // Half an image, which more than one process meets.
  fs::path image;
  for (const auto& file : fs::directory_iterator(fs::path(job.path("set")) / "images" / "train"))
    image = std::max(image, file.path());
  fs::resize_file(image, fs::file_size(image) / 2);
  const Outcome broken = run(job.mpi(3) + "--out " + job.path("broken"));
  INFO(broken.text);
  CHECK(broken.code == 0);
  CHECK(count(broken.text, image.filename().string()) == 1);
}

TEST_CASE("mpirun: a process that is killed or stopped ends the job with a line") {
  Job job;
  if (!job.ready(100000)) return;
  ::setenv("SEXTANT_WATCH_SECONDS", "4", 1);
  int turn = 0;
  for (const int signal : {SIGKILL, SIGSTOP})
    for (const size_t victim : {size_t{0}, size_t{2}}) {
      const std::string out = job.path("lost" + std::to_string(turn++));
      INFO("signal " << signal << " to process " << victim);
      Outcome outcome;
      std::thread thread([&] { outcome = run(job.mpi(3) + "--out " + out); });
      std::vector<pid_t> pids;
      const auto begun = Clock::now();
      while (!fs::exists(fs::path(out) / "last.safetensors") &&
             Clock::now() - begun < std::chrono::seconds(60))
        std::this_thread::sleep_for(std::chrono::milliseconds(50));
      pids = job.processes_of(out);
      const auto lost = Clock::now();
      if (pids.size() == 3) ::kill(pids[victim], signal);
      const bool found = pids.size() == 3;
      if (!found)
        for (const pid_t pid : pids) ::kill(pid, SIGKILL);
      thread.join();
      const double seconds = std::chrono::duration<double>(Clock::now() - lost).count();
      INFO(outcome.text);
      REQUIRE(found);
      CHECK(outcome.code != 0);
      CHECK(seconds < 30);
      CHECK_THAT(outcome.text, Contains("process"));
      char host[256] = {};
      ::gethostname(host, sizeof(host) - 1);
      CHECK_THAT(outcome.text, Contains(host));
      CHECK_THAT(outcome.text, Contains(std::to_string(victim)));
      CHECK(job.processes_of(out).empty());
    }
  ::unsetenv("SEXTANT_WATCH_SECONDS");
}
