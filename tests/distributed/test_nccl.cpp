// SPDX-License-Identifier: Apache-2.0
// What is asked of NCCL: calls, counts, types and streams, in order, by a fake that notes them.
#ifdef SEXTANT_NCCL
#include <nccl.h>

#include <cstring>
#include <mutex>

#include "core/distributed/nccl.h"
#include "support/support.h"
#include "support/thread_processes.h"

namespace {

using namespace sextant;

struct Call {
  std::string what;
  int rank = 0;
  size_t count = 0;
  ncclDataType_t type = ncclInt8;
  const void* stream = nullptr;
  int id = 0;
  bool in_place = true;
  bool operator==(const Call&) const = default;
};
std::mutex calls_mutex;
std::vector<Call> calls;
int ids = 0;
ncclResult_t answer = ncclSuccess;

void note(const Call& call) {
  const std::lock_guard lock(calls_mutex);
  calls.push_back(call);
}
std::vector<Call> calls_of(int rank) {
  std::vector<Call> out;
  for (const Call& c : calls)
    if (c.rank == rank) out.push_back(c);
  return out;
}

// An ncclComm_t of the fake.
struct FakeComm {
  int rank, id;
};
FakeComm* fake(ncclComm_t comm) { return reinterpret_cast<FakeComm*>(comm); }

}  // namespace

extern "C" {
const char* ncclGetErrorString(ncclResult_t) { return "a fault of the fake"; }
ncclResult_t ncclGetUniqueId(ncclUniqueId* id) {
  const int number = ++ids;
  std::memcpy(id, &number, sizeof(number));
  return ncclSuccess;
}
ncclResult_t ncclCommInitRank(ncclComm_t* comm, int size, ncclUniqueId id, int rank) {
  int number = 0;
  std::memcpy(&number, &id, sizeof(number));
  *comm = reinterpret_cast<ncclComm_t>(new FakeComm{rank, number});
  note({"join", rank, static_cast<size_t>(size), ncclInt8, nullptr, number});
  return ncclSuccess;
}
ncclResult_t ncclCommDestroy(ncclComm_t comm) {
  note({"leave", fake(comm)->rank, 0, ncclInt8, nullptr, fake(comm)->id});
  delete fake(comm);
  return ncclSuccess;
}
ncclResult_t ncclAllReduce(const void* from, void* to, size_t count, ncclDataType_t type,
                           ncclRedOp_t op, ncclComm_t comm, cudaStream_t stream) {
  note({op == ncclSum ? "sum" : "?", fake(comm)->rank, count, type, stream, fake(comm)->id,
        from == to});
  return answer;
}
ncclResult_t ncclBroadcast(const void* from, void* to, size_t count, ncclDataType_t type, int root,
                           ncclComm_t comm, cudaStream_t stream) {
  note({root == 0 ? "broadcast" : "?", fake(comm)->rank, count, type, stream, fake(comm)->id,
        from == to});
  return answer;
}
}

TEST_CASE("NCCL: joined once, then sums and broadcasts on the stream of the work") {
  calls.clear();
  const int first = ids + 1;
  int stream = 0, side = 0;
  test::ThreadGroup group(2);
  test::on_processes(2, [&](Communicator& all) {
    const auto nccl =
        distributed::with_nccl(std::make_unique<test::ThreadCommunicator>(group, all.rank()));
    check(nccl->rank() == all.rank() && nccl->size() == 2, "rank {} of {}", nccl->rank(),
          nccl->size());
    char memory[64];  // as if on the device: the fake reads none
    double host = 1 + all.rank();
    {
      const StreamScope scope({&stream});
      nccl->broadcast(memory, 9, Device::kCuda);
      nccl->sum(memory, 5, DType::kF32, Device::kCuda);
      nccl->sum(&host, 1, DType::kF64, Device::kCpu);  // not by NCCL
      nccl->sum(memory, 3, DType::kF64, Device::kCuda);
    }
    check(host == 3, "the sum in host memory is {}", host);
    const StreamScope scope({&side});
    nccl->second()->sum(memory, 7, DType::kF16, Device::kCuda);
    check(nccl->gather(std::to_string(all.rank())) == std::vector<std::string>{"0", "1"}, "gather");
    check(test::error_of([&] {
            nccl->sum(memory, 1, DType::kI64, Device::kCuda);
          }).find("NCCL: cannot add") != std::string::npos,
          "a sum of integers");
  });
  for (int rank = 0; rank < 2; ++rank) {
    const std::vector<Call> expected = {{"join", rank, 2, ncclInt8, nullptr, first},
                                        {"broadcast", rank, 9, ncclUint8, &stream, first},
                                        {"sum", rank, 5, ncclFloat32, &stream, first},
                                        {"sum", rank, 3, ncclFloat64, &stream, first},
                                        {"join", rank, 2, ncclInt8, nullptr, first + 1},
                                        {"sum", rank, 7, ncclFloat16, &side, first + 1},
                                        {"leave", rank, 0, ncclInt8, nullptr, first + 1},
                                        {"leave", rank, 0, ncclInt8, nullptr, first}};
    CHECK(calls_of(rank) == expected);
  }
}

TEST_CASE("NCCL: a fault is an error that says what was asked") {
  std::vector<std::string> errors(2);
  answer = ncclUnhandledCudaError;
  test::ThreadGroup group(2);
  test::on_processes(2, [&](Communicator& all) {
    const auto nccl =
        distributed::with_nccl(std::make_unique<test::ThreadCommunicator>(group, all.rank()));
    float x = 0;
    errors[static_cast<size_t>(all.rank())] =
        test::error_of([&] { nccl->sum(&x, 1, DType::kF32, Device::kCuda); });
  });
  answer = ncclSuccess;
  CHECK(errors == std::vector<std::string>(2, "NCCL: sum: a fault of the fake"));
}

TEST_CASE("each process of a machine has a device of its own") {
  const auto chosen = [](const char* given, int rank) {
    if (given != nullptr)
      ::setenv("CUDA_VISIBLE_DEVICES", given, 1);
    else
      ::unsetenv("CUDA_VISIBLE_DEVICES");
    distributed::choose_local_device(rank);
    const std::string out = ::getenv("CUDA_VISIBLE_DEVICES");
    ::unsetenv("CUDA_VISIBLE_DEVICES");
    return out;
  };
  CHECK(chosen(nullptr, 0) == "0");
  CHECK(chosen(nullptr, 3) == "3");
  CHECK(chosen("4,6,7", 1) == "6");
  CHECK(chosen("5", 1) == "5");  // a launcher that gives each its own
}
#endif
