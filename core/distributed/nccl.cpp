// SPDX-License-Identifier: Apache-2.0
#include "core/distributed/nccl.h"

#include <algorithm>
#include <cstdlib>
#include <iterator>
#include <sstream>

#include "core/error.h"
#ifdef SEXTANT_NCCL
#include <nccl.h>
#endif

namespace sextant::distributed {

void choose_local_device(int rank_on_host) {
  const char* given = std::getenv("CUDA_VISIBLE_DEVICES");
  std::vector<std::string> devices;
  std::istringstream list(given != nullptr ? given : "");
  for (std::string device; std::getline(list, device, ',');) devices.push_back(device);
  if (given == nullptr)
    ::setenv("CUDA_VISIBLE_DEVICES", std::to_string(rank_on_host).c_str(), 1);
  else if (rank_on_host < std::ssize(devices) && devices.size() > 1)
    ::setenv("CUDA_VISIBLE_DEVICES", devices[static_cast<size_t>(rank_on_host)].c_str(), 1);
}

#ifdef SEXTANT_NCCL
namespace {

void check_nccl(ncclResult_t result, const char* what) {
  check(result == ncclSuccess, "NCCL: {}: {}", what, ncclGetErrorString(result));
}

ncclDataType_t nccl_type(DType dtype) {
  switch (dtype) {
    case DType::kF16:
      return ncclFloat16;
    case DType::kF32:
      return ncclFloat32;
    case DType::kF64:
      return ncclFloat64;
    default:
      fail("NCCL: cannot add {}", name_of(dtype));
  }
}

class NcclCommunicator final : public Communicator {
 public:
  explicit NcclCommunicator(Communicator& host) : host_(host) {}
  explicit NcclCommunicator(std::unique_ptr<Communicator> host)
      : owned_(std::move(host)), host_(*owned_) {}
  ~NcclCommunicator() override {
    second_.reset();
    if (comm_ != nullptr) ncclCommDestroy(comm_);
  }

  int rank() const override { return host_.rank(); }
  int size() const override { return host_.size(); }

  void sum(void* values, int64_t n, DType dtype, Device device) override {
    if (device == Device::kCpu) return host_.sum(values, n, dtype, device);
    check_nccl(ncclAllReduce(values, values, static_cast<size_t>(n), nccl_type(dtype), ncclSum,
                             comm(), static_cast<cudaStream_t>(compute_stream().handle)),
               "sum");
  }
  void broadcast(void* bytes, int64_t n, Device device) override {
    if (device == Device::kCpu) return host_.broadcast(bytes, n, device);
    check_nccl(ncclBroadcast(bytes, bytes, static_cast<size_t>(n), ncclUint8, 0, comm(),
                             static_cast<cudaStream_t>(compute_stream().handle)),
               "broadcast");
  }
  std::vector<std::string> gather(const std::string& bytes) override { return host_.gather(bytes); }
  Communicator* second() override {
    if (!second_) second_ = std::make_unique<NcclCommunicator>(host_);
    return second_.get();
  }

 private:
  ncclComm_t comm() {
    if (comm_ != nullptr) return comm_;
    ncclUniqueId id{};
    if (rank() == 0) check_nccl(ncclGetUniqueId(&id), "start");
    host_.broadcast(&id, sizeof(id), Device::kCpu);
    check_nccl(ncclCommInitRank(&comm_, size(), id, rank()), "join");
    return comm_;
  }

  std::unique_ptr<Communicator> owned_;
  Communicator& host_;
  ncclComm_t comm_ = nullptr;
  std::unique_ptr<NcclCommunicator> second_;
};

}  // namespace

std::unique_ptr<Communicator> with_nccl(std::unique_ptr<Communicator> host) {
  return std::make_unique<NcclCommunicator>(std::move(host));
}
#else
std::unique_ptr<Communicator> with_nccl(std::unique_ptr<Communicator> host) { return host; }
#endif

}  // namespace sextant::distributed
